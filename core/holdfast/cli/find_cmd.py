"""`holdfast find`: a path across all snapshots, and its versions."""

import os
from argparse import ArgumentParser, Namespace

from holdfast.cli import key_source, selection
from holdfast.cli.console import Console
from holdfast.cli.entry_text import path_json, time_json
from holdfast.errors import EXIT_OK, BadRequest, NothingMatched
from holdfast.ids import GroupId
from holdfast.operations.find import READ_BYTES_MAX, FindRequest, FoundPath, Version, find
from holdfast.shown import printable

_EVERYTHING = 1 << 63


def add_arguments(parser: ArgumentParser) -> None:
    """What to look for, and where."""
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        help="a path or glob; with a leading / from the archive's root, otherwise at any depth",
    )
    parser.add_argument("--group", metavar="GROUP", help="only TYPE/ID, such as host/web1")
    parser.add_argument(
        "--read-all", action="store_true", help="digests of files above 64 MiB, too: reads them"
    )


def run(args: Namespace, console: Console) -> int:
    """Find and tell the versions."""
    if not args.pattern:
        raise BadRequest("say which path to look for")
    store = selection.open_to_read(args)
    ns = selection.namespace(args)
    request = FindRequest(
        pattern=os.fsencode(args.pattern),
        ns=ns,
        group=None if args.group is None else GroupId.parse(args.group, ns),
        read_bytes_max=_EVERYTHING if args.read_all else READ_BYTES_MAX,
    )
    with console.progress() as progress:
        found = find(store, request, key_source.load_key(args), progress)
    if args.json:
        console.document([_json(one) for one in found])
    for one in found if not args.json else ():
        console.data(console.styled(f"{one.group} {one.archive} {printable(one.path)}", "title"))
        for version in one.versions:
            console.data(_line(version))
    if not found:
        raise NothingMatched(f"no snapshot has a path like {printable(request.pattern)}")
    return EXIT_OK


def _json(found: FoundPath) -> dict[str, object]:
    return path_json(found.path) | {
        "group": str(found.group),
        "archive": found.archive,
        "versions": [
            {
                "snapshot": str(version.snapshots[0]),
                "snapshots": [str(snapshot) for snapshot in version.snapshots],
                "kind": version.kind.value,
                "size": version.size,
                "mtime": time_json(version.stat),
                "digest": None if version.digest is None else version.digest.hex(),
            }
            for version in found.versions
        ],
    }


def _line(version: Version) -> str:
    digest = "" if version.digest is None else version.digest.hex()[:16]
    first, count = version.snapshots[0].time_name, len(version.snapshots)
    when = (time_json(version.stat) or "?")[:19]
    more = "" if count == 1 else f" and {count - 1} later"
    return f"  {when:<19} {version.size:>12}  {digest:<16}  {version.kind:<8} {first}{more}"
