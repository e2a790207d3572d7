"""Goal: a killed `vm backup` leaves nothing that has to be done by hand, and a guest that goes on.

Method: the real program is killed by SIGKILL at three of its effects on the store, with a real QEMU
running; the journal shows it as vanished, the same command run again succeeds.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.program import ROOT, Program
from tests.harness.qemu import Machine
from tests.harness.sessions import small_store

from holdfast.units import MIB


class Place:
    """A machine with one disk, known to the program, and a store."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        small_store(self.store)
        self.program = Program(directory, {"HOLDFAST_STORE": str(self.store)})
        self.disk = directory / "a.raw"
        self.disk.write_bytes(os.urandom(24 * MIB))
        self.machine = Machine(directory, [self.disk])
        self.program.run("vm", "add", "shop", "--qmp", self.machine.qmp)

    def run_killed(self, at: int) -> int:
        """The exit code, or with `at` 0 the number of effects on the store of an unharmed run."""
        count = self.program.home / "count"
        done = subprocess.run(
            [sys.executable, "-m", "tests.harness.killed_command", str(at), "vm", "backup", "shop"],
            env={
                **self.program.environment,
                "PYTHONPATH": f"{ROOT / 'core'}:{ROOT / 'tui'}:{ROOT}",
                "KILL_BELOW": str(self.store),
                "KILL_COUNT": str(count),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        if at:
            return done.returncode
        assert done.returncode == 0, done.stderr
        return int(count.read_text())


@pytest.fixture
def place(quick_path: Path) -> Iterator[Place]:
    made = Place(quick_path)
    with made.machine:
        yield made


def test_a_killed_machine_backup_is_taken_up_by_the_same_command(place: Place) -> None:
    effects = place.run_killed(0)
    for round_, at in enumerate((1, effects // 3, effects * 2 // 3)):
        for chunk in range(6):  # all of it is new to the store
            place.machine.guest(0, f"write -P {round_ * 6 + chunk + 1} {chunk * 4}M 4M")

        assert place.run_killed(at) == -signal.SIGKILL

        killed = place.program.json("task", "list")[0]
        assert (killed["kind"], killed["state"]) == ("backup", "unknown")
        place.machine.guest(0, f"write -P {round_ + 99} 5M 64k")  # the guest goes on meanwhile
        place.program.run("vm", "backup", "shop")  # nothing by hand in between
        assert place.program.json("task", "list")[0]["state"] == "ok"
        assert not [node for node in place.machine.nodes() if node.startswith("bk-")]
        place.program.run("verify", "vm/shop/latest")
        place.machine.guest(0, "flush")
        back = place.program.home / f"back{round_}"
        place.program.run("restore", "vm/shop", back, "--archive", "drive-vd0.img")
        assert back.read_bytes() == place.disk.read_bytes()
