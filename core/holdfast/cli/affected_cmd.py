"""`holdfast affected`: which files a damaged chunk carries."""

import os
from argparse import ArgumentParser, Namespace

from holdfast.cli import key_source, plain_text, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK, NothingMatched
from holdfast.ids import parse_digest
from holdfast.operations.affected import AffectedArchive, AffectedRequest, affected


def add_arguments(parser: ArgumentParser) -> None:
    """One chunk."""
    parser.add_argument("digest", metavar="DIGEST", help="64 hex digits, as verify prints them")


def run(args: Namespace, console: Console) -> int:
    """Search every index of the store, list the files."""
    request = AffectedRequest(
        store=selection.open_to_read(args),
        digest=parse_digest(args.digest),
        key=key_source.load_key_if_possible(args, console),
    )
    with console.progress() as progress:
        found = affected(request, progress)
    for one in found:
        if one.gap is not None:
            console.warning(f"{one.snapshot} {one.archive}: paths may be missing: {one.gap}")
    if args.json:
        console.document([_record(one) for one in found])
        return EXIT_OK if found else NothingMatched.exit_code
    if not found:
        raise NothingMatched(f"no snapshot uses the chunk {args.digest}")
    for one in found:
        _tell(console, one)
    return EXIT_OK


def _record(one: AffectedArchive) -> dict[str, object]:
    return {
        "snapshot": str(one.snapshot),
        "ns": str(one.snapshot.ns),
        "archive": one.archive,
        "paths": [os.fsdecode(path) for path in one.paths],
        "ranges": [list(each) for each in one.ranges],
        "complete": one.gap is None,
    }


def _tell(console: Console, one: AffectedArchive) -> None:
    ranges = ", ".join(f"{start}-{end}" for start, end in one.ranges)
    ns = f"{one.snapshot.ns}: " if one.snapshot.ns.parts else ""
    console.data(f"{ns}{one.snapshot} {plain_text.harmless(one.archive)} bytes {ranges}")
    for path in one.paths:
        console.data(f"  {plain_text.harmless(path)}")
