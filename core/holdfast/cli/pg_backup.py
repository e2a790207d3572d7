"""`holdfast pg backup`: one base backup of a running cluster."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from holdfast.cli import selection
from holdfast.errors import EXIT_OK, BadRequest, NotFound
from holdfast.ids import BackupType, GroupId

if TYPE_CHECKING:
    from holdfast.cli.console import Console
    from holdfast.datastore.store import Datastore
    from holdfast.ids import SnapshotId
    from holdfast.operations.pg_backup import PgBackupOutcome


def add_connection(parser: ArgumentParser) -> None:
    """Which server."""
    parser.add_argument(
        "--connection",
        default="",
        metavar="CONNINFO",
        help="libpq string or URI (default: PGHOST, PGUSER and the like)",
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Which cluster, and relative to what."""
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--cluster", metavar="NAME", help="its backups become host/NAME")
    who.add_argument("--stage", metavar="DIR", help="the cluster of this WAL archive")
    add_connection(parser)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--full", action="store_true", help="everything (default)")
    kind.add_argument(
        "--differential", action="store_true", help="blocks changed since the newest full backup"
    )
    kind.add_argument(
        "--incremental", action="store_true", help="blocks changed since the newest backup"
    )
    kind.add_argument(
        "--relative-to", metavar="SNAPSHOT", help="blocks changed since that base backup"
    )
    parser.add_argument(
        "--by-lsn", action="store_true", help="trust page LSNs where that is safe, else digests"
    )
    parser.add_argument(
        "--no-wal", action="store_true", help="leave out the WAL that makes it consistent"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--stream", action="store_true", help="from another host, by pg_basebackup")
    way.add_argument(
        "--native",
        action="store_true",
        help="from another host, the server sending only changed blocks (PostgreSQL 17)",
    )
    parser.add_argument(
        "--scratch", default="", metavar="DIR", help="where what the server sends lies for a while"
    )
    parser.add_argument(
        "--spread", action="store_true", help="let the server spread its checkpoint over time"
    )
    parser.add_argument(
        "--combine",
        action="store_true",
        help="make a new full backup of it and its parents at once",
    )
    parser.add_argument("--comment", default="", metavar="TEXT")


def run(args: Namespace, console: "Console") -> int:
    """Take it."""
    from holdfast.cli.pg_combine import session_settings
    from holdfast.operations.pg_backup import PgBackupRequest, back_up_cluster
    from holdfast.operations.pg_source import Way

    if args.native and args.by_lsn:
        raise BadRequest("--native has the server choose the blocks: leave --by-lsn out")
    store = selection.open_to_write(args)
    connection = args.connection
    if args.stage:
        from holdfast.operations.pg_local import connection_to
        from holdfast.postgres.wal_stage import read_settings

        stage = read_settings(args.stage)
        args.cluster = stage.cluster
        connection = connection or connection_to(stage.data_directory)
    request = PgBackupRequest(
        cluster=args.cluster,
        connection=connection,
        ns=selection.namespace(args),
        parent=_parent(store, args),
        by_lsn=args.by_lsn,
        fast=not args.spread,
        include_wal=not args.no_wal,
        way=Way.STREAM if args.stream else Way.NATIVE if args.native else Way.LOCAL,
        scratch=args.scratch,
        settings=session_settings(args),
        comment=args.comment,
    )
    outcome = back_up_cluster(store, request, console.progress())
    combined = None
    if args.combine and request.parent is not None:
        from holdfast.operations.pg_combine import combine

        taken = outcome.summary.snapshot
        made = combine(store, taken, console.progress(), settings=request.settings)
        combined = str(made.summary.snapshot)
    _show(outcome, combined, args, console)
    return EXIT_OK


def _show(
    outcome: "PgBackupOutcome", combined: str | None, args: Namespace, console: "Console"
) -> None:
    from holdfast.postgres.wal_names import format_lsn

    record, stats = outcome.record, outcome.summary.stats
    if args.json:
        console.document(
            {
                "snapshot": str(outcome.summary.snapshot),
                "combined": combined,
                "kind": record.kind.value,
                "decision": record.decision.value,
                "parent": record.parent,
                "start": record.start.to_json(),
                "stop": record.stop.to_json(),
                "wal_required": {"first": record.wal_first, "last": record.wal_last},
                "counters": dict(record.counters),
                "damaged_pages": [dict(warning) for warning in record.warnings],
                "stored_bytes": stats.new_bytes,
                "reused_bytes": stats.reused_bytes,
                "duration_s": round(outcome.duration_s, 3),
            }
        )
        return
    console.data(str(outcome.summary.snapshot))
    counters = record.counters
    blocks = f"{counters['sent_blocks']} of {counters['blocks']} blocks"
    console.remark(
        f"{record.kind}: {counters['files']} files, {blocks}, {stats.new_bytes} bytes stored,"
        f" consistent from {format_lsn(record.stop.lsn)}"
    )
    if combined is not None:
        console.data(combined)
        console.remark("combined into a full backup")


def _parent(store: "Datastore", args: Namespace) -> "SnapshotId | None":
    """The snapshot that the backup is relative to (NotFound)."""
    from holdfast.operations.pg_bases import newest_base

    if args.relative_to:
        return selection.snapshot(store, args, args.relative_to)
    if not args.differential and not args.incremental:
        return None
    group = GroupId(BackupType.HOST, args.cluster, selection.namespace(args))
    if args.differential:
        found = newest_base(store, group, lambda about: about.get("kind") == "full")
    else:
        found = newest_base(store, group)
    if found is None:
        raise NotFound(f"{group} has no base backup yet", hint="take a full one first")
    return found
