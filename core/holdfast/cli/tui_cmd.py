"""`holdfast tui`: the full-screen view. The only command that loads Textual."""

import os
from argparse import ArgumentParser, Namespace
from typing import Final

from holdfast.cli import arguments
from holdfast.cli.console import Console

THEMES: Final = ("harbour", "ember", "paper", "ansi", "mono")


def add_arguments(parser: ArgumentParser) -> None:
    """How it looks, and what it may show."""
    parser.add_argument(
        "--no-content", action="store_true", help="show no names or contents of backed up files"
    )
    parser.add_argument(
        "--ascii", action="store_true", help="only ASCII letters, for terminals without Unicode"
    )
    parser.add_argument(
        "--slow", action="store_true", help="for slow lines: repaint and look less often"
    )
    parser.add_argument(
        "--theme", choices=THEMES, default="", help="colours (default: what the terminal can show)"
    )


def run(args: Namespace, console: Console) -> int:
    """Run it until the person leaves."""
    del console
    from holdfast_tui.launch import launch
    from holdfast_tui.options import Options

    return launch(
        Options(
            config=args.config,
            state_dir=args.state_dir,
            store=args.store,
            ns=args.ns or "",
            keyfile=args.keyfile,
            read_only=_read_only(args),
            no_content=args.no_content,
            theme=args.theme,
            ascii=args.ascii,
            slow=args.slow,
            no_color=args.no_color,
            default_config=arguments.default_config_path(),
            default_state_dir=arguments.default_state_directory(),
            environment={"NO_COLOR": "1"} if args.no_color else {},
        )
    )


def _read_only(args: Namespace) -> str:
    if not args.read_only:
        return ""
    by_variable = bool(os.environ.get("HOLDFAST_READ_ONLY"))
    return "HOLDFAST_READ_ONLY is set" if by_variable else "started with --read-only"
