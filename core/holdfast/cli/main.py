"""The `holdfast` command: from words to one command's exit code.

Start-up time is part of the contract, so this module imports next to nothing, and only the chosen
command's module is loaded.
"""

import os
import sys
from argparse import Namespace
from typing import Final

from holdfast.cli import arguments, commands, journaled, signals
from holdfast.cli.console import Console, OutputClosed
from holdfast.cli.ready_walk import ready_walk
from holdfast.errors import EXIT_OK, EXIT_WARNINGS, BadRequest, HoldfastError, Stopped

_TRACEBACK_VERBOSITY: Final = 2
_FAILED: Final = 1


def main(words: list[str] | None = None) -> int:
    """Run one command; its exit code. Only -vv ever shows a traceback."""
    words = sys.argv[1:] if words is None else words
    _escape_what_the_streams_cannot_write()
    console = Console(_before_parsing(words))
    try:
        code = _dispatch(words)
        console.flush()
    except OutputClosed as error:
        return error.exit_code
    except KeyboardInterrupt as stop:
        return _report(console, Stopped(getattr(stop, "number", 2)))
    except HoldfastError as error:
        return _report(console, error)
    except SystemExit as leaving:  # --help of a command
        return leaving.code if isinstance(leaving.code, int) else EXIT_OK
    except Exception as error:  # noqa: BLE001  # the last place where a crash can become a sentence
        return _report(console, _unexpected(error))
    return code


def _before_parsing(words: list[str]) -> Namespace:
    """How to speak before the command line is understood."""
    own = words[: words.index("--")] if "--" in words else words
    return Namespace(
        json="--json" in own,
        quiet=False,
        verbose=_TRACEBACK_VERBOSITY if "-vv" in own or own.count("-v") > 1 else 0,
        no_color="--no-color" in own or bool(os.environ.get("NO_COLOR")),
    )


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        words = ["version", *words[1:]]
    before, name, rest = arguments.split_command(words)
    if name is None and "--version" in rest:
        name, rest = "version", [word for word in rest if word != "--version"]
    if name in (None, "help"):
        return _help(before, name, rest)
    assert name is not None
    command = commands.find(name)
    if command is None:
        close = commands.similar(name)
        hint = f"did you mean `{close}`?" if close else "see `holdfast --help`"
        raise BadRequest(f"there is no command {name!r}", hint=hint)
    with ready_walk(name, [*before, *rest]) as walk:
        parser = arguments.parser_of(command, name)
        signals.install()
        args = arguments.parse(parser, [*before, *rest])
        args.ready_walk = walk
        if args.read_only:
            sys.dont_write_bytecode = True  # an installation that is not compiled yet stays so
        console = Console(args)
        full_name = journaled.full_name(command.name, args)
        if journaled.is_long(full_name):
            again = [*before, command.name, *rest]
            code = journaled.run(full_name, command.load(), args, console, again)
        else:
            code = command.load().run(args, console)
    console.flush()
    return EXIT_WARNINGS if code == EXIT_OK and console.warning_count else code


def _help(before: list[str], name: str | None, rest: list[str]) -> int:
    if name == "help" and rest:
        return _dispatch([rest[0], "--help"])
    if name is None and not rest and commands.find("tui") and sys.stdin.isatty():
        return _dispatch([*before, "tui"])
    parser = arguments.Parser(
        prog="holdfast",
        usage="holdfast [GLOBAL OPTIONS] COMMAND [ARGUMENTS]",
        description="Deduplicating backups in the Proxmox Backup Server datastore format.",
        epilog=_command_list(),
        formatter_class=arguments.RAW_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    arguments.add_global_options(parser)
    if name is None and not rest:
        parser.print_help(sys.stderr)
        return BadRequest.exit_code
    parser.print_help(sys.stdout)
    return EXIT_OK


def _command_list() -> str:
    lines: list[str] = []
    group = ""
    for command in commands.built():
        if command.group != group:
            group = command.group
            lines += ["", f"{group}:"]
        name = ", ".join((command.name, *command.aliases))
        lines.append(f"  {name:<17} {command.summary}")
    return "\n".join([*lines[1:], "", "`holdfast COMMAND --help` says more about one of them."])


def _unexpected(error: Exception) -> HoldfastError:
    if isinstance(error, OSError):
        from holdfast.host.files import as_holdfast_error

        where = f" {error.filename!r}" if error.filename is not None else ""
        return as_holdfast_error(error, f"working on{where or ' the files'}")
    if isinstance(error, MemoryError):
        return HoldfastError("out of memory", hint="free memory, or give fewer --workers")
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return HoldfastError(
        f"unexpected: {what}", hint="this is a mistake in holdfast; -vv shows where it happened"
    )


def _report(console: Console, error: HoldfastError) -> int:
    if console.verbosity >= _TRACEBACK_VERBOSITY:
        import traceback

        traceback.print_exc()
    console.error(error)
    return error.exit_code


def _escape_what_the_streams_cannot_write() -> None:
    """Locales without UTF-8 and names that are none must not stop a listing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
