"""`holdfast ls`: list the files of a snapshot."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator

from holdfast.archive.open import Archive, ArchiveKind, OpenSnapshot
from holdfast.cli import key_source, plain_text, selection
from holdfast.cli.console import Console
from holdfast.cli.entry_text import listed_json, listed_line
from holdfast.errors import EXIT_OK
from holdfast.operations.browse import Listed, list_tree
from holdfast.operations.image_files import image_files


def add_arguments(parser: ArgumentParser) -> None:
    """A snapshot, and how deep to look."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME, or TYPE/ID")
    parser.add_argument(
        "archive",
        nargs="?",
        metavar="ARCHIVE",
        help="such as etc.pxar; without it the only one is meant, or the archives are listed",
    )
    parser.add_argument(
        "path", nargs="?", default="", metavar="PATH", help="inside the archive or image"
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="everything below, too")


def run(args: Namespace, console: Console) -> int:
    """List them."""
    store = selection.open_to_read(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    with OpenSnapshot(store, snapshot, key_source.load_key(args)) as opened:
        archives = opened.archives()
        trees = [archive for archive in archives if archive.kind is ArchiveKind.TREE]
        if args.archive is None and len(trees) != 1:
            _archives(opened, archives, trees, args, console)
            return EXIT_OK
        name = args.archive if args.archive is not None else trees[0].name
        path = os.fsencode(args.path)
        if opened.find(name).kind is ArchiveKind.IMAGE:
            listing = image_files(opened, name).entries(path, recursive=args.recursive)
        else:
            listing = list_tree(opened.tree(name), path, recursive=args.recursive)
        if args.json:
            console.document([listed_json(listed) for listed in listing])
        else:
            _lines(listing, console)
    return EXIT_OK


def _lines(listing: Iterable[Listed], console: Console) -> None:
    for listed in listing:
        console.data(listed_line(listed))


def _archives(
    opened: OpenSnapshot,
    archives: list[Archive],
    trees: list[Archive],
    args: Namespace,
    console: Console,
) -> None:
    """No archive was chosen and there is not exactly one of files: show them like directories."""
    below = list(_below(opened, trees)) if args.recursive else []
    if args.json:
        found: list[object] = [
            {"path": archive.name, "kind": archive.kind.value, "size": archive.size}
            for archive in archives
        ]
        console.document(found + [listed_json(listed) for listed in below])
        return
    console.lines(
        [(archive.kind, plain_text.size_text(archive.size), archive.name) for archive in archives],
        right=[1],
    )
    _lines(below, console)


def _below(opened: OpenSnapshot, trees: list[Archive]) -> Iterator[Listed]:
    for archive in trees:
        for listed in list_tree(opened.tree(archive.name), recursive=True):
            yield listed._replace(path=archive.name.encode() + b"/" + listed.path)
