"""Goal: a killed task of any kind leaves nothing that has to be done by hand.

Method: the real program is killed by SIGKILL in the middle of its effects on the store (or the
target); the journal shows it as vanished, the same command run again succeeds and closes it, and
the store verifies.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.program import ROOT, Program
from tests.harness.sessions import small_store

KINDS = [
    "backup",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("restore", "verify", "gc", "prune")),
]
GROUP = "host/h"


class Place:
    """A store with two snapshots, changed sources, and something for each kind of task to do."""

    def __init__(self, directory: Path) -> None:
        self.program = Program(directory)
        self.source = directory / "source"
        self.store = directory / "store"
        self.target = directory / "target"
        self.source.mkdir()
        for number in range(12):
            (self.source / f"f{number}").write_bytes(bytes([number]) * 70_000 + os.urandom(9000))
        small_store(self.store)
        self.program.run("init", self.store, "--adopt")
        self.backup("2026-11-01T00:00:00Z")
        (self.source / "f1").write_bytes(os.urandom(50_000))
        self.backup("2026-11-02T00:00:00Z")
        (self.source / "f2").write_bytes(os.urandom(50_000))
        self.program.run("forget", f"{GROUP}/2026-11-01T00:00:00Z", "--yes")
        self.program.run(
            "backup", f"tree.pxar:{self.source}", "--id", "h", "--time", "2026-11-03T00:00:00Z"
        )
        (self.source / "f3").write_bytes(os.urandom(400_000))

    def backup(self, time: str) -> None:
        self.program.run("backup", f"tree.pxar:{self.source}", "--id", "h", "--time", time)

    def words(self, kind: str, day: int) -> list[str]:
        time = f"2026-11-{day:02}T00:00:00Z"
        return {
            "backup": ["backup", f"tree.pxar:{self.source}", "--id", "h", "--time", time],
            "restore": ["restore", GROUP, str(self.target), "--overwrite", "always"],
            "verify": ["verify"],
            "gc": ["gc", "--cutoff", "0"],
            "prune": ["prune", "--keep-last", "1", "--yes"],
        }[kind]

    def run_killed(self, kind: str, at: int) -> int:
        """The exit code, or with `at` 0 the number of effects of an unharmed run."""
        count = self.program.home / "count"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.harness.killed_command",
                str(at),
                *self.words(kind, 4 + (at > 0)),
            ],
            env={
                **self.program.environment,
                "PYTHONPATH": f"{ROOT / 'core'}:{ROOT / 'tui'}:{ROOT}",
                "KILL_BELOW": f"{self.store}:{self.target}",
                "KILL_COUNT": str(count),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        if at:
            return done.returncode
        assert done.returncode == 0, done.stderr
        return int(count.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_task_is_taken_up_by_the_same_command(quick_path: Path, kind: str) -> None:
    place = Place(quick_path / "p")
    effects = place.run_killed(kind, 0) if kind in ("verify", "backup", "restore") else 2
    middle = max(1, effects // 2)
    if kind == "restore":
        shutil.rmtree(place.target)
    (place.source / "f4").write_bytes(os.urandom(400_000))

    code = place.run_killed(kind, middle)

    assert code == -signal.SIGKILL
    tasks = place.program.run("--json", "task", "list").document
    assert tasks[0]["state"] == "unknown", tasks[0]
    killed = tasks[0]["upid"]
    place.program.run(*place.words(kind, 6))  # nothing by hand in between
    tasks = place.program.run("--json", "task", "list").document
    assert (tasks[0]["kind"], tasks[0]["state"]) == (tasks[1]["kind"], "ok")
    assert {task["upid"]: task["state"] for task in tasks}[killed] == "unknown"
    active = place.program.home / "state" / "tasks" / "active"
    assert active.read_text() == ""
    place.program.run("verify", f"{GROUP}/latest")
    if kind == "restore":
        done = subprocess.run(
            ["diff", "-r", place.source / "f5", next(place.target.rglob("f5"))], check=False
        )
        assert done.returncode == 0


def test_a_killed_backup_job_is_owed_and_taken_up_by_the_scheduler(quick_path: Path) -> None:
    place = Place(quick_path / "p")
    config = place.program.home / "config.toml"
    config.write_text(
        config.read_text() + f'\n[jobs.nightly]\nkind = "backup"\nstore = "store"\nid = "j"\n'
        f'sources = ["tree.pxar:{place.source}"]\nverify = "last"\nkeep-last = 3\n'
    )
    words = ["job", "run", "nightly"]
    code = subprocess.run(
        [sys.executable, "-m", "tests.harness.killed_command", "9", *words],
        env={
            **place.program.environment,
            "PYTHONPATH": f"{ROOT / 'core'}:{ROOT / 'tui'}:{ROOT}",
            "KILL_BELOW": str(place.store),
        },
        check=False,
        timeout=200,
    ).returncode
    assert code == -signal.SIGKILL
    assert place.program.run("--json", "job", "show", "nightly").document["owed"] is True

    started = place.program.run("--json", "scheduler", "--once").document

    assert started == {"started": ["nightly"]}
    place.program.run("job", "wait", "nightly", "200")
    job = place.program.run("--json", "job", "show", "nightly").document
    assert (job["owed"], job["last"]["state"]) == (False, "ok")
    assert job["last"]["verified"] is not None
    snapshots = place.program.run("--json", "snapshots", "host/j").document
    assert [one["verify_state"]["state"] for one in snapshots if not one["unfinished"]] == ["ok"]
