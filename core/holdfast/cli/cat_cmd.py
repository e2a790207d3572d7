"""`holdfast cat`: print one file of an archive, an image or a blob."""

import os
from argparse import ArgumentParser, Namespace

from holdfast.archive.open import ArchiveKind, OpenSnapshot
from holdfast.cli import key_source, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK
from holdfast.operations.browse import file_pieces
from holdfast.operations.image_files import image_files


def add_arguments(parser: ArgumentParser) -> None:
    """One file."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME, or TYPE/ID")
    parser.add_argument("archive", metavar="ARCHIVE", help="such as etc.pxar or drive-scsi0.img")
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="inside an archive or image; none for all of an image",
    )


def run(args: Namespace, console: Console) -> int:
    """Print it, byte by byte as it is."""
    store = selection.open_to_read(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    path = None if args.path is None else os.fsencode(args.path)
    with OpenSnapshot(store, snapshot, key_source.load_key(args)) as opened:
        is_image = path is not None and opened.find(args.archive).kind is ArchiveKind.IMAGE
        if is_image and path is not None:
            pieces = image_files(opened, args.archive).pieces(path)
        else:
            pieces = file_pieces(opened, args.archive, path)
        for piece in pieces:
            console.data_bytes(piece)
    return EXIT_OK
