"""`holdfast pg restore`: a cluster back as files, told where to recover to."""

import os
import pwd
import shlex
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from holdfast.cli import key_source, selection
from holdfast.errors import EXIT_OK, BadRequest, NotFound
from holdfast.ids import GroupId

if TYPE_CHECKING:
    from holdfast.cli.console import Console
    from holdfast.datastore.keys import EncryptionKey
    from holdfast.datastore.store import Datastore
    from holdfast.ids import SnapshotId
    from holdfast.operations.pg_restore import PgRestored
    from holdfast.postgres.recovery import RecoverySettings, RecoveryTarget

_GROUP_PARTS: Final = 2


def add_base(parser: ArgumentParser) -> None:
    """Which base backup."""
    parser.add_argument(
        "snapshot", metavar="SNAPSHOT", help="host/CLUSTER (the newest that fits) or with /TIME"
    )


def add_target(parser: ArgumentParser) -> None:
    """Where recovery ends."""
    group = parser.add_argument_group("recovery")
    ends = group.add_mutually_exclusive_group()
    ends.add_argument("--target-time", metavar="TIME", help="before the first later commit")
    ends.add_argument("--target-lsn", metavar="LSN", help="after that record")
    ends.add_argument("--target-xid", metavar="XID", help="after that transaction")
    ends.add_argument("--target-name", metavar="NAME", help="at that restore point")
    ends.add_argument("--immediate", action="store_true", help="as soon as it is consistent")
    group.add_argument("--timeline", default="latest", metavar="latest|current|N")
    group.add_argument(
        "--restore-command", metavar="COMMAND", help="in place of `holdfast wal get`"
    )


def add_arguments(parser: ArgumentParser) -> None:
    """What, where to, how far."""
    add_base(parser)
    parser.add_argument("target", metavar="DIR", help="the data directory to be")
    parser.add_argument(
        "--tablespace",
        action="append",
        default=[],
        metavar="OID=DIR",
        help="another place for a tablespace",
    )
    add_target(parser)
    parser.add_argument(
        "--action",
        choices=("pause", "promote", "shutdown"),
        default="pause",
        help="of the server at the target (default: pause)",
    )
    parser.add_argument(
        "--no-recovery",
        action="store_true",
        help="no recovery.signal: the server only makes it consistent, on the same timeline",
    )
    parser.add_argument(
        "--archive-mode",
        choices=("off", "keep"),
        default="off",
        help="off keeps the restored server from archiving (default)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="the target is this cluster, stopped: write only what differs",
    )
    parser.add_argument(
        "--discard-wal", action="store_true", help="lose WAL of the target that is not archived"
    )
    parser.add_argument("--owner", metavar="USER", help="of everything that is written")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="look what would be written and removed"
    )


def run(args: Namespace, console: "Console") -> int:
    """Restore it."""
    from holdfast.operations.pg_restore import PgRestoreRequest, restore_cluster

    store = selection.open_to_read(args)
    key = key_source.load_key(args)
    target = recovery_target(args)
    snapshot = base_snapshot(store, args, target)
    recovery = None if args.no_recovery else recovery_of(store, snapshot, args, target)
    request = PgRestoreRequest(
        snapshot=snapshot,
        target=args.target,
        spaces=_spaces(args.tablespace),
        recovery=recovery,
        overwrite=args.overwrite,
        owner=owner_of(args.owner, store, snapshot, key),
        discard_wal=args.discard_wal,
        dry_run=args.dry_run,
        key=key,
    )
    restored = restore_cluster(store, request, console.progress())
    _show(restored, snapshot, args, console)
    return EXIT_OK


def _show(
    restored: "PgRestored", snapshot: "SnapshotId", args: Namespace, console: "Console"
) -> None:
    done = restored.laid_out
    if args.json:
        console.document(
            {
                "snapshot": str(snapshot),
                "target": restored.places.data,
                "tablespaces": {str(oid): path for oid, path in restored.places.spaces.items()},
                "files": done.files,
                "bytes": done.bytes,
                "written_files": done.written_files,
                "written_bytes": done.written_bytes,
                "removed": done.removed,
                "dry_run": args.dry_run,
                "duration_s": round(restored.duration_s, 3),
            }
        )
        return
    would = "would be " if args.dry_run else ""
    console.data(
        f"{snapshot}: {done.written_files} of {done.files} files {would}written"
        f" ({done.written_bytes} of {done.bytes} bytes), {done.removed} {would}removed"
    )
    if args.dry_run:
        return
    data = shlex.quote(restored.places.data)
    console.remark(f"start it with `pg_ctl -D {data} start` of PostgreSQL {restored.record.major}")
    if not args.no_recovery:
        console.remark(
            "watch pg_last_xact_replay_timestamp(); at a target with `pause`, look, then"
            " `SELECT pg_wal_replay_resume()`; take a full backup soon"
        )


