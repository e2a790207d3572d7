"""`holdfast pg export`: a base backup as a tar, deltas as `NAME.vcdiff`."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from holdfast.cli import key_source, selection
from holdfast.errors import EXIT_OK, BadRequest

if TYPE_CHECKING:
    from holdfast.cli.console import Console


def add_arguments(parser: ArgumentParser) -> None:
    """Which, in what form, where to."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="host/CLUSTER or host/CLUSTER/TIME")
    parser.add_argument(
        "--combined", action="store_true", help="whole files, put together from the chain"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="a new file instead of stdout")


class _Stdout:
    def __init__(self, console: "Console") -> None:
        self._console = console

    def write(self, data: bytes | memoryview) -> None:
        self._console.data_bytes(data)


def run(args: Namespace, console: "Console") -> int:
    """Write it."""
    from holdfast.cli.pg_restore import base_snapshot
    from holdfast.operations.export import output_file
    from holdfast.operations.pg_export import Output, export_base

    if args.output is None and console.writes_to_terminal:
        raise BadRequest("an archive is not written to a terminal", hint="give -o FILE, or a pipe")
    if args.output is None and args.json:
        raise BadRequest("with --json the archive cannot go to stdout, too", hint="give -o FILE")
    store, key = selection.open_to_read(args), key_source.load_key(args)
    snapshot = base_snapshot(store, args)

    def export(out: Output) -> int:
        return export_base(
            store, snapshot, out, console.progress(), is_combined=args.combined, key=key
        )

    if args.output is None:
        written = export(_Stdout(console))
    else:
        with output_file(args.output) as out:
            written = export(out)
    if args.json:
        console.document({"snapshot": str(snapshot), "output": args.output, "bytes": written})
    else:
        console.remark(f"{snapshot}: {written} bytes written")
    return EXIT_OK
