"""`holdfast verify`: read everything again and check it."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter

from holdfast.cli import key_source, plain_text, selection
from holdfast.cli.console import Console
from holdfast.cli.task_id import upid_of
from holdfast.datastore.snapshot_check import SnapshotFate
from holdfast.datastore.verify import DamagedChunk, VerifyOptions, VerifyOutcome
from holdfast.datastore.verify_workers import Fault
from holdfast.errors import EXIT_OK, DamagedData
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.operations.verify import VerifyRequest, verify


def add_arguments(parser: ArgumentParser) -> None:
    """What to verify and what to leave out."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="SNAPSHOT|GROUP",
        help="TYPE/ID/TIME or TYPE/ID, also several; everything if left out",
    )
    parser.add_argument(
        "--ignore-verified", action="store_true", help="skip snapshots that were verified before"
    )
    parser.add_argument(
        "--outdated-after",
        type=_days,
        metavar="DAYS",
        help="skip only those verified in the last DAYS days (means --ignore-verified)",
    )


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):  # noqa: PLR2004
        raise ArgumentTypeError(f"{text!r} is no number of days")
    return int(text)


def run(args: Namespace, console: Console) -> int:
    """Verify; exit code 20 when anything is damaged."""
    is_read_only = args.read_only or selection.store_settings(args).is_read_only
    store = selection.open_to_read(args) if is_read_only else selection.open_to_write(args)
    request = VerifyRequest(
        store=store,
        ns=selection.namespace(args),
        what=args.what,
        upid=upid_of(console, "verify", store.name),
        options=VerifyOptions(
            skip_verified=args.ignore_verified or args.outdated_after is not None,
            outdated_after_days=args.outdated_after,
        ),
        key=key_source.load_key_if_possible(args, console),
    )
    if is_read_only:
        console.remark("read-only: damaged chunks are not set aside, snapshots are not marked")
    began_s = SYSTEM_CLOCK.monotonic_s()
    with console.progress() as progress:
        outcome = verify(request, progress)
    duration_s = SYSTEM_CLOCK.monotonic_s() - began_s
    if args.json:
        console.document(_record(outcome, duration_s))
    else:
        _tell(console, outcome, duration_s)
    return DamagedData.exit_code if outcome.has_failed else EXIT_OK


def _record(outcome: VerifyOutcome, duration_s: float) -> dict[str, object]:
    return {
        "snapshots": [
            {
                "snapshot": str(one.snapshot),
                "ns": str(one.snapshot.ns),
                "state": one.fate.value,
                "problems": list(one.problems),
            }
            for one in outcome.snapshots
        ],
        "corrupt_chunks": [
            _chunk(one) | {"reason": one.chunk.reason, "set_aside": one.chunk.is_set_aside}
            for one in outcome.with_fault(Fault.CORRUPT)
        ],
        "missing_chunks": [_chunk(one) for one in outcome.with_fault(Fault.MISSING)],
        "also_marked": [{"snapshot": str(one), "ns": str(one.ns)} for one in outcome.also_marked],
        "chunks": outcome.chunks,
        "checksum_only_chunks": outcome.checksum_only,
        "bytes_read": outcome.stored_bytes,
        "bytes_decoded": outcome.decoded_bytes,
        "marked": outcome.is_marked,
        "duration_s": round(duration_s, 3),
    }


def _chunk(one: DamagedChunk) -> dict[str, object]:
    return {
        "digest": one.chunk.digest.hex(),
        "snapshots": [str(snapshot) for snapshot in one.snapshots],
    }


def _tell(console: Console, outcome: VerifyOutcome, duration_s: float) -> None:
    styles = {SnapshotFate.OK: "good", SnapshotFate.FAILED: "bad"}
    for one in outcome.snapshots:
        state = console.styled(f"{one.fate.value:<10}", styles.get(one.fate, "faint"))
        ns = f"{one.snapshot.ns}: " if one.snapshot.ns.parts else ""
        console.data(f"{state}  {plain_text.harmless(ns + str(one.snapshot))}")
        for problem in one.problems:
            console.data(f"            {plain_text.harmless(problem)}")
    for damaged in outcome.damaged:
        names = ", ".join(str(snapshot) for snapshot in damaged.snapshots)
        console.data(f"chunk {damaged.chunk.digest.hex()} {damaged.chunk.fault}: hits {names}")
    for snapshot in outcome.also_marked:
        ns = f"{snapshot.ns}: " if snapshot.ns.parts else ""
        console.data(f"marked as failed, too: {plain_text.harmless(ns + str(snapshot))}")
    if outcome.damaged:
        console.remark("`holdfast affected DIGEST` tells which files; a new backup heals chunks")
    counts = Counter(one.fate for one in outcome.snapshots)
    skipped = counts[SnapshotFate.SKIPPED] + counts[SnapshotFate.UNFINISHED]
    size, rate = outcome.decoded_bytes, outcome.decoded_bytes / max(duration_s, 0.001)
    console.data(
        f"{counts[SnapshotFate.OK]} ok, {counts[SnapshotFate.FAILED]} failed,"
        f" {skipped} skipped; {outcome.chunks:,} chunks,"
        f" {plain_text.size_text(size)} in {plain_text.span_text(duration_s)}"
        f" ({plain_text.size_text(rate)}/s)"
    )
    if outcome.checksum_only:
        console.data(
            f"{outcome.checksum_only:,} encrypted chunks were checked by checksum only;"
            " give their key to check the content"
        )
