"""`holdfast stats`: deduplication, compression and what a selection holds for itself."""

from argparse import ArgumentParser, Namespace

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.datastore.stats import StoreStats
from holdfast.errors import EXIT_OK
from holdfast.operations.stats import StatsRequest, stats

_BAR_CELLS = 30


def add_arguments(parser: ArgumentParser) -> None:
    """What to measure."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="SNAPSHOT|GROUP",
        help="TYPE/ID/TIME or TYPE/ID; the whole store if left out",
    )


def run(args: Namespace, console: Console) -> int:
    """Measure and print."""
    store = selection.open_to_read(args)
    request = StatsRequest(store=store, ns=selection.namespace(args), what=args.what)
    with console.progress() as progress:
        found = stats(request, progress)
    if found.missing_chunks:
        console.warning(
            f"{found.missing_chunks:,} chunks are missing; `holdfast verify` tells more"
        )
    if args.json:
        console.document(_record(found))
    else:
        _tell(console, found)
    return EXIT_OK


def _record(found: StoreStats) -> dict[str, object]:
    return {
        "snapshots": found.snapshots,
        "groups": found.groups,
        "logical_bytes": found.logical_bytes,
        "chunk_bytes": found.chunk_bytes,
        "stored_bytes": found.stored_bytes,
        "chunks": found.chunks,
        "missing_chunks": found.missing_chunks,
        "dedup_factor": round(found.dedup_factor, 4),
        "compression_ratio": round(found.compression_ratio, 4),
        "exclusive_bytes": found.exclusive_bytes,
        "histogram": [
            {
                "upto": one.upto,
                "chunks": one.chunks,
                "bytes": one.data_bytes,
                "stored_bytes": one.stored_bytes,
            }
            for one in found.histogram
        ],
    }


def _tell(console: Console, found: StoreStats) -> None:
    size = plain_text.size_text
    console.lines(
        [
            ("snapshots", f"{found.snapshots:,}", f"in {found.groups:,} groups"),
            ("backed up", size(found.logical_bytes), f"{found.logical_bytes:,} bytes"),
            ("distinct data", size(found.chunk_bytes), f"in {found.chunks:,} chunks"),
            ("stored", size(found.stored_bytes), f"{found.stored_bytes:,} bytes"),
            ("exclusive", size(found.exclusive_bytes), "freed if only these snapshots went"),
            ("deduplication", f"{found.dedup_factor:.2f}", "bytes backed up per stored byte"),
            ("compression", f"{found.compression_ratio:.2f}", "distinct bytes per stored byte"),
        ],
        right=(1,),
    )
    most = max((one.chunks for one in found.histogram), default=0)
    if not most:
        return
    console.data()
    console.data(console.styled("chunk sizes before compression", "title"))
    console.lines(
        [
            (
                f"up to {size(one.upto)}",
                f"{one.chunks:,}",
                size(one.data_bytes),
                "#" * -(-one.chunks * _BAR_CELLS // most),
            )
            for one in found.histogram
        ],
        right=(0, 1, 2),
    )
