"""`holdfast pg combine`: a differential and what is below it as one full backup."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from holdfast.cli import key_source, selection
from holdfast.errors import EXIT_OK

if TYPE_CHECKING:
    from holdfast.cli.console import Console
    from holdfast.datastore.session import SessionSettings


def add_arguments(parser: ArgumentParser) -> None:
    """Which differential, and where to."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="host/CLUSTER or host/CLUSTER/TIME")
    parser.add_argument(
        "--to", metavar="DIR", help="as files in an empty directory instead of a new snapshot"
    )


def session_settings(args: Namespace) -> "SessionSettings":
    """How a new snapshot is encrypted."""
    from holdfast.datastore.manifest import CryptMode
    from holdfast.datastore.session import SessionSettings

    key = key_source.load_key(args)
    return SessionSettings(
        key=key,
        crypt_mode=CryptMode.NONE if key is None else CryptMode.ENCRYPT,
        wrapped_key=key_source.wrapped_key(args, key),
    )


def run(args: Namespace, console: "Console") -> int:
    """Put it together."""
    if args.to:
        return _as_files(args, console)
    from holdfast.cli.pg_restore import base_snapshot
    from holdfast.operations.pg_combine import combine

    store = selection.open_to_write(args)
    snapshot = base_snapshot(store, args)
    made = combine(store, snapshot, console.progress(), settings=session_settings(args))
    stats = made.summary.stats
    if args.json:
        console.document(
            {
                "snapshot": str(made.summary.snapshot),
                "combined_from": str(snapshot),
                "counters": dict(made.record.counters),
                "stored_bytes": stats.new_bytes,
                "reused_bytes": stats.reused_bytes,
                "duration_s": round(made.duration_s, 3),
            }
        )
        return EXIT_OK
    console.data(str(made.summary.snapshot))
    console.remark(f"full, from {snapshot}: {stats.new_bytes} bytes stored")
    return EXIT_OK


def _as_files(args: Namespace, console: "Console") -> int:
    from holdfast.cli.pg_restore import base_snapshot, owner_of
    from holdfast.operations.pg_restore import PgRestoreRequest, restore_cluster

    store, key = selection.open_to_read(args), key_source.load_key(args)
    snapshot = base_snapshot(store, args)
    request = PgRestoreRequest(
        snapshot=snapshot,
        target=args.to,
        recovery=None,
        owner=owner_of(None, store, snapshot, key),
        key=key,
    )
    done = restore_cluster(store, request, console.progress()).laid_out
    if args.json:
        facts = {"target": args.to, "files": done.files, "bytes": done.bytes}
        console.document({"combined_from": str(snapshot)} | facts)
    else:
        console.remark(f"{snapshot}: {done.files} files, {done.bytes} bytes in {args.to}")
    return EXIT_OK
