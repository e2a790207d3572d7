"""`holdfast completion`: what a shell needs to complete commands and options.

Generated from the parsers, so it cannot lag behind them. Values that name files are left to the
shell; nothing is opened or run while completing.
"""

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.cli import arguments, commands
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK

_SHELLS: Final = ("bash", "zsh", "fish")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command.

    Attributes:
        names: as typed, `-n`, `--dry-run`.
        takes_value: the next word belongs to it.
        choices: its only values, if there are such.
    """

    names: tuple[str, ...]
    summary: str
    takes_value: bool
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommandWords:
    """What may follow one command."""

    names: tuple[str, ...]
    summary: str
    words: tuple[str, ...]
    options: tuple[Option, ...]


def add_arguments(parser: ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=_SHELLS, help="write the result where your shell looks")


def run(args: Namespace, console: Console) -> int:
    """Print the script."""
    script = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}[args.shell](describe())
    if args.json:
        console.document({"shell": args.shell, "script": script})
    else:
        console.data(script.rstrip("\n"))
    return EXIT_OK


def describe() -> list[CommandWords]:
    """Every command with the words and options of its parser."""
    found = []
    for command in commands.built():
        parser = arguments.parser_of(command)
        options = {option.names: option for option in _options(parser)}
        found.append(
            CommandWords(
                names=(command.name, *command.aliases),
                summary=command.summary,
                words=tuple(dict.fromkeys(_words(parser))),
                options=tuple(options.values()),
            )
        )
    return found


def _words(parser: ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001  # argparse shows its actions to nobody
        if not action.option_strings and action.choices is not None:
            yield from (str(choice) for choice in action.choices)


def _options(parser: ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:  # noqa: SLF001
        if action.option_strings and action.help != argparse.SUPPRESS:
            yield Option(
                names=tuple(action.option_strings),
                summary=(action.help or "").replace("%%", "%"),
                takes_value=action.nargs != 0,
                choices=tuple(str(choice) for choice in action.choices or ()),
            )
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for verb in dict.fromkeys(action.choices.values()):
                yield from _options(verb)


def bash_script(found: list[CommandWords]) -> str:
    """For `/etc/bash_completion.d` or `source <(holdfast completion bash)`."""
    names = " ".join(name for command in found for name in command.names)
    with_value = " | ".join(
        sorted(arguments.VALUE_OPTIONS, key=lambda name: (name.lstrip("-"), name))
    )
    cases = []
    for command in found:
        options = " ".join(name for option in command.options for name in option.names)
        cases.append(
            f"        {' | '.join(command.names)})\n"
            f'            options="{options}"\n'
            f'            words="{" ".join(command.words)}"\n'
            f"            choices=({_bash_choices(command)})\n"
            "            ;;\n"
        )
    return _BASH.format(names=names, with_value=with_value, cases="".join(cases))


def _bash_choices(command: CommandWords) -> str:
    pairs = [
        f'"{name}={" ".join(option.choices)}"'
        for option in command.options
        if option.choices
        for name in option.names
    ]
    return " ".join(pairs)


_BASH: Final = """\
# holdfast completion for bash
_holdfast() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command="" at options="" words="" pair
    local -a choices=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${{COMP_WORDS[at]}} in
        {with_value}) ((at++)) ;;
        -*) ;;
        *)
            command=${{COMP_WORDS[at]}}
            break
            ;;
        esac
    done
    case $command in
        "")
            words="{names}"
            options="-s --store --ns --config --state-dir --keyfile --read-only --json -q -v --help"
            ;;
{cases}    esac
    for pair in "${{choices[@]}}"; do
        if [[ $previous == "${{pair%%=*}}" ]]; then
            mapfile -t COMPREPLY < <(compgen -W "${{pair#*=}}" -- "$current")
            return
        fi
    done
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    elif [[ -n $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    fi
}}
complete -o default -F _holdfast holdfast
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def zsh_script(found: list[CommandWords]) -> str:
    """For a file `_holdfast` in a directory of `$fpath`."""
    lines = ["#compdef holdfast", "", "_holdfast() {", "    local -a commands", "    commands=("]
    for command in found:
        lines += [f"        {_quoted(f'{name}:{command.summary}')}" for name in command.names]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe command commands",
        "        return",
        "    fi",
        "    case $words[2] in",
    ]
    for command in found:
        lines += [f"        {'|'.join(command.names)})", "            _arguments -S \\"]
        lines += [f"                {_zsh_option(option)} \\" for option in command.options]
        rest = f"*:word:({' '.join(command.words)})" if command.words else "*:file:_files"
        lines += [f"                {_quoted(rest)}", "            ;;"]
    lines += ["    esac", "}", "", '_holdfast "$@"']
    return "\n".join(lines) + "\n"


def _zsh_option(option: Option) -> str:
    summary = option.summary
    for special in ("\\", "[", "]", ":"):
        summary = summary.replace(special, "\\" + special)
    value = ""
    if option.takes_value:
        value = f":value:({' '.join(option.choices)})" if option.choices else ":value:_files"
    return " ".join(_quoted(f"*{name}[{summary}]{value}") for name in option.names)


def fish_script(found: list[CommandWords]) -> str:
    """For `~/.config/fish/completions/holdfast.fish`."""
    lines = ["# holdfast completion for fish"]
    for command in found:
        lines += [
            f"complete -c holdfast -n __fish_use_subcommand -f -a {name} -d {_quoted(command.summary)}"
            for name in command.names
        ]
        seen = f"'__fish_seen_subcommand_from {' '.join(command.names)}'"
        if command.words:
            lines.append(f"complete -c holdfast -n {seen} -f -a {_quoted(' '.join(command.words))}")
        lines += [
            f"complete -c holdfast -n {seen} {_fish_option(option)}" for option in command.options
        ]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
        for name in option.names
        if name.startswith("--") or len(name) == len("-x")
    ]
    if option.takes_value:
        parts.append("-r")
    if option.choices:
        parts.append(f"-f -a {_quoted(' '.join(option.choices))}")
    return " ".join([*parts, f"-d {_quoted(option.summary)}"])
