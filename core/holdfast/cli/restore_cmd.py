"""`holdfast restore`: bring files, an image or a blob back."""

import os
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from holdfast.archive.restore_rules import Overwrite
from holdfast.archive.restore_without import Without
from holdfast.cli import key_source, plain_text, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK, BadRequest, DamagedData
from holdfast.host import files
from holdfast.operations.restore import Restored, RestoreRequest, restore
from holdfast.shown import printable
from holdfast.units import MIB

_SHOWN_MAX: Final = 20
_LIST_BYTES_MAX: Final = 64 * MIB
_WITHOUT: Final = {
    "--no-owner": (Without.OWNER, "everything belongs to whoever restores"),
    "--no-setid": (Without.SETID, "no set-user and set-group bits, no file capabilities"),
    "--no-devices": (Without.DEVICES, "no block and character devices"),
    "--no-xattrs": (Without.XATTRS, "no extended attributes, no file capabilities"),
    "--no-acls": (Without.ACLS, "no access control lists"),
    "--no-flags": (Without.FLAGS, "no attribute flags such as `immutable`"),
}


def add_arguments(parser: ArgumentParser) -> None:
    """What, where to, and what may happen to what is there."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME, or TYPE/ID")
    parser.add_argument("target", metavar="TARGET", help="a new or empty directory")
    parser.add_argument("--archive", metavar="NAME", help="only this one, such as etc.pxar")
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only paths that match; `!PATTERN` takes some out again",
    )
    parser.add_argument(
        "--include-from0",
        metavar="FILE",
        help="exact paths, each ended by a zero byte; one that begins with ! is taken out again",
    )
    parser.add_argument(
        "--overwrite",
        choices=[rule.value for rule in Overwrite if rule is not Overwrite.FRESH],
        help="what to do with files that exist and differ (default: want an empty target)",
    )
    less = parser.add_argument_group("leave out")
    for option, (_what, text) in _WITHOUT.items():
        less.add_argument(option, action="store_true", help=text)
    parser.add_argument("-n", "--dry-run", action="store_true", help="change nothing")


def run(args: Namespace, console: Console) -> int:
    """Restore, or say what would be restored."""
    store = selection.open_to_read(args)
    request = RestoreRequest(
        snapshot=selection.snapshot(store, args, args.snapshot),
        target=args.target,
        archive=args.archive,
        patterns=tuple(os.fsencode(pattern) for pattern in args.include),
        paths=_paths(args.include_from0) if args.include_from0 is not None else {},
        overwrite=Overwrite(args.overwrite or Overwrite.FRESH.value),
        without=_without(args),
        dry_run=args.dry_run,
        key=key_source.load_key(args),
    )
    with console.progress() as progress:
        outcome = restore(store, request, progress)
    if args.json:
        console.document(_document(outcome, request))
    else:
        _tell(outcome, request, console)
    return DamagedData.exit_code if outcome.tree.damaged else EXIT_OK


def _paths(filename: str) -> dict[bytes, bool]:
    """Exact paths out of a file, or of standard input for `-`.

    Raises:
        BadRequest: it holds none.
        HoldfastError: it cannot be read.
    """
    if filename == "-":
        data = sys.stdin.buffer.read(_LIST_BYTES_MAX + 1)
    else:
        with files.explained(f"reading {filename}"), open(filename, "rb") as source:  # or a pipe
            data = source.read(_LIST_BYTES_MAX + 1)
    if len(data) > _LIST_BYTES_MAX:
        raise BadRequest(f"{filename} is larger than {_LIST_BYTES_MAX >> 20} MiB")
    found: dict[bytes, bool] = {}
    for item in data.split(b"\0"):
        path = item.removeprefix(b"!")
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise BadRequest(f"{filename}: {printable(path)} leads upwards")
        if path:
            found[b"/".join(parts)] = path is item
    if not any(found.values()):
        raise BadRequest(f"{filename} names no path to restore")
    return found


def _without(args: Namespace) -> Without:
    chosen = Without.NOTHING
    for option, (what, _text) in _WITHOUT.items():
        if getattr(args, option.removeprefix("--").replace("-", "_")):
            chosen |= what
    return chosen


def _document(outcome: Restored, request: RestoreRequest) -> dict[str, object]:
    tree = outcome.tree
    return {
        "snapshot": str(request.snapshot),
        "dry_run": request.dry_run,
        "files": tree.files + outcome.images + outcome.blobs,
        "bytes": tree.content_bytes + outcome.image_bytes,
        "identical": tree.identical,
        "replaced": tree.replaced,
        "skipped": tree.skipped,
        "conflicts": tree.conflicts,
        "damaged": tree.damaged,
        "warnings": tree.warnings,
        "duration_s": round(outcome.duration_s, 3),
    }


def _tell(outcome: Restored, request: RestoreRequest, console: Console) -> None:
    tree = outcome.tree
    _list(console, "left as it is, differs", tree.conflicts)
    _list(console, "skipped", tree.skipped)
    _list(console, "damaged", tree.damaged)
    size = plain_text.size_text(tree.content_bytes + outcome.image_bytes)
    count = tree.files + outcome.images + outcome.blobs
    same = f", {tree.identical:,} were there already" if tree.identical else ""
    verb = "would restore" if request.dry_run else "restored"
    console.remark(f"{verb} {count:,} files, {size}{same}, to {request.target}")


def _list(console: Console, what: str, paths: list[str]) -> None:
    for path in paths[:_SHOWN_MAX]:
        console.remark(f"{what}: {path}")
    if len(paths) > _SHOWN_MAX:
        console.remark(f"{what}: {len(paths) - _SHOWN_MAX:,} more; --json names all")
