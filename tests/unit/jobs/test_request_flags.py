"""Flags and locks of the request file, against the recorded cases of the archiver."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.harness import vectors

from holdfast.errors import BadRequest
from holdfast.jobs.request_flags import Flags, RequestFlags, Round, plan_begin

CASES = vectors.load("postgres/state", "pgbak_state")["begin"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "requests")


@pytest.mark.parametrize("case", CASES)
def test_the_decision_of_begin_is_the_recorded_one(case: dict[str, Any]) -> None:
    held = case["backup_lock_held_by_other"]

    plan = plan_begin(case["byte"] or 0, case["flags"], worker_exists=held)

    assert plan.work == (None if case["result"] == -1 else case["result"])
    assert plan.byte == (case["byte_after"] or 0)


@pytest.mark.parametrize("case", CASES)
def test_begin_on_a_real_file_returns_what_was_recorded(path: str, case: dict[str, Any]) -> None:
    if case["byte"] is not None:
        Path(path).write_bytes(bytes((case["byte"],)))
    with RequestFlags.open(path) as other, RequestFlags.open(path) as requests:
        if case["backup_lock_held_by_other"]:
            before = Path(path).read_bytes()
            Path(path).write_bytes(b"")
            assert other.begin(1) == 1
            other.publish(1)
            Path(path).write_bytes(before)

        result = requests.begin(case["flags"])

        byte = (Path(path).read_bytes() or b"\0")[0]
        if case["result"] == -1:
            assert (result, byte) == (None, case["byte_after"])
        else:
            assert result == case["result"]
            expected = case["result"] << 4 if case["result"] else case["byte_after"] or 0
            assert byte == expected  # a worker has written down what it took, before anything else


def test_a_request_during_work_makes_the_worker_go_round_once_more(path: str) -> None:
    rounds: list[Round] = []

    def work(round_: Round) -> int:
        rounds.append(round_)
        if len(rounds) == 1:
            with RequestFlags.open(path) as asker:
                assert asker.begin(2) is None
        return 0

    with RequestFlags.open(path) as worker:
        assert worker.serve(1, work)

        assert rounds == [Round(owed=1, arrived=1), Round(owed=2, arrived=2)]
        assert worker.flags() == Flags(pending=0, running=0)
        assert not worker.is_worker_alive()


def test_the_same_request_during_its_own_run_is_not_merged_into_that_run(path: str) -> None:
    rounds: list[int] = []

    def work(round_: Round) -> int:
        rounds.append(round_.owed)
        if len(rounds) == 1:
            with RequestFlags.open(path) as asker:
                assert asker.begin(1) is None
        return 0

    with RequestFlags.open(path) as worker:
        worker.serve(1, work)

    assert rounds == [1, 1]


def test_what_a_worker_that_vanished_had_taken_is_taken_up(path: str) -> None:
    with RequestFlags.open(path) as vanished:
        assert vanished.begin(3) == 3
        vanished.publish(3)

    with RequestFlags.open(path) as requests:
        assert not requests.is_worker_alive()
        assert requests.begin(0) == 3


def test_work_that_raises_stays_owed_with_what_arrived_meanwhile(path: str) -> None:
    def work(_round: Round) -> int:
        with RequestFlags.open(path) as asker:
            asker.begin(2)
        raise ConnectionError

    with RequestFlags.open(path) as worker:
        with pytest.raises(ConnectionError):
            worker.serve(1, work)

        assert worker.flags() == Flags(pending=2, running=1)
        assert worker.begin(0) == 3


def test_a_new_request_finds_a_free_file_right_after_the_last_flag_is_cleared(path: str) -> None:
    with RequestFlags.open(path) as worker, RequestFlags.open(path) as asker:
        worker.begin(1)
        worker.publish(1)
        assert worker.collect() == 0
        worker.finish()

        assert asker.begin(1) == 1


def test_waiting_needs_read_access_only_and_tells_busy_from_idle(path: str) -> None:
    with RequestFlags.open(path) as worker:
        worker.begin(1)
        worker.publish(1)
        with RequestFlags.open_to_watch(path) as watcher:
            assert watcher.flags() == Flags(pending=0, running=1)
            assert not watcher.wait(0)
            worker.collect()
            worker.finish()
            assert watcher.wait(0)
            assert watcher.wait()


def test_a_forked_child_keeps_the_work_after_the_parent_has_closed(path: str) -> None:
    parent = RequestFlags.open(path)
    parent.begin(1)
    parent.publish(1)
    child = RequestFlags(os.dup(parent.fileno()))
    parent.close()

    with RequestFlags.open(path) as asker:
        assert asker.begin(1) is None
        child.close()
        assert asker.begin(0) == 1


def test_flags_beyond_the_nibble_are_refused(path: str) -> None:
    with RequestFlags.open(path) as requests, pytest.raises(BadRequest):
        requests.begin(16)
