"""`./run` on machines that lack something, and the installed program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.program import ROOT

import holdfast

TOOLS = ("sh", "dirname", "cksum", "cat", "rm", "env", "printf", "id")


def _clone(target: Path) -> Path:
    """What a fresh clone has: the files git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).exists() and not name.startswith("tests/"):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path)
    return target


def _run(clone: Path, *words: str, python: str) -> subprocess.CompletedProcess[str]:
    """`./run` with a PATH that has a few tools and the given `python3` script."""
    tools = clone / ".tools"
    tools.mkdir()
    for tool in TOOLS:
        if (found := shutil.which(tool)) is not None:
            (tools / tool).symlink_to(found)
    (tools / "python3").write_text(python)
    (tools / "python3").chmod(0o755)
    return subprocess.run(
        [str(clone / "run"), *words],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_gets_a_clear_message(tmp_path: Path) -> None:
    done = _run(_clone(tmp_path), "version", python="#!/bin/sh\nexit 1\n")

    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_missing_venv_module_says_what_to_install(tmp_path: Path) -> None:
    without = f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"\n'

    done = _run(_clone(tmp_path), "version", python=without)

    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr


@pytest.mark.parametrize("script", ["run", ".ci/run"])
def test_the_scripts_are_plain_shell(script: str) -> None:
    shell = shutil.which("dash") or "/bin/sh"

    subprocess.run([shell, "-n", str(ROOT / script)], check=True)

    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.slow
def test_the_package_installs_and_gives_a_program(tmp_path: Path) -> None:
    clone = _clone(tmp_path / "clone")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(clone)], check=True)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    for command in ([tmp_path / "venv" / "bin" / "holdfast"], [python, "-m", "holdfast"]):
        done = subprocess.run(
            [*command, "--version"], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"holdfast {holdfast.__version__}\n"


@pytest.mark.slow
def test_run_prepares_itself_once_and_again_when_the_project_changes(tmp_path: Path) -> None:
    clone = _clone(tmp_path)
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}  # with pip's cache

    def version() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(clone / "run"), "version"], env=env, capture_output=True, text=True, check=True
        )

    first, second = version(), version()
    with (clone / "pyproject.toml").open("a") as project:
        project.write("# changed\n")
    third = version()

    assert {run.stdout for run in (first, second, third)} == {f"holdfast {holdfast.__version__}\n"}
    assert "installing" in first.stderr
    assert second.stderr == ""
    assert "installing" in third.stderr
