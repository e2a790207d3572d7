"""`holdfast forget`: remove snapshots; gc frees their space afterwards."""

from argparse import ArgumentParser, Namespace

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK
from holdfast.operations.forget import ForgetOutcome, ForgetRequest, forget, remove


def add_arguments(parser: ArgumentParser) -> None:
    """One snapshot or several."""
    parser.add_argument(
        "snapshot",
        metavar="SNAPSHOT",
        nargs="+",
        help="TYPE/ID/TIME; TYPE/ID is the newest of a group; also several",
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what it would free")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: Namespace, console: Console) -> int:
    """Show what would be freed, ask, and do it."""
    store = selection.open_to_read(args) if args.dry_run else selection.open_to_write(args)
    snapshots = [selection.snapshot(store, args, text) for text in args.snapshot]
    with console.progress() as progress:
        preview = forget(ForgetRequest(store=store, snapshots=snapshots), progress)
    if not args.dry_run:
        groups = sorted({snapshot.group.id for snapshot in snapshots})
        console.confirm(
            f"forget {_names(preview)}, {_amount(preview)}",
            yes=args.yes,
            word=groups[0] if len(groups) == 1 else str(len(preview.snapshots)),
        )
        with console.progress() as progress:
            remove(store, preview.snapshots, progress)
    if args.json:
        names = [str(snapshot) for snapshot in preview.snapshots]
        console.document(
            {
                "snapshot": names[0],
                "snapshots": names,
                "dry_run": args.dry_run,
                "freed_bytes": preview.freed_bytes,
                "freed_chunks": preview.chunk_count,
            }
        )
    elif args.dry_run:
        console.remark(f"would forget {_names(preview)}, {_amount(preview)}")
    else:
        verb = "is" if len(preview.snapshots) == 1 else "are"
        console.remark(
            f"{_names(preview)} {verb} forgotten, {_amount(preview)}; `holdfast gc` frees the chunks"
        )
    return EXIT_OK


def _names(outcome: ForgetOutcome) -> str:
    names = outcome.snapshots
    return str(names[0]) if len(names) == 1 else f"{len(names)} snapshots"


def _amount(outcome: ForgetOutcome) -> str:
    freed = plain_text.size_text(outcome.freed_bytes)
    whose = "its" if len(outcome.snapshots) == 1 else "theirs"
    return (
        f"{freed} are {whose} alone ({outcome.freed_bytes:,} bytes, {outcome.chunk_count:,} chunks)"
    )
