"""Hooks: output into the log, exit codes heeded, time limits kept."""

import time
from pathlib import Path

import pytest
from tests.harness.processes import has_ended

from holdfast.errors import TemporaryFailure
from holdfast.jobs.hooks import HookFailed, run_hook


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def call(words: list[str], *, timeout_s: float = 20, directory: str | None = None) -> list[str]:
    said: list[str] = []
    run_hook(
        "before",
        words,
        say=said.append,
        environment={"HOLDFAST_JOB": "nightly"},
        timeout_s=timeout_s,
        directory=directory,
    )
    return said


def test_output_goes_line_by_line_into_the_log(tmp_path: Path) -> None:
    program = script(tmp_path / "h", 'echo "job $HOLDFAST_JOB $1"; echo trouble >&2; pwd')

    said = call([program, "a b"], directory=str(tmp_path))

    assert said == [
        f"hook before: {program} a b",
        "  job nightly a b",
        "  trouble",
        f"  {tmp_path}",
    ]


def test_a_failing_or_missing_program_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match="exit code 7"):
        call([script(tmp_path / "h", "exit 7")])
    with pytest.raises(HookFailed, match="signal 9"):
        call([script(tmp_path / "k", "kill -9 $$")])
    with pytest.raises(HookFailed, match="cannot be started"):
        call([str(tmp_path / "missing")])


def test_a_hook_that_takes_too_long_is_ended_with_all_its_children(tmp_path: Path) -> None:
    program = script(tmp_path / "h", f"sleep 600 & echo $! > {tmp_path}/pid; sleep 600")
    began = time.monotonic()

    with pytest.raises(TemporaryFailure, match="longer than"):
        call([program], timeout_s=1)

    assert time.monotonic() - began < 30
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_children_that_ignore_the_request_are_ended_too(tmp_path: Path) -> None:
    stubborn = f"(trap '' TERM; exec sleep 600) >/dev/null 2>&1 & echo $! > {tmp_path}/pid"
    program = script(tmp_path / "h", f"{stubborn}; sleep 600")

    with pytest.raises(TemporaryFailure, match="longer than"):
        call([program], timeout_s=1)

    assert has_ended(int((tmp_path / "pid").read_text()))
