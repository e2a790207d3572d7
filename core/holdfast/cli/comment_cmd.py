"""`holdfast comment`: write a note on a snapshot."""

from argparse import ArgumentParser, Namespace

from holdfast.cli import selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK


def add_arguments(parser: ArgumentParser) -> None:
    """One snapshot and a text."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME, or TYPE/ID")
    parser.add_argument("text", metavar="TEXT", help="replaces the note; an empty text removes it")


def run(args: Namespace, console: Console) -> int:
    """Write it into the part of the manifest that is not signed."""
    store = selection.open_to_write(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    store.set_snapshot_notes(snapshot, args.text)
    if args.json:
        console.document({"snapshot": str(snapshot), "comment": args.text})
    else:
        console.remark(f"{snapshot}: note {'written' if args.text else 'removed'}")
    return EXIT_OK
