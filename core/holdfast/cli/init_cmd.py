"""`holdfast init`: make a store and remember it in the configuration."""

import os
from argparse import ArgumentParser, Namespace

from holdfast.cli.console import Console
from holdfast.config.stores import KEEP_NAMES
from holdfast.datastore import key_files
from holdfast.datastore.options import ChunkOrder, SyncLevel
from holdfast.errors import EXIT_OK, ReadOnlyViolation
from holdfast.operations.init_store import InitRequest, init_store


def add_arguments(parser: ArgumentParser) -> None:
    """Where, and what the configuration says of it."""
    parser.add_argument("path", metavar="PATH", help="a new or empty directory")
    parser.add_argument("--name", help="what to call it (default: the directory's name)")
    parser.add_argument(
        "--adopt", action="store_true", help="the store is there already: only remember it"
    )
    parser.add_argument(
        "--chunk-order",
        choices=[order.value for order in ChunkOrder],
        help="in which order chunks are read again (default: inode)",
    )
    parser.add_argument(
        "--sync-level",
        choices=[level.value for level in SyncLevel],
        help="when written data is forced onto the disk (default: filesystem)",
    )
    parser.add_argument(
        "--verify-new", action="store_true", help="verify every backup right after it is made"
    )
    for name in KEEP_NAMES:
        parser.add_argument(
            f"--keep-{name}", type=int, metavar="N", help=f"prune keeps N {name} snapshots"
        )


def run(args: Namespace, console: Console) -> int:
    """Make it."""
    if args.read_only:
        raise ReadOnlyViolation("`init` makes a store, and read-only was asked for")
    options: dict[str, str | int | bool] = {}
    if args.chunk_order is not None:
        options["chunk-order"] = args.chunk_order
    if args.sync_level is not None:
        options["sync-level"] = args.sync_level
    if args.verify_new:
        options["verify-new"] = True
    if args.keyfile:
        key_files.load(args.keyfile)
        options["keyfile"] = os.path.abspath(args.keyfile)
    for name in KEEP_NAMES:
        if (count := getattr(args, f"keep_{name}")) is not None:
            options[f"keep-{name}"] = count
    request = InitRequest(
        path=args.path, config=args.config, name=args.name, options=options, adopts=args.adopt
    )
    with console.progress() as progress:
        outcome = init_store(request, progress)
    if args.json:
        console.document({"store": outcome.name, "path": outcome.path, "config": args.config})
    else:
        console.remark(f"store {outcome.name} is ready in {outcome.path}, see {args.config}")
    return EXIT_OK
