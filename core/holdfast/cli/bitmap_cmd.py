"""`holdfast bitmap`: the records of changes that are kept beside an image while nobody serves it."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.block.bitmap_file import BitmapFile, load
from holdfast.block.dirty_bitmap import GRANULARITY_DEFAULT, DirtyBitmap
from holdfast.block.node import Access, FileNode
from holdfast.cli.console import Console
from holdfast.config.workers import parse_size
from holdfast.errors import EXIT_OK, Busy, NotFound, ReadOnlyViolation
from holdfast.host import files
from holdfast.host.locks import LockMode, try_flock
from holdfast.operations.image_server import bitmap_path


def add_arguments(parser: ArgumentParser) -> None:
    """One verb each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, about in (
        ("list", "bitmaps of an image"),
        ("add", "begin to record, from the next time the image is served"),
        ("remove", "forget a bitmap, also an inconsistent one"),
        ("clear", "nothing counts as changed any more"),
        ("merge", "add another bitmap's changes"),
    ):
        verb = verbs.add_parser(name, help=about)
        verb.add_argument("image", metavar="IMAGE")
        if name != "list":
            verb.add_argument("name", metavar="NAME")
        if name == "add":
            verb.add_argument(
                "--granularity", default="", metavar="SIZE", help="power of two, default 64k"
            )
        if name == "merge":
            verb.add_argument("source", metavar="SOURCE", help="the other bitmap's name")


def run(args: Namespace, console: Console) -> int:
    """Do what the verb says."""
    args.image = os.path.abspath(args.image)
    with _image(args) as node:
        path = bitmap_path(args.image)
        with files.explained(f"reading the bitmaps of {args.image}"):
            if args.verb == "list":
                _show(load(path, node.fd, node.size_bytes), args, console)
                return EXIT_OK
            kept = BitmapFile.open(path, node.fd, node.size_bytes)
            try:
                _change(kept, args, node.size_bytes)
            finally:
                kept.close()
    if args.json:
        console.document({"image": args.image, "bitmap": args.name})
    return EXIT_OK


@contextmanager
def _image(args: Namespace) -> Iterator[FileNode]:
    changes = args.verb != "list"
    if args.read_only and changes:
        raise ReadOnlyViolation("this command changes bitmaps, and read-only was asked for")
    if not os.path.exists(args.image):
        raise NotFound(f"there is no image {args.image}")
    with files.explained(f"opening {args.image}"):
        node = FileNode.open(args.image, Access.READ_ONLY)
    try:
        if changes and not try_flock(node.fd, LockMode.EXCLUSIVE):
            raise Busy(f"{args.image} is being served")
        yield node
    finally:
        node.close()


def _show(bitmaps: dict[str, DirtyBitmap], args: Namespace, console: Console) -> None:
    if args.json:
        rows = [
            {
                "name": bitmap.name,
                "granularity": bitmap.granularity_bytes,
                "dirty_bytes": bitmap.count_bytes(),
                "recording": bitmap.recording,
                "inconsistent": bitmap.inconsistent,
                "base": bitmap.base or None,
            }
            for bitmap in bitmaps.values()
        ]
        console.document(rows)
        return
    for bitmap in bitmaps.values():
        state = "inconsistent" if bitmap.inconsistent else f"{bitmap.count_bytes()} bytes dirty"
        console.data(f"{bitmap.name}  {state}  since {bitmap.base or 'its beginning'}")


def _named(kept: BitmapFile, name: str) -> DirtyBitmap:
    bitmap = kept.bitmaps.get(name)
    if bitmap is None:
        raise NotFound(f"dirty bitmap '{name}' not found")
    return bitmap


def _change(kept: BitmapFile, args: Namespace, size_bytes: int) -> None:
    match args.verb:
        case "add":
            grain = parse_size(args.granularity) if args.granularity else GRANULARITY_DEFAULT
            kept.add(DirtyBitmap(name=args.name, size_bytes=size_bytes, granularity_bytes=grain))
        case "remove":
            kept.remove(args.name)
        case "clear":
            bitmap = _named(kept, args.name)
            bitmap.clear()
            bitmap.base = bitmap.partial = ""  # it says nothing about any snapshot any more
        case "merge":
            _named(kept, args.name).merge(_named(kept, args.source))
