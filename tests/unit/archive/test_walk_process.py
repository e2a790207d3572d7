import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.tree_streams import walking

from holdfast.archive.walk import BEGIN, END, FILE, TreeWalk
from holdfast.archive.walk_process import WalkProcess
from holdfast.archive.walk_rules import WalkRules
from holdfast.errors import HoldfastError, NotFound


@pytest.fixture
def tree() -> Iterator[Path]:
    """More events than a pipe and its buffers hold."""
    with quick_directory() as root:
        for directory in range(80):
            (root / f"d{directory}").mkdir()
            for number in range(100):
                (root / f"d{directory}" / f"{'long' * 40}-{number}").touch()
        yield root


def test_the_process_says_what_a_walk_here_says(tree: Path) -> None:
    root = os.fsencode(tree)
    rules = WalkRules(patterns=(b"d7", b"*-9"))

    here = [event for batch in TreeWalk(root, rules).batches() for event in batch]
    with walking(root, rules) as walk:
        beside = [event for batch in walk.batches() for event in batch]

    assert beside == here
    kinds = [event[0] for event in here]
    assert (kinds.count(BEGIN), kinds.count(END), kinds.count(FILE)) == (80, 80, 79 * 99)


def test_a_reader_that_stops_early_is_not_kept_waiting(tree: Path) -> None:
    with walking(os.fsencode(tree), WalkRules()) as walk:
        batches = walk.batches()
        next(batches)

    batches.close()  # type: ignore[attr-defined]  # a generator


def test_errors_of_the_walk_arrive_as_they_are(tmp_path: Path) -> None:
    missing = os.fsencode(tmp_path / "missing")

    with walking(missing, WalkRules()) as walk, pytest.raises(NotFound, match="missing"):
        list(walk.batches())


def test_a_walker_that_is_killed_is_an_error_and_no_short_tree(tree: Path) -> None:
    with walking(os.fsencode(tree), WalkRules()) as walk:
        os.kill(walk.pid, signal.SIGKILL)

        with pytest.raises(HoldfastError, match="ended early"):
            list(walk.batches())


def test_a_process_that_is_not_needed_after_all_ends() -> None:
    with WalkProcess() as walk:
        pid = walk.pid

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_ctrl_c_in_a_terminal_is_for_the_reader_alone(tree: Path) -> None:
    """A terminal sends SIGINT to every process of the group, at any moment of a walker's life."""
    with WalkProcess() as walk:
        os.kill(walk.pid, signal.SIGINT)
        walk.begin(os.fsencode(tree), WalkRules())
        batches = walk.batches()
        events = list(next(batches))
        os.kill(walk.pid, signal.SIGINT)
        events += [event for batch in batches for event in batch]

    assert [event[0] for event in events].count(FILE) == 80 * 100


def test_a_process_that_cannot_be_started_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    before = os.listdir("/proc/self/fd")

    with pytest.raises(HoldfastError, match="starting the process that walks"):
        WalkProcess()

    assert os.listdir("/proc/self/fd") == before
