import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.tree_streams import walking

from holdfast.archive.walk import BEGIN, END, FILE, TreeWalk, WalkRules
from holdfast.archive.walk_process import WalkProcess
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
