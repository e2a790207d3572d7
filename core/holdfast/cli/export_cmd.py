"""`holdfast export`: an archive as tar, zip or raw bytes, to stdout or into a file."""

import os
from argparse import ArgumentParser, Namespace
from typing import Final

from holdfast.archive.open import OpenSnapshot
from holdfast.cli import key_source, plain_text, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK, BadRequest
from holdfast.operations.export import (
    ExportFormat,
    ExportOutcome,
    ExportRequest,
    export,
    output_file,
)


def add_arguments(parser: ArgumentParser) -> None:
    """What to export, and how."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME, or TYPE/ID")
    parser.add_argument("archive", metavar="ARCHIVE", help="such as etc.pxar or drive-scsi0.img")
    parser.add_argument("path", nargs="?", default="", metavar="PATH", help="only this part")
    parser.add_argument(
        "--format",
        choices=[one.value for one in ExportFormat],
        required=True,
        help="raw is an image, a blob or an archive in one stream as it is stored",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="a new file instead of stdout")


_READ_AHEAD: Final = 3  # chunks; a tree is exported in the order it was stored


class _Stdout:
    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._console.data_bytes(data)


def run(args: Namespace, console: Console) -> int:
    """Write it."""
    if args.output is None and console.writes_to_terminal:
        raise BadRequest("an archive is not written to a terminal", hint="give -o FILE, or a pipe")
    if args.output is None and args.json:
        raise BadRequest("with --json the archive cannot go to stdout, too", hint="give -o FILE")
    store = selection.open_to_read(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    request = ExportRequest(
        archive=args.archive, format=ExportFormat(args.format), path=os.fsencode(args.path)
    )
    with (
        OpenSnapshot(store, snapshot, key_source.load_key(args), read_ahead=_READ_AHEAD) as opened,
        console.progress() as progress,
    ):
        if args.output is None:
            outcome = export(opened, request, _Stdout(console), progress)
        else:
            with output_file(args.output) as out:
                outcome = export(opened, request, out, progress)
    _tell(args, console, outcome)
    return EXIT_OK


def _tell(args: Namespace, console: Console, outcome: ExportOutcome) -> None:
    if args.json:
        facts = {"entries": outcome.entries, "bytes": outcome.bytes_written}
        console.document({"output": args.output} | facts)
    else:
        size = plain_text.size_text(outcome.bytes_written)
        console.remark(f"{outcome.entries:,} entries, {size} written")
