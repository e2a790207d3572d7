"""`holdfast pg drill`: restore a base backup somewhere, recover it, check it, write that down."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from holdfast.cli import key_source, selection
from holdfast.cli.pg_restore import add_target, base_snapshot, recovery_of, recovery_target
from holdfast.errors import EXIT_OK, EXIT_WARNINGS, DamagedData

if TYPE_CHECKING:
    from holdfast.cli.console import Console


def add_arguments(parser: ArgumentParser) -> None:
    """Which backup, how far, and where."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="host/CLUSTER or host/CLUSTER/TIME")
    add_target(parser)
    parser.add_argument("--scratch", default="", metavar="DIR", help="where to restore for a while")
    parser.add_argument(
        "--programs", default="", metavar="DIR", help="of the server (postgres, pg_amcheck ...)"
    )
    parser.add_argument(
        "--user", default="postgres", metavar="ROLE", help="a superuser of the cluster"
    )
    parser.add_argument(
        "--wait", default="3600", metavar="SECONDS", help="how long recovery may take"
    )


def run(args: Namespace, console: "Console") -> int:
    """Do it; exit code 20 when the backup did not stand the test, 3 when a check was left out."""
    from holdfast.operations.pg_drill import DrillRequest, check_wait, drill

    store = selection.open_to_read(args) if args.read_only else selection.open_to_write(args)
    target = recovery_target(args)
    snapshot = base_snapshot(store, args, target)
    request = DrillRequest(
        snapshot=snapshot,
        recovery=recovery_of(store, snapshot, args, target, action="promote"),
        scratch=args.scratch,
        programs=args.programs,
        user=args.user,
        wait_s=check_wait(args.wait),
        records=not args.read_only,
        key=key_source.load_key(args),
    )
    result = drill(store, request, console.progress())
    if args.json:
        console.document({"snapshot": str(snapshot), **result.to_json()})
    else:
        console.data(
            f"{snapshot}: recovered until {result.recovered_until or 'the backup itself'}"
            f" ({result.recovered_lsn or 'nowhere'}) in {result.duration_s:.1f} s"
        )
        console.lines([(name, text) for name, text in result.checks.items()])
    if result.has_failed:
        failed = [name for name, text in result.checks.items() if not text.startswith("ok")]
        if args.json:
            return DamagedData.exit_code
        raise DamagedData(str(snapshot), f"it did not stand the test of {', '.join(failed)}")
    return EXIT_WARNINGS if result.has_skipped else EXIT_OK
