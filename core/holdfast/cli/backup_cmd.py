"""`holdfast backup`: one snapshot of directories, images and files."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from holdfast.archive.change_detection import ChangeDetection
from holdfast.archive.walk_rules import WalkRules
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK, BadRequest, DamagedData, HoldfastError
from holdfast.ids import BackupType, GroupId, name_to_epoch
from holdfast.operations.backup_spec import SpecKind, parse_specs
from holdfast.operations.tree_walks import TreeWalks, Walker
from holdfast.units import KIB

if TYPE_CHECKING:
    from holdfast.operations.backup import BackupOutcome, BackupRequest

# What is not needed to start the process that walks is imported while that loads, too.
_CHUNKERS: Final = ("fastcdc", "buzhash")
_LEVELS: Final = range(1, 20)
# Who waited for other tasks or for a passphrase walks again: a snapshot shows its own time.
_STALE_AFTER_S: Final = 2.0


def add_arguments(parser: ArgumentParser) -> None:
    """What to back up, as what, and how."""
    parser.add_argument(
        "specs",
        nargs="+",
        metavar="SPEC",
        help="NAME.pxar:DIR, NAME.img:FILE_OR_DEVICE, NAME.conf:FILE, or just a path",
    )
    parser.add_argument("--type", choices=[kind.value for kind in BackupType], default="host")
    parser.add_argument("--id", metavar="ID", help="what is backed up (default: this host's name)")
    parser.add_argument("--time", metavar="TIME", help="of the snapshot, 2026-01-31T12:00:00Z")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave paths out"
    )
    systems = parser.add_mutually_exclusive_group()
    systems.add_argument(
        "--one-file-system", action="store_true", help="stay on one file system (default)"
    )
    systems.add_argument(
        "--all-file-systems", action="store_true", help="go into what is mounted below, too"
    )
    parser.add_argument(
        "--change-detection",
        choices=[mode.value for mode in ChangeDetection],
        default=ChangeDetection.METADATA.value,
        help="metadata: read only files whose metadata changed; data, legacy: read all",
    )
    parser.add_argument(
        "--chunk-size", type=int, default=4096, metavar="KIB", help="mean, 64..4096"
    )
    parser.add_argument(
        "--chunker",
        choices=_CHUNKERS,
        default=_CHUNKERS[0],
        help="buzhash cuts where Proxmox clients cut, and is slower",
    )
    parser.add_argument(
        "--compression", default="1", metavar="LEVEL|none", help="zstd level 1..19 (default 1)"
    )
    parser.add_argument("--verify", action="store_true", help="read the new snapshot again")
    parser.add_argument("--comment", default="", metavar="TEXT", help="a note on the snapshot")
    parser.add_argument("-n", "--dry-run", action="store_true", help="store nothing")
    parser.set_defaults(ready_walk=None, walks=None)


@contextmanager
def prepared(args: Namespace) -> Iterator[None]:
    """Begin to walk, before the journal is opened and what makes a snapshot is loaded."""
    with ExitStack() as stack:
        with suppress(HoldfastError):  # `run` meets it again, and says it
            args.walks = stack.enter_context(_walks(args))
            args.beside = args.walks.pids
        yield


def _walks(args: Namespace) -> TreeWalks:
    """The walks, under way, along with contents if there is nothing to compare them with."""
    specs = parse_specs(tuple(args.specs))
    with ExitStack() as stack:
        walks = TreeWalks(specs, _rules(args), Walker.PROCESS, ready=args.ready_walk)
        args.ready_walk = None
        stack.enter_context(walks)
        if not args.dry_run and args.change_detection != ChangeDetection.LEGACY:
            from holdfast.cli import selection
            from holdfast.datastore import layout  # loads less than the store does

            base = os.path.realpath(selection.store_settings(args).path)
            if not layout.has_real_directory(base, _group(args).path):
                walks.want_contents()
        stack.pop_all()
    return walks


def _rules(args: Namespace) -> WalkRules:
    return WalkRules(
        patterns=tuple(os.fsencode(pattern) for pattern in args.exclude),
        all_file_systems=args.all_file_systems,
    )


def _group(args: Namespace) -> GroupId:
    from holdfast.cli import selection
    from holdfast.host import process

    identifier = args.id or process.node_name()
    return GroupId(BackupType(args.type), identifier, selection.namespace(args))


def run(args: Namespace, console: Console) -> int:
    """Make the snapshot, or say what it would be."""
    from holdfast.cli import selection
    from holdfast.operations.backup import back_up, preview

    store = selection.open_to_read(args) if args.dry_run else selection.open_to_write(args)
    with ExitStack() as stack:
        walks: TreeWalks | None = args.walks
        request = _request(args, console)
        if walks is not None and walks.age_s() > _STALE_AFTER_S:
            walks.close()
            walks = None
        walks = walks or stack.enter_context(_walks(args))
        progress = stack.enter_context(console.progress())
        operation = preview if args.dry_run else back_up
        outcome = operation(store, request, progress, walks=walks)
    if args.json:
        console.document(_document(outcome))
    else:
        _tell(outcome, console)
    return DamagedData.exit_code if outcome.passed_verification is False else EXIT_OK


def _request(args: Namespace, console: Console) -> "BackupRequest":
    from holdfast.chunking.cutters import Chunker
    from holdfast.cli import key_source, selection
    from holdfast.datastore.manifest import CryptMode
    from holdfast.datastore.session import SessionSettings
    from holdfast.operations.backup import BackupRequest
    from holdfast.upid import Upid

    key = key_source.load_key(args)
    size = args.chunk_size
    if not 64 <= size <= 4096 or size.bit_count() != 1:  # noqa: PLR2004  # limits of the format
        raise BadRequest(f"--chunk-size {size}: wants a power of two from 64 to 4096")
    settings = SessionSettings(
        key=key,
        crypt_mode=CryptMode.NONE if key is None else CryptMode.ENCRYPT,
        chunker=Chunker(args.chunker),
        chunk_mean=size * KIB,
        level=_level(args.compression),
        wrapped_key=key_source.wrapped_key(args, key),
    )
    store_options = selection.store_settings(args).options
    task = console.task
    group = _group(args)
    upid = Upid.for_this_process("verify_snapshot", str(group)) if task is None else task.upid
    return BackupRequest(
        specs=parse_specs(tuple(args.specs)),
        group=group,
        time_s=None if args.time is None else _time(args.time),
        settings=settings,
        rules=_rules(args),
        detection=ChangeDetection(args.change_detection),
        comment=args.comment,
        verify_upid=str(upid) if args.verify or store_options.verify_new else None,
    )


def _time(text: str) -> int:
    return int(text) if text.isdecimal() else name_to_epoch(text)


def _level(text: str) -> int | None:
    if text == "none":
        return None
    if text.isdecimal() and int(text) in _LEVELS:
        return int(text)
    raise BadRequest(f"--compression {text}: wants a level from 1 to 19, or none")


def _document(outcome: "BackupOutcome") -> dict[str, object]:
    return {
        "snapshot": str(outcome.snapshot),
        "base": None if outcome.base is None else str(outcome.base),
        "dry_run": outcome.is_dry_run,
        "archives": [
            {
                "name": archive.name,
                "size": archive.size,
                "chunks": archive.chunks,
                "new_chunks": archive.new_chunks,
                "new_bytes": archive.new_bytes,
                "stored_bytes": archive.stored_bytes,
                "reused_bytes": archive.reused_bytes,
                "files": archive.files,
                "changed_files": archive.changed_files,
            }
            for archive in outcome.archives
        ],
        "duration_s": round(outcome.duration_s, 3),
        "warnings": list(outcome.warnings),
        "verified": outcome.passed_verification,
    }


def _tell(outcome: "BackupOutcome", console: Console) -> None:
    from holdfast.cli import plain_text

    for archive in outcome.archives:
        is_tree = archive.name.endswith(SpecKind.TREE.value)
        files = f", {archive.files:,} files, {archive.changed_files:,} of them read"
        console.remark(
            f"{archive.name}: {plain_text.size_text(archive.size)}"
            f"{files if is_tree else ''}, {plain_text.size_text(archive.stored_bytes)} stored"
        )
    if outcome.is_dry_run:
        console.remark(f"would make {outcome.snapshot} (nothing was stored)")
        return
    console.data(str(outcome.snapshot))
    if outcome.passed_verification is False:
        console.warning(f"{outcome.snapshot} was verified and is damaged")
