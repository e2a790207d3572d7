"""The guide is run: its console blocks, its options, its exit codes."""

import argparse
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from tests.harness.postgres import as_server_user, give_to_server_user
from tests.harness.postgres import bin_directory as postgres_programs
from tests.harness.program import ROOT, Program

import holdfast.errors
from holdfast.cli import arguments, commands

GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXITS = re.compile(r"#\s*exits (\d+(?: or \d+)*)\s*$")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a page, the output it shows, and the codes it may end with."""

    command: str
    expected: str
    codes: frozenset[int]


def _steps(page: Path) -> list[Step]:
    steps: list[Step] = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                exits = EXITS.search(line)
                codes = exits[1].split(" or ") if exits else ["0"]
                steps.append(Step(line[2:], "", frozenset(map(int, codes))))
            elif line == ">" or line.startswith("> "):  # a command goes on, as in a shell
                last = steps[-1]
                steps[-1] = Step(f"{last.command}\n{line[2:]}", last.expected, last.codes)
            else:
                last = steps[-1]
                steps[-1] = Step(last.command, f"{last.expected}{line}\n", last.codes)
    return steps


def _matches(expected: str, output: str) -> bool:
    """`...` stands for any text, also over several lines."""
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, output.strip(), flags=re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_guide_shows_is_what_happens(
    page: Path, quick_path: Path, request: pytest.FixtureRequest
) -> None:
    program = Program(quick_path)
    bin_directory = quick_path / ".bin"
    bin_directory.mkdir()
    wrapper = bin_directory / "holdfast"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m holdfast "$@"\n')
    wrapper.chmod(0o755)
    script, marks = ["trap 'kill $(jobs -p) 2>/dev/null' EXIT", "cd " + str(quick_path)], []
    for number, step in enumerate(_steps(page)):
        mark = f"=={number}-of-{page.stem}=="
        marks.append(mark)
        # everything in one shell, so that `export` lasts; the comment may swallow a closing bracket
        script.append(f"{{ {step.command}\n}} 2>&1; code=$?; echo; echo {mark}$code")

    search = [str(bin_directory), program.environment["PATH"]]
    shell = ["bash"]
    if page.stem == "postgresql":  # servers refuse to run as root
        search.append(str(postgres_programs()))
        give_to_server_user(quick_path)
        shell = as_server_user(shell)
        request.addfinalizer(partial(_end_servers, quick_path))
    done = subprocess.run(
        shell,
        input="\n".join(script),
        env={**program.environment, "PATH": ":".join(search)},
        cwd=quick_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    rest = done.stdout
    for step, mark in zip(_steps(page), marks, strict=True):
        output, found, rest = rest.partition(mark)
        assert found, (step.command, done.stdout[-1000:], done.stderr)
        code, _newline, rest = rest.partition("\n")
        assert int(code) in step.codes, (step.command, output)
        if step.expected:
            assert _matches(step.expected, output), (step.command, step.expected, output)


def _end_servers(place: Path) -> None:
    """What a page that failed half-way left running."""
    for file in place.glob("*/postmaster.pid"):
        with suppress(OSError, ValueError):
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found.update(name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                found |= _options(verb)
    return found


@pytest.mark.parametrize("command", commands.built(), ids=lambda command: command.name)
def test_every_option_is_in_the_guide(command: commands.Command) -> None:
    guide = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

    options = _options(arguments.parser_of(command))

    missing = {option for option in options if not re.search(rf"{option}(?![\w-])", guide)}
    assert not missing
    assert f"`{command.name}" in guide
    for alias in command.aliases:
        assert f"`{alias}`" in guide


def test_every_exit_code_is_in_the_guide() -> None:
    text = (GUIDE / "commands.md").read_text(encoding="utf-8")
    kinds = [
        kind
        for kind in vars(holdfast.errors).values()
        if isinstance(kind, type) and issubclass(kind, holdfast.errors.HoldfastError)
    ]
    codes = {kind.exit_code for kind in kinds} | {0, 3, 130, 141, 143}

    missing = {code for code in codes if not re.search(rf"^\| {code} \|", text, re.MULTILINE)}

    assert not missing


def test_every_link_of_the_guide_leads_somewhere() -> None:
    pages = [*PAGES, *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"))]
    dead = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert dead == []
