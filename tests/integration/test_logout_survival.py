"""Where logind ends what a user leaves running, a detached task starts in a scope of its own.

The configuration of logind and the control group of a login session are real, for this test alone (a
mount namespace, a group below the root of the unified hierarchy). `systemd-run` is a program that
writes down how it was called and then runs what it was given, since no systemd runs here.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.processes import has_ended
from tests.harness.program import Program
from tests.harness.sessions import small_store

SCOPE = ["--scope", "--quiet", "--collect", "--"]


def _unified() -> Path:
    """Where control groups can be made (skips where they cannot)."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, place, kind, options = line.split()[:4]
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(place)
    pytest.skip("no unified control group hierarchy that can be written to")


@pytest.fixture
def session() -> Iterator[Path]:
    """The control group of a login session."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can make a control group and a mount namespace")
    group = _unified() / f"session-{os.getpid()}.scope"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    yield group
    for pid in (group / "cgroup.procs").read_text().split():
        assert has_ended(int(pid))
    group.rmdir()


@pytest.fixture
def program() -> Iterator[Program]:
    with quick_directory() as home:
        small_store(home / "store")
        (home / "source").mkdir()
        (home / "source" / "file").write_text("content")
        (home / "etc").mkdir()
        (home / "etc" / "logind.conf").write_text(
            "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=nobody\n"
        )
        (home / "bin").mkdir()
        path = f"{home / 'bin'}:{os.environ['PATH']}"
        yield Program(home, {"HOLDFAST_STORE": str(home / "store"), "PATH": path})


def systemd_run(program: Program, text: str) -> None:
    path = program.home / "bin" / "systemd-run"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def detached(program: Program, session: Path) -> subprocess.CompletedProcess[str]:
    """`holdfast backup --detach` as a user who is logged in calls it."""
    script = (
        f"mount --bind {program.home}/etc /etc/systemd && echo $$ >{session}/cgroup.procs &&"
        ' exec "$@"'
    )
    words = ["backup", "s.pxar:source", "--id", "one", "--detach"]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *program.command, *words],
        env=program.environment,
        cwd=program.home,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )


def test_the_worker_starts_through_systemd_run(program: Program, session: Path) -> None:
    log = program.home / "calls"
    systemd_run(
        program, f'echo "$@" >>{log}\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"'
    )

    done = detached(program, session)

    program.run("task", "attach", done.stdout.strip())
    tried, started = (line.split() for line in log.read_text().splitlines())
    assert tried == [*SCOPE, "true"]
    assert started[: len(SCOPE)] == SCOPE
    assert "backup" in started
    assert "--detach" not in started
    assert "logout" not in done.stderr
    assert len(program.json("snapshots")) == 1


def test_where_systemd_run_does_not_work_the_user_is_told(program: Program, session: Path) -> None:
    systemd_run(program, "echo 'Failed to connect to bus' >&2; exit 1")

    done = detached(program, session)

    program.run("task", "attach", done.stdout.strip())
    assert "ends all processes of a user at logout" in done.stderr
    assert "loginctl enable-linger" in done.stderr
    assert len(program.json("snapshots")) == 1
