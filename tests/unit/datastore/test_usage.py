"""Who uses the space of a store, and what a lost chunk hits."""

import os
from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore

from holdfast.datastore.damage import lost_chunks
from holdfast.datastore.exclusive import freed_by_removing
from holdfast.datastore.usage import WEEKS, measure
from holdfast.ids import name_to_epoch
from holdfast.operations.usage import Measured, path_of, remember, remembered
from holdfast.units import DAY, KIB

A, B, C, D = b"a" * 4096, b"b" * (100 * KIB), bytes(range(256)) * 16, b"d" * 9000
NOW = name_to_epoch("2026-01-20T00:00:00Z")


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def _size(small: SmallStore, *contents: bytes) -> int:
    return sum(small.path(small.put(content)).stat().st_size for content in contents)


def test_what_snapshots_and_groups_hold_alone(small: SmallStore) -> None:
    one = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    two = small.snapshot("host/a/2026-01-18T00:00:00Z", {"x.pxar.didx": [B, C], "y.pxar.didx": [C]})
    three = small.snapshot("vm/1/2026-01-02T00:00:00Z", {"x.pxar.didx": [A, D, D]})

    usage = measure(small.read_only(), NOW)

    assert usage.snapshots == {
        one: 0,
        two: _size(small, C),
        three: _size(small, D),
    }
    assert usage.groups == {one.group: _size(small, B, C), three.group: _size(small, D)}
    assert usage.stored_bytes == _size(small, A, B, C, D)
    assert [(shared.upto, shared.chunks) for shared in usage.shared_by] == [
        (1, 2),
        (9, 2),
        (49, 0),
        (None, 0),
    ]
    assert sum(usage.weeks) == usage.stored_bytes
    assert usage.weeks[-1] == _size(small, C)
    for snapshot, size in usage.snapshots.items():
        assert freed_by_removing(small.store, [snapshot]).total_bytes == size


def test_old_data_is_in_no_week(small: SmallStore) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})

    assert measure(small.store, NOW + WEEKS * 7 * DAY).weeks == (0,) * WEEKS


def test_indexes_outside_of_snapshots_make_chunks_shared(small: SmallStore) -> None:
    one = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    stray = small.base / "host" / "a" / "kept.didx"
    os.link(small.base / one.path / "x.pxar.didx", stray)

    assert measure(small.store, NOW).snapshots == {one: 0}


def test_figures_are_remembered_and_rubbish_is_not_believed(
    small: SmallStore, tmp_path: Path
) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    measured = Measured(NOW, 1.5, measure(small.store, NOW))
    state = str(tmp_path / "state")

    assert remembered(state, small.store) is None
    remember(state, small.store, measured)
    assert remembered(state, small.store) == measured

    path = Path(path_of(state, small.store))
    for rubbish in (
        b"",
        b"[]",
        b'{"measured_at": 1}',
        path.read_bytes().replace(b'": 0', b'": -1'),
    ):
        path.write_bytes(rubbish)
        assert remembered(state, small.store) is None


def test_a_lost_chunk_hits_everybody_who_names_it(small: SmallStore) -> None:
    one = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    two = small.snapshot("host/a/2026-01-02T00:00:00Z", {"x.pxar.didx": [B, B, C]})
    small.snapshot("vm/1/2026-01-02T00:00:00Z", {"x.pxar.didx": [A]})
    digest = small.put(B)
    small.path(digest).rename(f"{small.path(digest)}.0.bad")

    (lost,) = lost_chunks(small.read_only(), [one])

    assert lost.digest == digest
    assert lost.snapshots == (one, two)
    assert lost.set_aside_s is not None
    assert lost.uses[1].ranges == ((0, 2 * len(B)),)


def test_nothing_is_lost_where_every_chunk_has_a_file(small: SmallStore) -> None:
    one = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})

    assert lost_chunks(small.store, [one]) == []
