"""`holdfast prune`: forget snapshots by a retention policy."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.config.stores import KEEP_NAMES, Keep
from holdfast.datastore.retention import RetentionPolicy
from holdfast.errors import EXIT_OK, BadRequest
from holdfast.ids import SnapshotId
from holdfast.operations.prune import PrunePlan, PruneRequest, carry_out, plan


def add_arguments(parser: ArgumentParser) -> None:
    """The policy, and whether to look only."""
    parser.add_argument(
        "group", nargs="?", metavar="GROUP", help="TYPE/ID; every group if left out"
    )
    add_keep_arguments(parser)
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would go and why")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def add_keep_arguments(parser: ArgumentParser) -> None:
    """The rules of a retention policy."""
    for name in KEEP_NAMES:
        parser.add_argument(
            f"--keep-{name}", type=count, metavar="N", help=f"keep the newest N {_OF[name]}"
        )


_OF = {
    "last": "snapshots",
    "hourly": "hours that have one",
    "daily": "days",
    "weekly": "ISO weeks",
    "monthly": "months",
    "yearly": "years",
}


def count(text: str) -> int:
    """A number of snapshots or days (ArgumentTypeError)."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004
        raise ArgumentTypeError(f"{text!r} is no number of snapshots")
    return int(text)


def run(args: Namespace, console: Console) -> int:
    """Show every decision with its reason, ask, and remove."""
    settings = selection.store_settings(args)
    policy = policy_of(args, settings.keep)
    store = selection.open_to_read(args) if args.dry_run else selection.open_to_write(args)
    request = PruneRequest(
        store=store, ns=selection.namespace(args), policy=policy, group=args.group
    )
    with console.progress() as progress:
        planned = plan(request, progress)
    stayed: set[SnapshotId] = set()
    if planned.removals and not args.dry_run:
        if not args.json:
            _tell(console, planned)
        console.confirm(_summary(planned, "forget"), yes=args.yes)
        with console.progress() as progress:
            outcome = carry_out(store, planned, progress)
        stayed = {one.snapshot for one in outcome.refused}
    elif not args.json:
        _tell(console, planned)
    if args.json:
        console.document(_record(planned, stayed))
    else:
        console.remark(_summary(planned, "would forget" if args.dry_run else "forgot"))
    return EXIT_OK


def policy_of(args: Namespace, configured: Keep) -> RetentionPolicy:
    """The options', or if there is none the configuration's (BadRequest without either)."""
    said = {name: getattr(args, f"keep_{name}") for name in KEEP_NAMES}
    if all(count is None for count in said.values()):
        said = {name: getattr(configured, name) for name in KEEP_NAMES}
    if all(count is None for count in said.values()):
        raise BadRequest(
            "no retention rule is given, and the store's configuration has none",
            hint="say for example --keep-daily 7 --keep-weekly 4",
        )
    return RetentionPolicy(**{f"keep_{name}": count for name, count in said.items()})


def _record(planned: PrunePlan, stayed: set[SnapshotId]) -> list[dict[str, object]]:
    return [
        {
            "snapshot": str(one.snapshot),
            "ns": str(one.snapshot.ns),
            "keep": one.keeps or one.snapshot in stayed,
            "mark": one.mark.value,
            "reason": "in use or protected meanwhile" if one.snapshot in stayed else one.reason,
            "freed_bytes": (
                0 if one.keeps or one.snapshot in stayed else planned.freed_bytes(one.snapshot)
            ),
        }
        for one in planned.decisions
    ]


def _tell(console: Console, planned: PrunePlan) -> None:
    rows = []
    for one in planned.decisions:
        freed = None if one.keeps else planned.freed_bytes(one.snapshot)
        rows.append(
            (
                one.mark.value,
                f"{one.snapshot.ns}: {one.snapshot}"
                if one.snapshot.ns.parts
                else f"{one.snapshot}",
                one.reason,
                "" if freed is None else plain_text.size_text(freed),
            )
        )
    console.lines(rows, right=(3,))


def _summary(planned: PrunePlan, verb: str) -> str:
    text = f"{verb} {len(planned.removals)} of {len(planned.decisions)} snapshots"
    if planned.freed is None or not planned.removals:
        return text
    freed = planned.freed.total_bytes
    return f"{text}; gc can then free {plain_text.size_text(freed)} ({freed:,} bytes)"
