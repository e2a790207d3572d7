"""`holdfast pg prune`: forget base backups by a policy, and the WAL that none of the kept needs."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from holdfast.cli import pg_cluster, prune_cmd, selection
from holdfast.errors import EXIT_OK, Refused

if TYPE_CHECKING:
    from holdfast.cli.console import Console

_DAY_S: Final = 86_400


def add_arguments(parser: ArgumentParser) -> None:
    pg_cluster.add_arguments(parser)
    prune_cmd.add_keep_arguments(parser)
    parser.add_argument(
        "--pitr-days",
        type=prune_cmd.count,
        metavar="N",
        help="every moment of the last N days stays recoverable (default: as far as bases go)",
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would go and why")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: Namespace, console: "Console") -> int:
    from holdfast.operations.pg_prune import PgPruneRequest, carry_out, plan

    with pg_cluster.opened_stage(args):
        policy = prune_cmd.policy_of(args, selection.store_settings(args).keep)
        store = selection.open_to_read(args) if args.dry_run else selection.open_to_write(args)
        status = pg_cluster.status_of(args, store, None)
    pitr_s = None if args.pitr_days is None else args.pitr_days * _DAY_S
    request = PgPruneRequest(store=store, status=status, policy=policy, pitr_s=pitr_s)
    decisions = plan(request)
    if not any(one.keeps and one.snapshot.group != status.catalogue.group for one in decisions):
        raise Refused(
            "the policy keeps no base backup at all: nothing could be recovered",
            hint="keep at least one, for example with --keep-last 1",
        )
    gone = [one for one in decisions if not one.keeps]
    if args.json:
        console.document(
            [
                {"snapshot": str(one.snapshot), "keep": one.keeps, "reason": one.reason}
                for one in decisions
            ]
        )
    else:
        console.lines(
            [
                ("keep" if one.keeps else "remove", str(one.snapshot), one.reason)
                for one in decisions
            ]
        )
    if gone and not args.dry_run:
        console.confirm(f"forget {len(gone)} of {len(decisions)} snapshots", yes=args.yes)
        with console.progress() as progress:
            carry_out(store, decisions, status.catalogue.group, progress)
    return EXIT_OK
