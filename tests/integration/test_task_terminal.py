"""A task outlives its terminal, is watched by another user, and is stopped by its owner.

Real tmux windows, a real second user (no rights but reading), a store and a real verify.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 100.0
NOBODY = 65534

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that other users may pass through."""
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_uid == os.geteuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o055)
    return tmp_path


@pytest.fixture
def tmux(directory: Path) -> Iterator[list[str]]:
    command = ["tmux", "-S", str(directory / "tmux"), "-f", "/dev/null"]
    yield command
    subprocess.run([*command, "kill-server"], check=False, capture_output=True)


def reader_python() -> str:
    """A Python that another user may start (a home directory may hide the one that runs this)."""
    for python in (sys.executable, "/usr/bin/python3"):
        code = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            tried = subprocess.run(
                [python, "-c", code], user=NOBODY, group=NOBODY, extra_groups=[], check=False
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return python
    pytest.skip("no Python on this host that another user may start")


class Host:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        hook = directory / "hook"
        hook.write_text(
            f"#!/bin/sh\ntouch {directory}/begun\nwhile [ ! -e {directory}/gate ]; do sleep 0.05; done\n"
        )
        hook.chmod(0o755)
        (directory / "config.toml").write_text(
            f'[jobs.slow]\nkind = "command"\ncommand = ["version"]\n[jobs.slow.hooks]\nbefore = "{hook}"\n'
        )
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "core"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOLDFAST_CONFIG": str(directory / "config.toml"),
            "HOLDFAST_STATE_DIR": str(directory / "state"),
            "HOME": str(directory),
        }

    def words(self, *words: str, python: str = sys.executable) -> list[str]:
        return [python, "-m", "holdfast", *words]

    def run(self, *words: str, user: int | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.words(*words, python=sys.executable if user is None else reader_python()),
            env=self.environment,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def json(self, *words: str) -> Any:
        return json.loads(self.run("--json", *words).stdout)

    def shell(self, *words: str, then: str = "", python: str = sys.executable) -> str:
        variables = " ".join(f"{name}='{value}'" for name, value in self.environment.items())
        return f"env {variables} {' '.join(self.words(*words, python=python))} {then}"

    def wait_for(self, name: str) -> Path:
        deadline = time.monotonic() + WAIT_S_MAX
        path = self.directory / name
        while not (path.exists() and (name == "begun" or path.stat().st_size)):
            assert time.monotonic() < deadline, f"{name} did not appear"
            os.sched_yield()
        return path


@needs_tmux
@needs_root
def test_a_task_outlives_its_window_is_watched_by_a_reader_and_stopped_by_its_owner(
    directory: Path, tmux: list[str]
) -> None:
    host = Host(directory)
    started = host.shell("job", "run", "slow", "--detach", then=f"> {directory}/upid; sleep 600")
    subprocess.run([*tmux, "new-session", "-d", "-s", "one", "-x", "150", started], check=True)
    subprocess.run([*tmux, "new-session", "-d", "-s", "two", "-x", "150", "sleep 600"], check=True)
    upid = host.wait_for("upid").read_text().strip()
    host.wait_for("begun")
    subprocess.run([*tmux, "kill-session", "-t", "one"], check=True)

    then = f"| tee {directory}/watched"
    watching = subprocess.run(  # another user, in the second window
        [
            *tmux,
            *("new-window", "-t", "two", "-n", "watch"),
            f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "
            + host.shell("task", "log", "-f", f"'{upid}'", then=then, python=reader_python()),
        ],
        check=False,
    )
    assert watching.returncode == 0

    task = host.json("task", "show", upid)
    assert task["state"] == "running"
    host.wait_for("watched")
    as_reader = host.run("--json", "task", "list", user=NOBODY)
    assert [item["state"] for item in json.loads(as_reader.stdout)] == ["running"]
    refused = host.run("task", "stop", upid, user=NOBODY)
    assert refused.returncode == 13, refused
    assert host.json("task", "show", upid)["state"] == "running"

    stopped = host.run("task", "stop", upid)

    assert stopped.returncode == 0, stopped
    assert host.json("task", "show", upid)["state"] == "stopped"
    deadline = time.monotonic() + WAIT_S_MAX
    while "TASK ERROR: stopped on request" not in (directory / "watched").read_text():
        assert time.monotonic() < deadline, (directory / "watched").read_text()
        os.sched_yield()
    assert "hook before" in (directory / "watched").read_text()


def test_ctrl_c_stops_a_foreground_task_cleanly_and_the_journal_has_it(directory: Path) -> None:
    host = Host(directory)
    child = subprocess.Popen(
        host.words("job", "run", "slow"), env=host.environment, stderr=subprocess.PIPE, text=True
    )
    host.wait_for("begun")
    child.send_signal(2)
    _out, err = child.communicate(timeout=100)

    assert child.returncode == 130
    assert "stopped on request" in err
    (task,) = host.json("task", "list")
    assert task["state"] == "stopped"


def test_stopping_twice_ends_a_task_at_once_and_it_still_counts_as_stopped(directory: Path) -> None:
    """Goal: a task that cannot clear up ends. Method: its hook ignores SIGTERM for a minute."""
    host = Host(directory)
    (directory / "hook").write_text(
        f"#!/bin/sh\ntrap '' TERM INT\ntouch {directory}/begun\nsleep 4 & wait; sleep 60\n"
    )
    upid = host.run("job", "run", "slow", "--detach").stdout.strip()
    host.wait_for("begun")
    first = host.run("task", "stop", "--wait", "0.2", upid)
    assert "stop it again" in first.stderr

    host.run("task", "stop", upid)

    task = host.json("task", "show", upid)
    assert task["state"] == "stopped"
    assert host.run("task", "log", upid).stdout.rstrip().endswith("stopped on request, at once")
