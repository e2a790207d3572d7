"""Dirty bitmaps through long lives: writes, jobs, failures, cancels, crashes; against plain sets."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.block.bitmap_file import BitmapFile
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.job_policy import BitmapJob, BitmapMode, JobOutcome, SyncMode

SIZE = 3_000_000  # no multiple of anything
GRAINS = (4096, 65536, 262_144)
CLUSTERS = (65536, 262_144)


class BitmapLife(RuleBasedStateMachine):
    """The model keeps sets of granules; the file is closed and opened, or left by a crash."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._image = os.open(Path(self._directory.name) / "image", os.O_RDWR | os.O_CREAT)
        os.truncate(self._image, SIZE)
        self.job: BitmapJob | None = None
        self.dirty: set[int] = set()
        self.new: set[int] = set()
        self.left: set[int] = set()
        self.mode = BitmapMode.NEVER
        self.is_lost = False

    def teardown(self) -> None:
        os.close(self._image)
        self._directory.cleanup()

    def _open(self) -> None:
        path = str(Path(self._directory.name) / "bitmaps")
        self.file = BitmapFile.open(path, self._image, SIZE)

    @initialize(grain=st.sampled_from(GRAINS))
    def start(self, grain: int) -> None:
        self.grain = grain
        self._open()
        self._make()

    def _make(self) -> None:
        self.file.add(DirtyBitmap(name="b", size_bytes=SIZE, granularity_bytes=self.grain))
        self.dirty, self.is_lost = set(), False

    @property
    def bitmap(self) -> DirtyBitmap:
        return self.file.bitmaps["b"]

    def _granules(self, offset: int, length: int, unit: int) -> set[int]:
        return set(range(offset // unit, -(-(offset + length) // unit)))

    @rule(offset=st.integers(0, SIZE - 1), length=st.integers(1, 700_000))
    def write(self, offset: int, length: int) -> None:
        length = min(length, SIZE - offset)
        self.bitmap.record(offset, length)
        if self.is_lost:
            return
        touched = self._granules(offset, length, self.grain)
        if self.job is None:
            self.dirty |= touched
            return
        self.new |= touched
        clusters = self._granules(offset, length, self.job.cluster_bytes)
        self.left -= clusters  # the filter saved them first
        self.job.copy.clear(min(clusters), max(clusters) + 1)

    @precondition(lambda self: self.job is None and not self.is_lost)
    @rule(
        sync=st.sampled_from((SyncMode.BITMAP, SyncMode.FULL)),
        mode=st.sampled_from(tuple(BitmapMode)),
        cluster=st.sampled_from(CLUSTERS),
    )
    def begin(self, sync: SyncMode, mode: BitmapMode, cluster: int) -> None:
        if sync is SyncMode.FULL and mode is BitmapMode.NEVER:
            mode = BitmapMode.ALWAYS
        self.mode, self.new = mode, set()
        self.job = BitmapJob.start(
            sync, size_bytes=SIZE, cluster_bytes=cluster, bitmap=self.bitmap, mode=mode
        )
        self.left = self._granules(0, SIZE, cluster)
        if sync is SyncMode.BITMAP:
            self.left = set()
            for granule in self.dirty:
                length = min(self.grain, SIZE - granule * self.grain)
                self.left |= self._granules(granule * self.grain, length, cluster)

    @precondition(lambda self: self.job is not None)
    @rule(share=st.floats(0, 1))
    def copy_some(self, share: float) -> None:
        assert self.job is not None
        for cluster in sorted(self.left)[: int(len(self.left) * share) + 1]:
            self.left.discard(cluster)
            self.job.copy.clear(cluster, cluster + 1)

    @precondition(lambda self: self.job is not None)
    @rule(outcome=st.sampled_from(tuple(JobOutcome)))
    def end(self, outcome: JobOutcome) -> None:
        assert self.job is not None
        is_success = outcome is JobOutcome.SUCCESS
        if is_success:
            self.job.copy.clear_all()
            self.left = set()
        self.job.end(outcome)
        if is_success and self.mode is not BitmapMode.NEVER:
            self.dirty = set(self.new)
        elif not is_success and self.mode is BitmapMode.ALWAYS:
            cluster = self.job.cluster_bytes
            self.dirty = set(self.new)
            for number in self.left:
                length = min(cluster, SIZE - number * cluster)
                self.dirty |= self._granules(number * cluster, length, self.grain)
        else:
            self.dirty |= self.new
        self.job = None

    @rule()
    def restart(self) -> None:
        """Close in good order; a running job counts as failed under on-success."""
        self.file.close()
        if self.job is not None:
            self.dirty |= self.new
            self.job = None
        self._open()

    @rule()
    def crash(self) -> None:
        """The process ends without closing: whatever the file says is not to be believed."""
        self._open()
        self.job, self.is_lost = None, True
        assert self.bitmap.inconsistent

    @precondition(lambda self: self.is_lost)
    @rule()
    def begin_anew(self) -> None:
        self.file.remove("b")
        self._make()

    @invariant()
    def says_what_the_model_says(self) -> None:
        if self.is_lost:
            assert self.bitmap.inconsistent
            return
        assert set(self.bitmap.bits.numbers().tolist()) == self.dirty
        assert self.bitmap.count_bytes() == len(self.dirty) * self.grain
        if self.job is not None:
            assert set(self.bitmap.written_since_begin.numbers().tolist()) == self.new
            assert set(self.job.copy.numbers().tolist()) == self.left


@pytest.mark.slow
class TestBitmapLife(BitmapLife.TestCase):  # type: ignore[misc, valid-type]
    """150 lives of 80 steps."""

    settings = settings(
        max_examples=150,
        stateful_step_count=80,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
