"""`holdfast protect`: keep a snapshot from being forgotten or pruned."""

from argparse import ArgumentParser, Namespace

from holdfast.cli import selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK


def add_arguments(parser: ArgumentParser) -> None:
    """One snapshot."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME, or TYPE/ID")


def run(args: Namespace, console: Console) -> int:
    """Set the mark."""
    return set_protection(args, console, wanted=True)


def set_protection(args: Namespace, console: Console, *, wanted: bool) -> int:
    """Set or take away the mark; it does not matter whether it was there."""
    store = selection.open_to_write(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    store.set_protected(snapshot, protected=wanted)
    if args.json:
        console.document({"snapshot": str(snapshot), "protected": wanted})
    else:
        console.remark(f"{snapshot} is {'now protected' if wanted else 'no longer protected'}")
    return EXIT_OK
