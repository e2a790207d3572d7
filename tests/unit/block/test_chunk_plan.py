"""Which chunks a backup reads, and when it may rely on the one before."""

from typing import Any

import numpy as np
import pytest
from tests.harness.vectors import load

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import (
    FullReason,
    ImageFacts,
    PreviousImage,
    plan_chunks,
    stale_chunks,
    why_not_incremental,
)
from holdfast.block.dirty_bitmap import DirtyBitmap, bits_for
from holdfast.errors import Busy
from holdfast.units import KIB, MIB, TIB

VECTORS = load("block", "chunk_map")


def _previous(case: dict[str, Any]) -> PreviousImage | None:
    record = case["previous"]
    if record is None:
        return None
    facts = ImageFacts(
        size_bytes=record["image_size"],
        chunk_bytes=record["chunk_size"],
        crypt=record.get("crypt", "none"),
    )
    return PreviousImage(
        snapshot=record["id"],
        facts=facts,
        is_complete=record["complete"],
        has_failed_verify=record["verify"] == "failed",
    )


def _bitmap(case: dict[str, Any]) -> DirtyBitmap | None:
    record = case["bitmap"]
    if record is None:
        return None
    bitmap = DirtyBitmap(
        name="b",
        size_bytes=case["image_size"],
        granularity_bytes=record["granularity"],
        recording=record["recording"],
        inconsistent=record.get("inconsistent", False),
        base=record["base_snapshot"],
    )
    for offset, length in case.get("dirty", []):
        bitmap.record(offset, min(length, case["image_size"] - offset))
    if record.get("busy"):
        bitmap.begin_job()
    return bitmap


@pytest.mark.parametrize("case", VECTORS["plan_cases"], ids=lambda case: case["id"])
def test_the_plan_is_the_expected_one(case: dict[str, Any]) -> None:
    size, chunk = case["image_size"], case["chunk_size"]
    now = ImageFacts(size_bytes=size, chunk_bytes=chunk, crypt=case.get("crypt", "none"))
    expect, bitmap = case["expect"], _bitmap(case)
    if expect["mode"] == "error":
        with pytest.raises(Busy, match="another backup"):
            why_not_incremental(now, _previous(case), bitmap)
        return
    reason = why_not_incremental(now, _previous(case), bitmap)
    assert (reason.value if reason else None) == expect["reason"]
    count = bits_for(size, chunk)
    refresh = BitSet.full(count)
    if reason is None and bitmap is not None:
        refresh = bitmap.in_clusters(chunk)
    zero = [tuple(pair) for pair in case.get("hole_and_zero", [])]
    plan = plan_chunks(refresh, size_bytes=size, chunk_bytes=chunk, zero=zero)
    assert count == expect["chunk_count"]
    assert plan.read.tolist() == expect["read_chunks"]
    assert plan.zero.tolist() == expect["zero_chunks"]
    assert plan.keep.tolist() == expect["reused_chunks"]
    assert plan.read_bytes == expect["read_bytes"]


@pytest.mark.parametrize("case", VECTORS["epoch_cases"], ids=lambda case: case["id"])
def test_a_retry_reads_what_is_stale(case: dict[str, Any]) -> None:
    count = case["chunk_count"]
    dirty = {}
    for epoch, chunks in case["dirty_chunks_by_epoch"].items():
        dirty[int(epoch)] = bits = BitSet(count)
        for chunk in chunks:
            bits.set(chunk, chunk + 1)
    stale = stale_chunks(
        np.array(case["chunk_valid_as_of_epoch"], np.int64),
        now=case["current_epoch"],
        dirty=dirty,
        lost=frozenset(case["lost_epochs"]),
    )
    assert stale.numbers().tolist() == case["expect_read_chunks"]


def test_a_failed_verification_and_another_disk_are_reasons_to_read_everything() -> None:
    now = ImageFacts(size_bytes=MIB, chunk_bytes=MIB, identity="disk-b")
    bitmap = DirtyBitmap(name="b", size_bytes=MIB, base="s1")
    old = ImageFacts(size_bytes=MIB, chunk_bytes=MIB, identity="disk-a")
    moved = PreviousImage(snapshot="s1", facts=old)
    failed = PreviousImage(snapshot="s1", facts=now, has_failed_verify=True)
    assert why_not_incremental(now, moved, bitmap) is FullReason.IDENTITY
    assert why_not_incremental(now, failed, bitmap) is FullReason.VERIFY_FAILED
    good = PreviousImage(snapshot="s1", facts=now)
    assert why_not_incremental(now, good, bitmap) is None
    bitmap.inconsistent = True
    assert why_not_incremental(now, good, bitmap) is FullReason.BITMAP_INCONSISTENT


def test_every_reason_has_a_sentence() -> None:
    assert all(reason.sentence for reason in FullReason)


def test_touching_zero_stretches_make_one_zero_chunk() -> None:
    halves = [(0, 2 * MIB), (2 * MIB, 2 * MIB), (5 * MIB, 3 * MIB)]
    plan = plan_chunks(BitSet.full(2), size_bytes=8 * MIB, chunk_bytes=4 * MIB, zero=halves)
    assert plan.zero.tolist() == [0]
    assert plan.read.tolist() == [1]


def test_a_terabyte_with_scattered_writes_is_planned_from_its_bitmap() -> None:
    bitmap = DirtyBitmap(name="b", size_bytes=TIB)
    for position in range(0, TIB, 512 * MIB):
        bitmap.record(position + 100, 64 * KIB)
    refresh = bitmap.in_clusters(4 * MIB)
    plan = plan_chunks(refresh, size_bytes=TIB, chunk_bytes=4 * MIB)
    assert len(plan.read) == 2048
    assert len(plan.keep) == TIB // (4 * MIB) - 2048
    assert plan.read_bytes == 2048 * 4 * MIB
