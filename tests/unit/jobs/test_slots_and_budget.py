"""Limits that several processes share: slots, bytes per second, and who may be signalled."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.harness.driven_clock import DrivenClock

from holdfast.config import toml_source
from holdfast.config.workers import WorkerSettings, parse_size
from holdfast.errors import BadRequest, NotFound
from holdfast.host.priority import IoClass
from holdfast.jobs import worker
from holdfast.jobs.budget import SharedBudget
from holdfast.jobs.slots import Slot
from holdfast.units import MIB
from holdfast.upid import Upid

CORE = str(Path(__file__).resolve().parents[3] / "core")


def nobody_waits() -> None:
    raise AssertionError("had to wait")


def test_there_are_as_many_slots_as_were_allowed(tmp_path: Path) -> None:
    slots = [Slot(str(tmp_path), "host") for _ in range(3)]
    slots[0].take(2, nobody_waits)
    slots[1].take(2, nobody_waits)

    assert not slots[2].try_take(2)
    assert slots[2].taken(2) == 2
    slots[0].__exit__(None, None, None)
    slots[2].take(2, nobody_waits)


def test_a_waiting_worker_gets_the_slot_that_becomes_free(tmp_path: Path) -> None:
    holder = Slot(str(tmp_path), "host")
    holder.take(1, nobody_waits)
    told = threading.Event()
    got = threading.Event()

    def wait() -> None:
        with Slot(str(tmp_path), "host") as slot:
            slot.take(1, told.set)
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert told.wait(10)
    assert not got.is_set()
    holder.__exit__(None, None, None)
    assert got.wait(10)
    thread.join()


def test_a_killed_worker_gives_its_slot_back(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom holdfast.jobs.slots import Slot\n"
        "s = Slot(sys.argv[1], 'host')\ns.take(1, lambda: None)\nprint(1, flush=True)\nsys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": CORE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    with Slot(str(tmp_path), "host") as slot:
        assert not slot.try_take(1)
        child.kill()
        child.communicate()
        assert slot.try_take(1)


class BudgetClock:
    """Nanoseconds that pass only by waiting, shared by all who limit themselves."""

    def __init__(self) -> None:
        self.ns = 10**12

    def wait(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)

    def now(self) -> int:
        return self.ns


def test_several_workers_share_one_rate(tmp_path: Path) -> None:
    clock = BudgetClock()
    path = str(tmp_path / "read")
    budgets = [SharedBudget(path, 10 * MIB, wait=clock.wait, now_ns=clock.now) for _ in range(3)]
    began = clock.ns
    for _ in range(100):
        for budget in budgets:
            budget.take(MIB)

    assert (clock.ns - began) / 1e9 == pytest.approx(30, rel=0.02)


def test_a_budget_from_before_a_reboot_does_not_stop_the_work(tmp_path: Path) -> None:
    clock = BudgetClock()
    path = tmp_path / "read"
    path.write_bytes((10**18).to_bytes(8, "little"))
    budget = SharedBudget(str(path), MIB, wait=clock.wait, now_ns=clock.now)
    began = clock.ns

    budget.take(MIB)

    assert (clock.ns - began) / 1e9 <= 1.0


def test_the_workers_table_is_read_with_sizes_in_words() -> None:
    text = b'[workers]\nper-store = 2\nio-class = "idle"\nread-bytes-per-second = "1.5 MiB"\n'
    section = toml_source.parse("c", text).root.table("workers")

    settings = WorkerSettings.parse(section)

    assert (settings.per_store, settings.per_host) == (2, 8)
    assert settings.io_class is IoClass.IDLE
    assert settings.read_bytes_per_second == 3 * MIB // 2
    with pytest.raises(BadRequest, match="line 2"):
        WorkerSettings.parse(
            toml_source.parse("c", b'[workers]\nread-bytes-per-second = "fast"\n').root.table(
                "workers"
            )
        )
    with pytest.raises(BadRequest):
        parse_size("-1")


@pytest.mark.parametrize(
    ("text", "user", "kills"),
    [
        ("", "ann", False),
        ("[Login]\n#KillUserProcesses=yes\n", "ann", False),
        ("[Login]\nKillUserProcesses=yes\n", "ann", True),
        ("[Login]\nKillUserProcesses=yes\n", "root", False),
        ("KillUserProcesses=yes\nKillExcludeUsers=\n", "root", True),
        ("KillUserProcesses=yes\nKillOnlyUsers=bob\n", "ann", False),
        ("KillUserProcesses=yes\nKillUserProcesses=no\n", "ann", False),
    ],
)
def test_it_is_known_whom_logind_ends_at_logout(text: str, user: str, kills: bool) -> None:
    assert worker.logind_kills(text, user=user) is kills


def test_a_signal_never_reaches_a_process_that_took_over_the_number() -> None:
    own = Upid.for_this_process("backup", "x")
    stranger = Upid(
        node=own.node,
        pid=own.pid,
        pstart=own.pstart + 1,
        task_id=0,
        start_s=own.start_s,
        worker_type="backup",
        worker_id="x",
        auth_id=own.auth_id,
    )
    received: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: received.append(number))
    try:
        with pytest.raises(NotFound):
            worker.send(stranger, signal.SIGUSR2)
        assert received == []
        worker.send(own, signal.SIGUSR2)
        os.getpid()
        assert received == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_waiting_for_a_slot_uses_the_clock_it_was_given(tmp_path: Path) -> None:
    holder = Slot(str(tmp_path), "host")
    holder.take(1, nobody_waits)

    class Releasing(DrivenClock):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            if self.time_s - 1_700_000_000 > 5:
                holder.__exit__(None, None, None)

    clock = Releasing()
    told: list[str] = []
    Slot(str(tmp_path), "host", clock=clock).take(1, lambda: told.append("waits"))

    assert told == ["waits"]
    assert len(clock.waits) >= 50
