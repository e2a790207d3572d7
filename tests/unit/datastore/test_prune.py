from datetime import UTC
from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore

from holdfast.datastore.prune import PlannedSnapshot, carry_out, freed_by, plan, removals
from holdfast.datastore.retention import Mark, RetentionPolicy
from holdfast.errors import DamagedData, ReadOnlyViolation
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, SnapshotId

A, B, C, D = b"a" * 4096, b"b" * 4096, b"c" * 5000, b"d" * 70_000
GROUP = GroupId.parse("host/a")


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def day(number: int, kind: str = "host/a") -> str:
    return f"{kind}/2026-01-{number:02}T00:00:00Z"


def planned(small: SmallStore, **keep: int) -> list[PlannedSnapshot]:
    return plan(small.store, [GROUP], RetentionPolicy(**keep), zone=UTC)


def left(small: SmallStore) -> list[str]:
    return [str(snapshot) for snapshot in small.store.snapshots(GROUP)]


def test_the_oldest_go_first_and_the_newest_stay(small: SmallStore) -> None:
    for number in (1, 2, 3):
        small.snapshot(day(number), {"x.pxar.didx": [A]})

    decisions = planned(small, keep_last=1)
    outcome = carry_out(small.store, decisions)

    assert [str(each) for each in outcome.removed] == [day(1), day(2)]
    assert left(small) == [day(3)]


def test_freed_bytes_are_those_of_chunks_nobody_else_holds(small: SmallStore) -> None:
    small.snapshot(day(1), {"x.pxar.didx": [A, B]})
    small.snapshot(day(2), {"x.pxar.didx": [B, C]})
    small.snapshot(day(3), {"x.pxar.didx": [C, D]})
    small.snapshot(day(9, "host/other"), {"x.pxar.didx": [A]})
    size_of_b = small.path(small.put(B)).stat().st_size

    freed = freed_by(small.store, planned(small, keep_last=1))

    assert {str(each): size for each, size in freed.by_snapshot.items()} == {
        day(1): 0,
        day(2): size_of_b,  # the last one of those that go to hold it
    }
    assert (freed.total_bytes, freed.chunks) == (size_of_b, 1)


def test_an_unreadable_index_elsewhere_leaves_freed_bytes_unknown(small: SmallStore) -> None:
    small.snapshot(day(1), {"x.pxar.didx": [A]})
    broken = small.snapshot(day(2), {"x.pxar.didx": [B]})
    (small.base / broken.path / "x.pxar.didx").write_bytes(b"")

    with pytest.raises(DamagedData):
        freed_by(small.store, planned(small, keep_last=1))


def test_a_snapshot_in_use_or_protected_meanwhile_stays(small: SmallStore) -> None:
    used, protected, _newest = (
        small.snapshot(day(number), {"x.pxar.didx": [A]}) for number in (1, 2, 3)
    )
    decisions = planned(small, keep_last=1)
    small.store.set_protected(protected, protected=True)

    with small.store.locks.snapshot(used, LockMode.SHARED):
        outcome = carry_out(small.store, decisions)

    assert [one.snapshot for one in outcome.refused] == [used, protected]
    assert left(small) == [day(1), day(2), day(3)]


def test_a_running_backup_below_newer_snapshots_is_never_removed(small: SmallStore) -> None:
    running = SnapshotId.parse(day(1))
    (small.base / running.path).mkdir(parents=True)
    small.snapshot(day(2), {"x.pxar.didx": [A]})

    with small.store.locks.snapshot(running, LockMode.EXCLUSIVE):
        outcome = carry_out(small.store, planned(small, keep_last=1))
    assert [one.snapshot for one in outcome.refused] == [running]
    killed = carry_out(small.store, planned(small, keep_last=1))

    assert killed.removed == (running,)
    assert left(small) == [day(2)]


def test_pruning_twice_is_pruning_once(small: SmallStore) -> None:
    for number in range(1, 20):
        small.snapshot(day(number), {"x.pxar.didx": [A]})
    carry_out(small.store, planned(small, keep_daily=3, keep_weekly=2))
    once = left(small)

    again = carry_out(small.store, planned(small, keep_daily=3, keep_weekly=2))

    assert again.removed == ()
    assert left(small) == once


def test_a_group_that_is_gone_has_no_decisions(small: SmallStore) -> None:
    assert planned(small, keep_last=1) == []
    assert removals([]) == []


def test_without_a_rule_nothing_goes(small: SmallStore) -> None:
    small.snapshot(day(1), {"x.pxar.didx": [A]})

    assert [one.mark for one in planned(small)] == [Mark.KEEP]


def test_a_store_opened_for_reading_is_not_pruned(small: SmallStore) -> None:
    small.snapshot(day(1), {"x.pxar.didx": [A]})

    with pytest.raises(ReadOnlyViolation):
        carry_out(small.read_only(), planned(small, keep_last=1))