def recovery_target(args: Namespace) -> "RecoveryTarget":
    """Where recovery ends, as the options say (BadRequest)."""
    from holdfast.postgres.recovery import RecoveryTarget

    if args.target_time:
        return RecoveryTarget.at_time(args.target_time)
    if args.target_lsn:
        return RecoveryTarget.at_lsn(args.target_lsn)
    if args.target_xid:
        return RecoveryTarget.at_xid(args.target_xid)
    if args.target_name:
        return RecoveryTarget.at_name(args.target_name)
    return RecoveryTarget.immediate() if args.immediate else RecoveryTarget()


def base_snapshot(
    store: "Datastore", args: Namespace, target: "RecoveryTarget | None" = None
) -> "SnapshotId":
    """The named snapshot, or the newest of a group that the target allows (NotFound, Refused)."""
    from holdfast.operations.pg_bases import base_for
    from holdfast.postgres.recovery import RecoverySettings

    if args.snapshot.count("/") + 1 != _GROUP_PARTS:
        return selection.snapshot(store, args, args.snapshot)
    group = GroupId.parse(args.snapshot, selection.namespace(args))
    return base_for(store, group, None if target is None else RecoverySettings(target=target))


def recovery_of(
    store: "Datastore",
    snapshot: "SnapshotId",
    args: Namespace,
    target: "RecoveryTarget",
    *,
    action: str | None = None,
) -> "RecoverySettings":
    """What the restored server has to be told (BadRequest)."""
    from holdfast.postgres.recovery import Action, RecoverySettings, check_timeline

    return RecoverySettings(
        restore_command=args.restore_command or _wal_get(store, snapshot, args),
        target=target,
        action=Action(action or args.action),
        timeline=check_timeline(args.timeline),
        archives=getattr(args, "archive_mode", "off") == "keep",
    )


def _wal_get(store: "Datastore", snapshot: "SnapshotId", args: Namespace) -> str:
    """The command that gets WAL from where the sync carried it."""
    from holdfast.operations.pg_bases import ended_s
    from holdfast.postgres.backup_record import UNPROTECTED_KEY
    from holdfast.postgres.recovery import NO_ARCHIVE
    from holdfast.postgres.wal_catalogue import WalCatalogue, wal_group

    group = wal_group(snapshot.group.id, snapshot.ns)
    stage = _stage_of(snapshot.group.id, args)
    if stage is None and not store.exists(group):
        return NO_ARCHIVE
    generations = WalCatalogue.load(store, group, key=key_source.load_key(args)).generations
    about = store.manifest(snapshot).unprotected.get(UNPROTECTED_KEY) or {}
    taken_s = ended_s(snapshot.time_s, about)
    fitting = [second for second in generations if second <= taken_s]
    words = [os.path.abspath(sys.executable), "-m", "holdfast", "--store", store.base]
    for option, value in (("--config", args.config), ("--keyfile", args.keyfile)):
        if value:
            words += [option, os.path.abspath(value)]
    if args.ns:
        words += ["--ns", args.ns]
    words += ["--read-only", "wal", "get", "--cluster", snapshot.group.id]
    if len(generations) > 1 and fitting:
        words += ["--generation", str(fitting[-1])]
    if stage is not None:
        words += ["--stage", stage]
    command = " ".join(shlex.quote(word).replace("%", "%%") for word in words)
    return f"{command} %f %p"


def _stage_of(cluster: str, args: Namespace) -> str | None:
    """The stage of the cluster on this machine, with what was not carried to the store yet."""
    from holdfast.postgres.wal_stage import read_settings, stage_path

    path = stage_path(None, args.state_dir)
    try:
        return path if read_settings(path).cluster == cluster else None
    except NotFound:
        return None


def _spaces(texts: list[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for text in texts:
        oid, equals, place = text.partition("=")
        if not equals or not oid.isdigit() or not place:
            raise BadRequest(f"{text!r} is not OID=DIR")
        found[int(oid)] = place
    return found


def owner_of(
    named: str | None, store: "Datastore", snapshot: "SnapshotId", key: "EncryptionKey | None"
) -> tuple[int, int] | None:
    """Who everything shall belong to: who it belonged to, if root restores (BadRequest)."""
    if named:
        try:
            user = pwd.getpwnam(named)
        except KeyError:
            raise BadRequest(f"there is no user {named!r} here") from None
        return user.pw_uid, user.pw_gid
    if os.geteuid() != 0:
        return None
    from holdfast.operations.pg_chain import recorded_owner

    return recorded_owner(store, snapshot, key)
