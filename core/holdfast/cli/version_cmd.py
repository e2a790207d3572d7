"""`holdfast version`."""

from argparse import ArgumentParser, Namespace

import holdfast
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""
    del parser


def run(args: Namespace, console: Console) -> int:
    """Print the version."""
    if args.json:
        console.document({"version": holdfast.__version__})
    else:
        console.data(f"holdfast {holdfast.__version__}")
    return EXIT_OK
