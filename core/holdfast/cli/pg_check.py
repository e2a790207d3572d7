"""`holdfast pg check`: whether a cluster can be recovered, to which moments, and what is wrong."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from holdfast.cli import pg_cluster, selection
from holdfast.cli.pg_list import record, window_lines
from holdfast.errors import EXIT_OK, EXIT_WARNINGS, DamagedData

if TYPE_CHECKING:
    from holdfast.cli.console import Console


def add_arguments(parser: ArgumentParser) -> None:
    pg_cluster.add_arguments(parser)


def run(args: Namespace, console: "Console") -> int:
    with pg_cluster.opened_stage(args) as stage:
        store = selection.open_to_read(args)
        status = pg_cluster.status_of(args, store, stage)
    if args.json:
        document = record(status)
        document["problems"] = [
            {"severity": one.severity.value, "text": one.text} for one in status.problems
        ]
        console.document(document)
    else:
        for line in window_lines(status):
            console.data(line)
        for problem in status.problems:
            console.data(f"{problem.severity.value}: {problem.text}")
        if not status.problems:
            console.data("nothing is wrong")
    if status.is_damaged:
        return DamagedData.exit_code
    return EXIT_WARNINGS if status.problems else EXIT_OK
