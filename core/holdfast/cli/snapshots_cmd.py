"""`holdfast snapshots`: what there is, newest last."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.datastore.manifest import VerifyResult, VerifyState
from holdfast.errors import EXIT_OK
from holdfast.ids import epoch_to_name
from holdfast.operations import snapshots
from holdfast.operations.snapshots import SnapshotSummary


def add_arguments(parser: ArgumentParser) -> None:
    """A group, or one snapshot."""
    parser.add_argument("group", nargs="?", metavar="GROUP", help="only TYPE/ID, such as host/web1")
    parser.add_argument(
        "--all-namespaces", action="store_true", help="those of all namespaces below --ns as well"
    )


def run(args: Namespace, console: Console) -> int:
    """List them."""
    store = selection.open_to_read(args)
    ns = selection.namespace(args)
    spaces = list(store.namespaces(ns)) if args.all_namespaces else [ns]
    found = [
        summary for space in spaces for summary in snapshots.summaries(store, space, args.group)
    ]
    found.sort(key=lambda summary: summary.snapshot.time_s)
    for summary in found:
        if summary.damage is not None:
            console.warning(f"{summary.snapshot}: {summary.damage}")
    if args.json:
        console.document([as_json(summary) for summary in found])
        return EXIT_OK
    if not found:
        console.remark(f"no snapshots in {store.base} yet; `holdfast backup DIRECTORY` makes one")
        return EXIT_OK
    head = ("SNAPSHOT", "SIZE", "VERIFIED", "KEPT", "ARCHIVES", "COMMENT")
    console.lines([head, *map(_row, found)], right=[1])
    return EXIT_OK


def _row(summary: SnapshotSummary) -> tuple[str, ...]:
    space = f"{summary.snapshot.ns}: " if summary.snapshot.ns.parts else ""
    return (
        f"{space}{summary.snapshot}",
        "" if summary.is_unfinished else plain_text.size_text(summary.size),
        verified_text(summary),
        "protected" if summary.is_protected else "",
        ", ".join(archive.name for archive in summary.archives),
        summary.comment.partition("\n")[0],
    )


def verified_text(summary: SnapshotSummary) -> str:
    """`ok`, `FAILED`, `damaged`, `unfinished`, or nothing when it was never verified."""
    if summary.is_unfinished:
        return "unfinished"
    if summary.damage is not None:
        return "damaged"
    if summary.verify_state is None:
        return ""
    if summary.verify_state.state is VerifyResult.OK:
        day = datetime.fromtimestamp(summary.verify_state.upid.start_s, UTC)
        return f"ok {day:%Y-%m-%d}"
    return "FAILED"


def as_json(summary: SnapshotSummary) -> dict[str, object]:
    """The stable JSON form of one snapshot."""
    snapshot = summary.snapshot
    return {
        "snapshot": str(snapshot),
        "ns": str(snapshot.ns),
        "type": snapshot.group.type.value,
        "id": snapshot.group.id,
        "time": snapshot.time_name,
        "size": summary.size,
        "files": [
            {
                "name": archive.name,
                "size": archive.size,
                "crypt_mode": archive.crypt_mode.value,
                "stored_as": list(archive.filenames),
            }
            for archive in summary.archives
        ],
        "protected": summary.is_protected,
        "verify_state": verify_state_json(summary.verify_state),
        "owner": summary.owner,
        "comment": summary.comment,
        "unfinished": summary.is_unfinished,
        "damage": summary.damage,
    }


def verify_state_json(state: VerifyState | None) -> dict[str, str] | None:
    """`{"state", "upid", "time"}`, or None."""
    if state is None:
        return None
    return {
        "state": state.state.value,
        "upid": str(state.upid),
        "time": epoch_to_name(state.upid.start_s),
    }
