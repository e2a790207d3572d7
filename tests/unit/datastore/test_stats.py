from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore

from holdfast.datastore.stats import measure
from holdfast.units import KIB

A, B, C = b"a" * 4096, b"b" * (100 * KIB), bytes(range(256)) * 16


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def test_figures_of_a_whole_store(small: SmallStore) -> None:
    first = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    second = small.snapshot("vm/1/2026-01-02T00:00:00Z", {"x.pxar.didx": [A, A, C]})
    stored = sum(path.stat().st_size for path in small.chunk_files())

    stats = measure(small.read_only(), [first, second])

    assert (stats.snapshots, stats.groups, stats.chunks) == (2, 2, 3)
    assert stats.logical_bytes == 3 * len(A) + len(B) + len(C)
    assert stats.chunk_bytes == len(A) + len(B) + len(C)
    assert stats.stored_bytes == stats.exclusive_bytes == stored
    assert stats.dedup_factor == stats.logical_bytes / stored
    assert stats.compression_ratio == stats.chunk_bytes / stored
    assert [(one.upto, one.chunks, one.data_bytes) for one in stats.histogram if one.chunks] == [
        (64 * KIB, 2, len(A) + len(C)),
        (128 * KIB, 1, len(B)),
    ]
    assert sum(one.stored_bytes for one in stats.histogram) == stored


def test_a_selection_has_the_chunks_that_only_it_holds_for_itself(small: SmallStore) -> None:
    first = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    small.snapshot("host/a/2026-01-02T00:00:00Z", {"x.pxar.didx": [A, C]})

    stats = measure(small.store, [first])

    assert stats.chunks == 2
    assert stats.exclusive_bytes == small.path(small.put(B)).stat().st_size


def test_an_empty_selection_is_no_division_by_zero(small: SmallStore) -> None:
    stats = measure(small.store, [])

    assert (stats.chunks, stats.dedup_factor, stats.compression_ratio) == (0, 1.0, 1.0)


def test_missing_chunks_are_counted(small: SmallStore) -> None:
    first = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    small.path(small.put(A)).unlink()

    assert measure(small.store, [first]).missing_chunks == 1
