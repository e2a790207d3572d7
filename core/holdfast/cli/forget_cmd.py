"""`holdfast forget`: remove one snapshot; gc frees its space afterwards."""

from argparse import ArgumentParser, Namespace

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK
from holdfast.operations.forget import ForgetMode, ForgetOutcome, ForgetRequest, forget


def add_arguments(parser: ArgumentParser) -> None:
    """One snapshot."""
    parser.add_argument(
        "snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME; TYPE/ID is the newest of a group"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what it would free")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: Namespace, console: Console) -> int:
    """Show what would be freed, ask, and do it."""
    store = selection.open_to_read(args) if args.dry_run else selection.open_to_write(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    with console.progress() as progress:
        preview = forget(ForgetRequest(store=store, snapshot=snapshot), progress)
    if not args.dry_run:
        console.confirm(
            f"forget {snapshot}, {_amount(preview)}",
            yes=args.yes,
            word=snapshot.group.id,
        )
        request = ForgetRequest(store=store, snapshot=snapshot, mode=ForgetMode.FORGET)
        with console.progress() as progress:
            forget(request, progress)
    if args.json:
        console.document(
            {
                "snapshot": str(snapshot),
                "dry_run": args.dry_run,
                "freed_bytes": preview.freed_bytes,
                "freed_chunks": preview.chunk_count,
            }
        )
    elif args.dry_run:
        console.remark(f"would forget {snapshot}, {_amount(preview)}")
    else:
        console.remark(
            f"{snapshot} is forgotten, {_amount(preview)}; `holdfast gc` frees the chunks"
        )
    return EXIT_OK


def _amount(outcome: ForgetOutcome) -> str:
    freed = plain_text.size_text(outcome.freed_bytes)
    return f"{freed} are its alone ({outcome.freed_bytes:,} bytes, {outcome.chunk_count:,} chunks)"
