"""`holdfast unprotect`: allow a snapshot to be forgotten again."""

from argparse import Namespace

from holdfast.cli import protect_cmd
from holdfast.cli.console import Console

add_arguments = protect_cmd.add_arguments


def run(args: Namespace, console: Console) -> int:
    """Take the mark away."""
    return protect_cmd.set_protection(args, console, wanted=False)
