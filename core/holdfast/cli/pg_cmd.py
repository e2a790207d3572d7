"""`holdfast pg`: PostgreSQL clusters. Each verb is a module of its own, `pg_<verb>.py`."""

import importlib
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from holdfast.cli.commands import CommandModule
    from holdfast.cli.console import Console

VERBS: Final = {
    "backup": "one base backup of a running cluster, full or relative to another",
    "restore": "a cluster back as files, told where to recover to",
    "combine": "a differential and all it builds on as one full backup",
    "export": "a base backup as a tar, which xdelta3 can apply",
    "list": "base backups, and the moments that can be recovered to",
    "check": "whether a cluster can be recovered, and what stands in the way",
    "prune": "forget bases by a policy, and the WAL that none of the kept needs",
    "drill": "restore a backup aside, recover and check it, write down that it went",
}


def _module(verb: str) -> "CommandModule":
    return cast("CommandModule", importlib.import_module(f"holdfast.cli.pg_{verb}"))


def add_arguments(parser: ArgumentParser) -> None:
    """One verb each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, summary in VERBS.items():
        _module(verb).add_arguments(verbs.add_parser(verb, help=summary))


def run(args: Namespace, console: "Console") -> int:
    """Do what the verb says."""
    return _module(args.verb).run(args, console)
