"""Global options, their environment variables, and the parser of one chosen command.

Global options may stand before the command or after it. The command is the first word that is
neither an option nor an option's value, so only its module has to be imported.
"""

import argparse
import functools
import os
from collections.abc import Sequence
from typing import Final, NoReturn

from holdfast.cli import journaled
from holdfast.cli.commands import Command
from holdfast.errors import BadRequest

VALUE_OPTIONS: Final = {
    "-s": "store",
    "--store": "store",
    "--ns": "ns",
    "--config": "config",
    "--state-dir": "state_dir",
    "--keyfile": "keyfile",
}
FLAGS: Final = frozenset(
    {"--read-only", "--json", "-q", "--quiet", "-v", "-vv", "--verbose", "--no-color"}
)
ENVIRONMENT: Final = {
    "store": "HOLDFAST_STORE",
    "ns": "HOLDFAST_NS",
    "config": "HOLDFAST_CONFIG",
    "state_dir": "HOLDFAST_STATE_DIR",
    "keyfile": "HOLDFAST_KEYFILE",
}
RAW_EPILOG: Final = argparse.RawDescriptionHelpFormatter
# For the check of each added option; measuring the terminal for it loads more than it is worth.
_UNMEASURED: Final = functools.partial(argparse.HelpFormatter, width=80)
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


class Parser(argparse.ArgumentParser):
    """Complains by raising BadRequest instead of leaving the program."""

    def error(self, message: str) -> NoReturn:
        raise BadRequest(message, hint=f"see `{self.prog} --help`")


def split_command(words: Sequence[str]) -> tuple[list[str], str | None, list[str]]:
    """Global options, the command's name (None when there is none), and what follows it.

    Raises:
        BadRequest: an option before the command that is not a global one.
    """
    at = 0
    while at < len(words):
        word = words[at]
        if not word.startswith("-") or word == "-":
            return list(words[:at]), word, list(words[at + 1 :])
        if word in VALUE_OPTIONS:
            at += 2
        elif word in FLAGS or word.partition("=")[0] in VALUE_OPTIONS or word.startswith("-s"):
            at += 1
        elif word in ("-h", "--help", "--version"):
            return list(words[:at]), None, list(words[at:])
        else:
            raise BadRequest(f"there is no global option {word}", hint="see `holdfast --help`")
    return list(words), None, []


def add_global_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command; none has a default, complete() fills in what was not said."""
    group = parser.add_argument_group("global options")
    missing = argparse.SUPPRESS
    group.add_argument(
        "-s",
        "--store",
        default=missing,
        metavar="NAME|PATH",
        help="a store from the configuration, or a directory (HOLDFAST_STORE)",
    )
    group.add_argument("--ns", default=missing, help="namespace, such as prod/eu (HOLDFAST_NS)")
    group.add_argument(
        "--config", default=missing, metavar="FILE", help="configuration (HOLDFAST_CONFIG)"
    )
    group.add_argument(
        "--state-dir", default=missing, metavar="DIR", help="task journal (HOLDFAST_STATE_DIR)"
    )
    group.add_argument(
        "--keyfile", default=missing, metavar="FILE", help="encryption key (HOLDFAST_KEYFILE)"
    )
    group.add_argument(
        "--read-only",
        action="store_true",
        default=missing,
        help="write nothing in the store or the state directory (HOLDFAST_READ_ONLY=1)",
    )
    group.add_argument(
        "--json", action="store_true", default=missing, help="one JSON document on stdout"
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", default=missing, help="errors and warnings only"
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=missing,
        help="say more; -vv shows tracebacks",
    )
    group.add_argument(
        "--no-color", action="store_true", default=missing, help="no colours (NO_COLOR)"
    )
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to its verbs
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for verb in dict.fromkeys(action.choices.values()):
                add_global_options(verb)


def parser_of(command: Command, name: str | None = None) -> Parser:
    """The parser of one command, its module's arguments and the global options included."""
    parser = Parser(
        prog=f"holdfast {name or command.name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        formatter_class=_UNMEASURED,
        allow_abbrev=False,
    )
    command.load().add_arguments(parser)
    journaled.add_arguments(parser, command.name)
    add_global_options(parser)
    parser.formatter_class = argparse.HelpFormatter
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; options may stand between positional words (BadRequest)."""
    has_verbs = any(
        action.nargs in (argparse.PARSER, argparse.REMAINDER)
        for action in parser._actions  # noqa: SLF001
    )
    if has_verbs:
        args = parser.parse_args(words)
    else:
        if not any(map(_may_ask_for_help, words)):
            parser.usage = ""  # mixed parsing lays it out for messages that `error` does not print
        args = parser.parse_intermixed_args(words)
    complete(args)
    return args


def _may_ask_for_help(word: str) -> bool:
    return word == "--help" or (word.startswith("-") and word[1:2] != "-" and "h" in word)


def complete(args: argparse.Namespace) -> None:
    """Fill in global options from the environment, then with their defaults (BadRequest)."""
    for name, variable in ENVIRONMENT.items():
        if not hasattr(args, name):
            setattr(args, name, os.environ.get(variable) or None)
    if not hasattr(args, "read_only"):
        args.read_only = _truth("HOLDFAST_READ_ONLY")
    for name in ("json", "quiet"):
        if not hasattr(args, name):
            setattr(args, name, False)
    if not hasattr(args, "verbose"):
        args.verbose = 0
    if not hasattr(args, "no_color"):
        args.no_color = bool(os.environ.get("NO_COLOR"))
    args.config = args.config or default_config_path()
    args.state_dir = args.state_dir or default_state_directory()


def _truth(variable: str) -> bool:
    text = os.environ.get(variable, "").lower()
    if text not in _TRUE | _FALSE:
        raise BadRequest(f"{variable}={text} is neither yes nor no", hint="set it to 1 or 0")
    return text in _TRUE


def _home_directory(variable: str, below_home: str) -> str:
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # the XDG rule: relative values are ignored
        base = os.path.join(os.path.expanduser("~"), below_home)
    return os.path.join(base, "holdfast")


def default_config_path() -> str:
    if os.geteuid() == 0:
        return "/etc/holdfast/config.toml"
    return os.path.join(_home_directory("XDG_CONFIG_HOME", ".config"), "config.toml")


def default_state_directory() -> str:
    if os.geteuid() == 0:
        return "/var/lib/holdfast"
    return _home_directory("XDG_STATE_HOME", ".local/state")
