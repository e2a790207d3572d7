"""`holdfast diff`: what changed between two snapshots."""

from argparse import ArgumentParser, Namespace
from collections import Counter

from holdfast.archive.compare import Contents
from holdfast.archive.open import OpenSnapshot
from holdfast.cli import key_source, plain_text, selection
from holdfast.cli.console import Console
from holdfast.cli.entry_text import path_json
from holdfast.errors import EXIT_OK
from holdfast.operations.diff import DiffLine, DiffRequest, diff
from holdfast.shown import printable


def add_arguments(parser: ArgumentParser) -> None:
    """Two snapshots, older first."""
    parser.add_argument("snap_a", metavar="SNAP_A", help="TYPE/ID/TIME of the one before")
    parser.add_argument("snap_b", metavar="SNAP_B", help="TYPE/ID/TIME of the one after")
    parser.add_argument("archive", nargs="?", metavar="ARCHIVE", help="only this one")
    parser.add_argument(
        "--contents",
        action="store_true",
        help="read contents even where size and time say they are the same",
    )


def run(args: Namespace, console: Console) -> int:
    """Compare; differences are no failure."""
    store = selection.open_to_read(args)
    snapshots = [selection.snapshot(store, args, text) for text in (args.snap_a, args.snap_b)]
    key = key_source.load_key(args)
    request = DiffRequest(
        archive=args.archive, contents=Contents.READ if args.contents else Contents.TRUST_TIMES
    )
    with OpenSnapshot(store, snapshots[0], key) as a, OpenSnapshot(store, snapshots[1], key) as b:
        lines = diff(a, b, request)
        if args.json:
            console.document([_json(line) for line in lines])
            return EXIT_OK
        counts: Counter[str] = Counter()
        for line in lines:
            counts[line.change] += 1
            console.data(_text(line))
    said = ", ".join(f"{count} {change}" for change, count in sorted(counts.items()))
    console.remark(said or "no differences")
    return EXIT_OK


def _json(line: DiffLine) -> dict[str, object]:
    found = path_json(line.path or line.archive.encode()) | {
        "archive": line.archive,
        "change": line.change.value,
        "size_a": line.size_a,
        "size_b": line.size_b,
    }
    if line.changed_bytes is not None:
        found["changed_bytes"] = line.changed_bytes
    return found


def _text(line: DiffLine) -> str:
    path = f"{line.archive}:{printable(line.path)}" if line.path else line.archive
    if line.changed_bytes is not None:
        path += f"  ({plain_text.size_text(line.changed_bytes)} changed)"
    elif line.size_a is not None and line.size_b is not None and line.size_a != line.size_b:
        path += f"  ({plain_text.size_text(line.size_a)} -> {plain_text.size_text(line.size_b)})"
    return f"{line.change:<9} {path}"
