"""Progress that is published: seldom, whole, and truthful."""

import os
from pathlib import Path

import pytest

from holdfast.jobs import phase_history, progress_record
from holdfast.jobs.estimate import TwoStreamEstimate
from holdfast.jobs.journal import Journal
from holdfast.jobs.progress_record import ProgressRecord
from holdfast.jobs.task_progress import TaskProgress
from holdfast.units import MIB


class SteadyClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_amounts_phase_and_item_can_be_read_while_the_task_runs(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    clock = SteadyClock()
    with journal.start("backup", "s") as task:
        progress = TaskProgress(task, steady_clock=clock)
        progress.phase("files")
        progress.total(items=10, bytes=100 * MIB)
        clock.now += 1
        progress.watch_new_bytes(lambda: MIB)
        progress.item("etc/passwd")
        progress.advance(items=1, bytes=4 * MIB)
        clock.now += 1
        progress.advance()

        record = journal.find(str(task.upid)).progress

        assert record is not None
        assert (record.phase, record.item) == ("files", "etc/passwd")
        assert (record.done_bytes, record.total_bytes, record.unit) == (4 * MIB, 100 * MIB, "bytes")
        assert (record.done_items, record.total_items) == (1, 10)
        assert record.dedup_share == 0.75
    assert not os.path.exists(task.progress_path)


def test_a_million_reports_in_one_second_are_few_writes(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    clock = SteadyClock()
    with journal.start("backup", "s") as task:
        progress = TaskProgress(task, steady_clock=clock)
        inodes = set()
        for _ in range(20_000):
            clock.now += 1 / 20_000
            progress.advance(items=1, bytes=1)
            inodes.add(os.stat(task.progress_path).st_ino)
        assert os.stat(task.progress_path).st_size < 1000
        record = progress_record.read(task.progress_path)
        assert record is not None
        assert record.done_items > 15_000
    assert len(inodes) <= 6


def test_new_bytes_count_from_the_beginning_of_each_phase(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    clock = SteadyClock()
    new = [0]
    with journal.start("backup", "s") as task:
        progress = TaskProgress(task, steady_clock=clock)
        progress.watch_new_bytes(lambda: new[0])
        progress.phase("one")
        new[0] = 3 * MIB
        progress.advance(bytes=8 * MIB)
        progress.phase("two")
        new[0] = 4 * MIB
        clock.now += 1
        progress.advance(bytes=4 * MIB)
        record = journal.find(str(task.upid)).progress
        assert record is not None
        assert (record.phase, record.new_bytes, record.dedup_share) == ("two", MIB, 0.75)
        progress.close()

    log = Path(journal.log_path(task.upid)).read_text()
    assert ": one: 8.0 MiB, 3.0 MiB new in " in log
    assert ": two: 4.0 MiB, 1.0 MiB new in " in log


def walk(tmp_path: Path, clock: SteadyClock, items: int) -> list[ProgressRecord]:
    """One backup of a tree of `items`, 10 a second, that tells no total; what was published."""
    journal = Journal(str(tmp_path))
    seen = []
    with journal.start("backup", "s:host/a") as task:
        progress = TaskProgress(task, steady_clock=clock)
        progress.phase("tree")
        for _ in range(items):
            clock.now += 0.1
            progress.advance(items=1, bytes=10)
            if (record := progress_record.read(task.progress_path)) is not None:
                seen.append(record)
        progress.close()
        progress.remember()
    return seen


def test_a_tree_is_expected_to_be_as_large_as_last_time(tmp_path: Path) -> None:
    clock = SteadyClock()
    first = walk(tmp_path, clock, 300)
    second = walk(tmp_path, clock, 330)

    assert {record.eta_s for record in first} == {None}
    middle = second[150]
    assert middle.total is None
    assert middle.expected_items == 300
    assert middle.fraction == pytest.approx(0.5, abs=0.02)
    assert middle.eta_s == pytest.approx(15, rel=0.15)
    assert (second[-1].expected_items, second[-1].fraction, second[-1].eta_s) == (None, None, None)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"tree": "x", "a": true, "b": -1}', b"\xff"])
def test_an_odd_history_is_no_expectation(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "history"
    path.write_bytes(raw)
    assert phase_history.read(str(path)) == {}


class Waits:
    """A throttle that notes what it is asked for."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def take(self, amount: int) -> None:
        self.taken.append(amount)


def test_reading_and_writing_are_slowed_by_what_they_did(tmp_path: Path) -> None:
    clock = SteadyClock()
    reading, writing = Waits(), Waits()
    with Journal(str(tmp_path)).start("backup", "s") as task:
        progress = TaskProgress(task, steady_clock=clock)
        progress.throttle(reading=reading, writing=writing)
        progress.watch_new_bytes(lambda: 70)
        clock.now += 1
        progress.advance(bytes=100)
        progress.advance(items=1)

    assert (reading.taken, writing.taken) == ([100], [70])


def test_a_hostile_progress_file_is_no_progress_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "p"
    for raw in (b"", b"[]", b"{", b"[" * 5000, b"\xff", b"{}" * 40_000):
        path.write_bytes(raw)
        assert progress_record.read(str(path)) is None
    path.write_bytes(b'{"done_bytes": "many", "phase": 3, "eta_s": true, "total_items": 5}')
    assert progress_record.read(str(path)) == ProgressRecord(total_items=5)


def feed(
    estimate: TwoStreamEstimate, steps: list[tuple[float, int, int]], total: int = 10**9
) -> tuple[float, int, int]:
    now, done, new = 0.0, 0, 0
    for span, added, added_new in steps:
        now += span
        done += added
        new += added_new
        estimate.sample(now, done, new)
        estimate.left_s(total)
    return now, done, new


def test_both_costs_are_found_when_the_mixture_changes() -> None:
    estimate = TwoStreamEstimate()
    steps = []
    for number in range(60):
        known, new = (90, 10) if number % 2 else (20, 30)
        steps.append((known * 0.002 + new * 0.02, known + new, new))
    feed(estimate, steps)

    known_cost, new_cost = estimate.costs()

    assert known_cost == pytest.approx(0.002, rel=0.05)
    assert new_cost == pytest.approx(0.02, rel=0.05)


def test_knowing_that_the_rest_is_old_shortens_the_wait() -> None:
    estimate = TwoStreamEstimate()
    steps = []
    for number in range(60):
        known, new = (90, 10) if number % 2 else (20, 30)
        steps.append((known * 0.002 + new * 0.02, known + new, new))
    _now, done, _new = feed(estimate, steps)
    mixed = [estimate.left_s(done + 1000) for _ in range(60)][-1]
    old = [estimate.left_s(done + 1000, new_left=0) for _ in range(60)][-1]

    assert mixed is not None
    assert old is not None
    assert old < mixed / 2
    assert old == pytest.approx(2.0, rel=0.1)


def test_a_steady_stream_is_foretold_within_a_tenth() -> None:
    estimate = TwoStreamEstimate()
    _now, done, _new = feed(estimate, [(0.2, 100, 0)] * 100, total=15_000)

    answer = estimate.left_s(15_000)

    assert done == 10_000
    assert answer == pytest.approx(10, rel=0.1)


def test_nothing_is_promised_at_the_start_or_without_a_total() -> None:
    estimate = TwoStreamEstimate()
    feed(estimate, [(0.2, 100, 0)] * 3)
    assert estimate.left_s(1000) is None
    feed(estimate, [(0.2, 100, 0)] * 100)
    assert estimate.left_s(None) is None


def test_a_speed_that_jumps_wildly_is_shown_as_unknown() -> None:
    estimate = TwoStreamEstimate(fade_s=1)
    now, done = 0.0, 0
    answers = []
    for number in range(80):
        now += 1.0
        done += 1 if (number // 4) % 2 else 5000
        estimate.sample(now, done)
        answers.append(estimate.left_s(10**7))
    assert answers[-20:].count(None) > 10


def test_a_pause_does_not_count_as_slowness() -> None:
    estimate = TwoStreamEstimate()
    now, done, _new = feed(estimate, [(0.2, 100, 0)] * 50)
    before = estimate.per_second
    estimate.sample(now + 3600, done)

    assert estimate.per_second == before
