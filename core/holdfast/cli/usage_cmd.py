"""`holdfast usage`: who uses the space of a store."""

from argparse import ArgumentParser, Namespace

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK, HoldfastError, NotFound
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.operations.usage import (
    Measured,
    UsageRequest,
    measure,
    record_of,
    remember,
    remembered,
)


def add_arguments(parser: ArgumentParser) -> None:
    """Measure, or only look."""
    parser.add_argument(
        "--cached", action="store_true", help="print what was measured last, read nothing else"
    )


def run(args: Namespace, console: Console) -> int:
    """Measure the whole store, remember it for the terminal UI, print it."""
    store = selection.open_to_read(args)
    if args.cached:
        known = remembered(args.state_dir, store)
        if known is None:
            raise NotFound(
                "this store was never measured", hint="`holdfast usage` without --cached does it"
            )
        measured = known
    else:
        now_s, began_s = SYSTEM_CLOCK.now_s(), SYSTEM_CLOCK.monotonic_s()
        with console.progress() as progress:
            found = measure(UsageRequest(store=store, now_s=now_s), progress)
        measured = Measured(now_s, SYSTEM_CLOCK.monotonic_s() - began_s, found)
        if not args.read_only:
            try:
                remember(args.state_dir, store, measured)
            except HoldfastError as error:
                console.warning(f"the figures are not remembered: {error}")
    if args.json:
        console.document(record_of(measured))
    else:
        _tell(console, measured)
    return EXIT_OK


def _tell(console: Console, measured: Measured) -> None:
    size = plain_text.size_text
    usage = measured.usage
    console.lines(
        [
            ("backed up", size(usage.logical_bytes), f"{usage.logical_bytes:,} bytes"),
            ("distinct data", size(usage.chunk_bytes), f"in {usage.chunks:,} chunks"),
            ("stored", size(usage.stored_bytes), f"{usage.stored_bytes:,} bytes"),
        ],
        right=(1,),
    )
    if usage.missing_chunks:
        console.warning(
            f"{usage.missing_chunks:,} chunks are missing; `holdfast verify` tells more"
        )
    if not usage.groups:
        return
    console.data()
    console.data(console.styled("bytes that only one group refers to", "title"))
    rows = sorted(usage.groups.items(), key=lambda each: -each[1])
    console.lines(
        [
            (f"{group.ns}: {group}" if group.ns.parts else str(group), size(exclusive))
            for group, exclusive in rows
        ],
        right=(1,),
    )
