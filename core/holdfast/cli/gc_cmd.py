"""`holdfast gc`: remove chunks that no snapshot needs."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.cli.durations import seconds
from holdfast.cli.task_id import upid_of
from holdfast.datastore.access_times import CUTOFF_DEFAULT_S
from holdfast.datastore.gc import GcOutcome
from holdfast.errors import EXIT_OK
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.operations.gc import GcMode, GcRequest, gc


def add_arguments(parser: ArgumentParser) -> None:
    """Preview and cutoff."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what it would remove")
    parser.add_argument("--yes", action="store_true", help="accepted; gc never asks")
    parser.add_argument(
        "--cutoff",
        type=seconds,
        default=CUTOFF_DEFAULT_S,
        metavar="DURATION",
        help="keep unused chunks that were touched in the last DURATION, such as 30m or 2d"
        " (default 24h5m); running backups are safe with any value",
    )


def run(args: Namespace, console: Console) -> int:
    """Collect, then say what is in use, gone and waiting."""
    store = selection.open_to_read(args) if args.dry_run else selection.open_to_write(args)
    request = GcRequest(
        store=store,
        upid=upid_of(console, "garbage_collection", store.name),
        mode=GcMode.PREVIEW if args.dry_run else GcMode.COLLECT,
        cutoff_s=args.cutoff,
    )
    began_s = SYSTEM_CLOCK.monotonic_s()
    with console.progress() as progress:
        outcome = gc(request, progress)
    duration_s = SYSTEM_CLOCK.monotonic_s() - began_s
    if args.json:
        console.document(_record(outcome, duration_s) | {"dry_run": args.dry_run})
    else:
        _tell(console, outcome, "would be removed" if args.dry_run else "removed")
    return EXIT_OK


def _record(outcome: GcOutcome, duration_s: float) -> dict[str, object]:
    status = outcome.status
    return {
        "index_files": status.index_file_count,
        "referenced_chunks": outcome.referenced_chunks,
        "referenced_bytes": status.index_data_bytes,
        "stored_chunks": status.disk_chunks,
        "stored_bytes": status.disk_bytes,
        "dedup_factor": round(status.dedup_factor, 2),
        "removed_chunks": status.removed_chunks,
        "removed_bytes": status.removed_bytes,
        "removed_bad": status.removed_bad,
        "pending_chunks": status.pending_chunks,
        "pending_bytes": status.pending_bytes,
        "bad_chunks": outcome.bad_chunks,
        "missing_chunks": outcome.missing_chunks,
        "missing": [
            {"digest": one.digest.hex(), "wanted_by": list(one.wanted_by)}
            for one in outcome.missing
        ],
        "cutoff": asdict(outcome.limits),
        "duration_s": round(duration_s, 3),
    }


def _tell(console: Console, outcome: GcOutcome, verb: str) -> None:
    status = outcome.status
    size = plain_text.size_text
    average = status.disk_bytes // status.disk_chunks if status.disk_chunks else 0
    rows = [
        ("indexes", f"{status.index_file_count:,}", size(status.index_data_bytes)),
        ("chunks in use", f"{status.disk_chunks:,}", size(status.disk_bytes)),
        (verb, f"{status.removed_chunks:,}", size(status.removed_bytes)),
        ("pending", f"{status.pending_chunks:,}", size(status.pending_bytes)),
    ]
    if status.removed_bad or outcome.bad_chunks:
        rows.append(("set aside", f"{outcome.bad_chunks:,}", f"{status.removed_bad:,} {verb}"))
    if outcome.missing_chunks:
        rows.append(("missing", f"{outcome.missing_chunks:,}", ""))
    console.lines(rows, right=(1, 2))
    console.data(f"deduplication factor {status.dedup_factor:.2f}, average chunk {size(average)}")
