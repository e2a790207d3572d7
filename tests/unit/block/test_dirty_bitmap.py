"""Dirty bitmaps one by one."""

import pytest

from holdfast.block.dirty_bitmap import DirtyBitmap, check_granularity
from holdfast.errors import BadRequest, Busy, Refused
from holdfast.units import GIB, KIB, MIB, TIB


def test_a_write_sets_every_bit_it_touches() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=MIB)
    bitmap.record(64 * KIB - 1, 2)
    assert list(bitmap.dirty_ranges()) == [(0, 128 * KIB)]
    assert bitmap.count_bytes() == 128 * KIB


def test_the_last_partial_bit_counts_in_full_but_ranges_are_cut() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=100 * KIB)
    bitmap.record(99 * KIB, KIB)
    assert bitmap.count_bytes() == 64 * KIB
    assert list(bitmap.dirty_ranges()) == [(64 * KIB, 36 * KIB)]


@pytest.mark.parametrize("granularity", [0, 256, 1000, 3 * 512, 1 << 32])
def test_odd_granularities_are_refused(granularity: int) -> None:
    with pytest.raises(BadRequest, match="power of 2"):
        check_granularity(granularity)


@pytest.mark.parametrize("name", ["", "x" * 1024])
def test_empty_and_overlong_names_are_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        DirtyBitmap(name=name, size_bytes=MIB)


def test_merging_rounds_outwards_in_both_directions() -> None:
    fine = DirtyBitmap(name="f", size_bytes=MIB, granularity_bytes=4 * KIB)
    coarse = DirtyBitmap(name="c", size_bytes=MIB, granularity_bytes=256 * KIB)
    fine.record(260 * KIB, 1)
    coarse.merge(fine)
    assert list(coarse.dirty_ranges()) == [(256 * KIB, 256 * KIB)]
    fine.merge(coarse)
    assert list(fine.dirty_ranges()) == [(256 * KIB, 256 * KIB)]


def test_growing_leaves_the_new_area_clean_and_shrinking_cuts() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=MIB)
    bitmap.record(0, MIB)
    bitmap.resize(2 * MIB)
    assert list(bitmap.dirty_ranges()) == [(0, MIB)]
    bitmap.resize(100 * KIB)
    assert list(bitmap.dirty_ranges()) == [(0, 100 * KIB)]


def test_a_busy_bitmap_refuses_every_other_use() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=MIB)
    bitmap.begin_job()
    for use in (bitmap.begin_job, bitmap.clear, bitmap.require_usable):
        with pytest.raises(Busy):
            use()
    bitmap.record(0, 1)
    assert bitmap.bits.ones() == 0
    assert bitmap.written_since_begin.ones() == 1


def test_an_inconsistent_bitmap_records_nothing_and_is_refused() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=MIB, inconsistent=True)
    bitmap.record(0, MIB)
    assert bitmap.count_bytes() == 0
    with pytest.raises(Refused, match="inconsistent"):
        bitmap.require_usable()


def test_terabytes_are_marked_and_counted_at_once() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=4 * TIB)
    bitmap.record(TIB + 1, 2 * TIB)
    assert bitmap.count_bytes() == 2 * TIB + 64 * KIB
    assert bitmap.in_clusters(GIB).ones() == 2 * 1024 + 1
