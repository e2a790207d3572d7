"""Locks on ranges, files and descriptors, and who is in the way."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.host import locks
from holdfast.host.locks import LockMode


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two open files of one file."""
    path = tmp_path / "lock"
    path.touch()
    first, second = (os.open(path, os.O_RDWR) for _ in range(2))
    yield first, second
    os.close(first)
    os.close(second)


def test_flock_is_shared_or_alone(pair: tuple[int, int]) -> None:
    first, second = pair

    assert locks.try_flock(first, LockMode.SHARED)
    assert locks.try_flock(second, LockMode.SHARED)
    assert not locks.try_flock(first, LockMode.EXCLUSIVE)


def test_ranges_that_do_not_meet_do_not_exclude_each_other(pair: tuple[int, int]) -> None:
    first, second = pair

    assert locks.try_range_lock(first, LockMode.EXCLUSIVE, start=10, length=5)
    assert locks.try_range_lock(second, LockMode.EXCLUSIVE, start=15)
    assert not locks.try_range_lock(second, LockMode.SHARED, start=14)
    locks.drop_range_lock(first, start=14)
    assert locks.try_range_lock(second, LockMode.SHARED, start=14)


def test_lock_in_the_way_is_told_with_its_place(pair: tuple[int, int]) -> None:
    first, second = pair
    assert locks.try_range_lock(first, LockMode.SHARED, start=1 << 41, length=3)

    found = locks.foreign_lock(second, LockMode.EXCLUSIVE, start=0, length=0)

    assert found == locks.ForeignLock(start=1 << 41, length=3, pid=-1)
    assert locks.foreign_lock(second, LockMode.SHARED, start=0, length=0) is None
    assert locks.is_range_locked(second, start=1 << 41)
    assert not locks.is_range_locked(second, start=0, length=1 << 41)
    assert not locks.is_range_locked(first, start=1 << 41), "one's own is not in the way"


def test_record_lock_of_the_process_conflicts_with_ranges(pair: tuple[int, int]) -> None:
    first, second = pair

    assert locks.try_record_lock(first, LockMode.EXCLUSIVE)
    assert not locks.try_range_lock(second, LockMode.SHARED, start=7)
    locks.drop_record_lock(first)
    assert locks.try_range_lock(second, LockMode.SHARED, start=7)
