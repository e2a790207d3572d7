"""Jobs and their bitmaps against what QEMU did."""

from typing import Any

import pytest
from tests.harness.vectors import load

from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.job_policy import (
    BitmapJob,
    BitmapMode,
    JobOutcome,
    SyncMode,
    check_request,
)
from holdfast.errors import BadRequest, HoldfastError

CASES = load("block", "bitmap_policy")["cases"]
ROWS = load("block", "api_matrix")["rows"]
OUTCOMES = {
    "success": JobOutcome.SUCCESS,
    "failed": JobOutcome.FAILED,
    "cancelled": JobOutcome.CANCELLED,
}


def _bits(bitmap: DirtyBitmap) -> list[int]:
    return [int(bit) for bit in bitmap.bits.numbers()]


def _replay_steps(job: BitmapJob, steps: list[dict[str, Any]]) -> int:
    """Do what the recorded job and its guest did; the bytes the job copied."""
    copied: list[int] = []
    bitmap = job.bitmap
    assert bitmap is not None
    for step in steps:
        if step["op"] == "background_copy":
            for cluster in step["clusters"]:
                assert job.copy.test(cluster)
                job.copy.clear(cluster, cluster + 1)
                copied.append(cluster)
        elif step["op"].startswith("guest_"):
            first = step["offset"] // job.cluster_bytes
            end = -(-(step["offset"] + step["length"]) // job.cluster_bytes)
            to_save = [c for c in range(first, end) if job.copy.test(c)]
            if step["op"] == "guest_trim" or step["result"] != "ok":
                continue  # swallowed by a job's own filter, or refused: nothing was written
            assert to_save == step["cbw_copies"]
            job.copy.clear(first, end)
            copied += to_save
            bitmap.record(step["offset"], step["length"])
    size, cluster = job.size_bytes, job.cluster_bytes
    return sum(min((c + 1) * cluster, size) - c * cluster for c in copied)


def _replay_attempt(
    bitmap: DirtyBitmap, attempt: dict[str, Any], allocated: list[tuple[int, int]]
) -> None:
    sync, mode = SyncMode(attempt["sync"]), BitmapMode(attempt["bitmap_mode"])
    assert check_request(sync, mode, "b", {"b": bitmap}) == (bitmap, mode)
    job = BitmapJob.start(
        sync,
        size_bytes=bitmap.size_bytes,
        cluster_bytes=attempt["job_cluster_size"],
        bitmap=bitmap,
        mode=mode,
        allocated=allocated,
    )
    sets = attempt["sets"]
    assert _bits(bitmap) == sets["S"]
    if attempt["steps"] is None:  # timing dependent: only the formula is known
        job.copy.clear_all()
        for cluster in sets["R"]:
            job.copy.set(cluster, cluster + 1)
        for bit in sets["N"]:
            bitmap.record(bit * bitmap.granularity_bytes, 1)
    else:
        assert _replay_steps(job, attempt["steps"]) == attempt["bytes_copied"]
    assert bitmap.written_since_begin.numbers().tolist() == sets["N"]
    job.end(OUTCOMES[attempt["outcome"]])
    assert _bits(bitmap) == attempt["bitmap_after"]
    assert not bitmap.busy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_bitmaps_end_as_they_did_in_qemu(case: dict[str, Any]) -> None:
    size = case["image_size"]
    bitmap = DirtyBitmap(name="b", size_bytes=size, granularity_bytes=case["granularity"])
    allocated = [(w["offset"], w["length"]) for w in case["source_allocated_before_bitmap"] or []]
    for write in case["writes_before_job"]:
        bitmap.record(write["offset"], write["length"])
        allocated.append((write["offset"], write["length"]))
    assert _bits(bitmap) == case["bitmap_at_start"]
    if not case["bitmap_recording"]:
        bitmap.recording = False
        with pytest.raises(BadRequest, match="disabled"):  # QEMU would lose writes silently
            bitmap.begin_job()
        return
    for attempt in case["attempts"]:
        _replay_attempt(bitmap, attempt, allocated)
        steps, later = attempt["steps"] or [], attempt["writes_after_job"] or []
        during = [s for s in steps if s["op"] == "guest_write" and s["result"] == "ok"]
        allocated += [(write["offset"], write["length"]) for write in during + later]
        for write in later:
            bitmap.record(write["offset"], write["length"])


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['sync']}-{row['bitmap']}-{row['bitmap_mode']}"
)
def test_argument_combinations_get_the_verdict_of_qemu(row: dict[str, Any]) -> None:
    bitmaps = {"bitmap0": DirtyBitmap(name="bitmap0", size_bytes=1 << 20)}
    mode = BitmapMode(row["bitmap_mode"]) if row["bitmap_mode"] else None

    def check() -> None:
        check_request(SyncMode(row["sync"]), mode, row["bitmap"], bitmaps)

    if row["verdict"] == "accepted":
        check()
        return
    with pytest.raises(HoldfastError) as caught:
        check()
    assert caught.value.message == row["error"]


def test_a_failed_always_job_asks_for_the_rest_and_what_was_written() -> None:
    """The four terabyte drive, one bit for 64 GiB: 3 TB dirty, 2 TB copied, then an error."""
    tib, grain = 1 << 40, 1 << 31
    bitmap = DirtyBitmap(name="b", size_bytes=4 * tib, granularity_bytes=grain)
    bitmap.record(0, 3 * tib)
    job = BitmapJob.start(
        SyncMode.BITMAP,
        size_bytes=4 * tib,
        cluster_bytes=grain,
        bitmap=bitmap,
        mode=BitmapMode.ALWAYS,
    )
    job.copy.clear(0, 2 * tib // grain)
    bitmap.record(100 * grain, 1)
    bitmap.record(4 * tib - 1, 1)
    job.end(JobOutcome.FAILED)
    assert list(bitmap.dirty_ranges()) == [
        (100 * grain, grain),
        (2 * tib, tib),
        (4 * tib - grain, grain),
    ]
