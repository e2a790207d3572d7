"""Which bitmaps are kept, and what a retry reads, without a machine."""

import random

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import FullReason, ImageFacts
from holdfast.block.partial_image import PartialImage
from holdfast.block.vm_chain import DiskPlan, bitmap_name, chunks_to_read, plan_disk
from holdfast.block.vm_disks import BitmapState, VmDisk
from holdfast.block.vm_record import DiskChain

TAG = "0123abcd"
COUNT = 40
CHUNK = 4 << 20


class Life:
    """A disk's bitmaps and record over many attempts, and for each chunk when it was written."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bitmaps: dict[int, set[int]] = {}
        self.recording: int | None = None
        self.chain = DiskChain(node="disk0", size_bytes=COUNT * CHUNK)
        self.partial: PartialImage | None = None
        self.version = [0] * COUNT
        self.base_version: list[int] | None = None
        self.stored: dict[int, int] = {}

    def write(self) -> None:
        for _number in range(self.rng.randrange(4)):
            chunk = self.rng.randrange(COUNT)
            self.version[chunk] += 1
            if self.recording is not None:
                self.bitmaps[self.recording].add(chunk)

    def disk(self) -> VmDisk:
        states = {
            bitmap_name(TAG, epoch): BitmapState.RECORDING
            if epoch == self.recording
            else BitmapState.DISABLED
            for epoch in self.bitmaps
        }
        return VmDisk("vd0", "disk0", COUNT * CHUNK, True, states)

    def apply(self, plan: DiskPlan, now: int) -> None:
        """What the transaction does."""
        for kind, data in plan.actions:
            name = str(data.get("name", data.get("target")))
            epoch = int(name.rpartition("-")[2])
            match kind:
                case "block-dirty-bitmap-add":
                    self.bitmaps[epoch] = set()
                case "block-dirty-bitmap-remove":
                    del self.bitmaps[epoch]
                case "block-dirty-bitmap-merge":
                    sources = data["bitmaps"]
                    assert isinstance(sources, list)
                    self.bitmaps[epoch] |= self.bitmaps[int(sources[0].rpartition("-")[2])]
        self.recording = now

    def attempt(self, now: int, *, succeeds: bool) -> None:
        reason = None if self.base_version is not None else FullReason.NO_PREVIOUS
        plan = plan_disk(
            self.disk(), self.chain, tag=TAG, now=now, reason=reason, partial=self.partial
        )
        self.apply(plan, now)
        self.chain = plan.chain
        at_moment = list(self.version)
        dirty = {}
        for epoch in plan.frozen:
            dirty[epoch] = BitSet(COUNT)
            for chunk in self.bitmaps[epoch]:
                dirty[epoch].set(chunk, chunk + 1)
        refresh = chunks_to_read(plan, dirty, count=COUNT, now=now)
        facts = ImageFacts(size_bytes=COUNT * CHUNK, chunk_bytes=CHUNK)
        self.partial = self.partial or PartialImage.empty(facts, base="", owner="")
        self.write()
        for chunk in refresh.numbers().tolist():
            if not succeeds and self.rng.randrange(2):
                continue
            self.partial.add(chunk, b"\x01" * 32, now)
            self.stored[chunk] = at_moment[chunk]
        if not succeeds:
            return
        held = self.partial.held()
        result = []
        for chunk in range(COUNT):
            if held.test(chunk):
                result.append(self.stored[chunk])
            else:
                assert self.base_version is not None
                result.append(self.base_version[chunk])
        assert result == at_moment, "the snapshot mixes moments"
        self.base_version, self.partial, self.stored = at_moment, None, {}
        self.chain.base_epoch, self.chain.epochs, self.chain.starts = now, [now], {}


def test_any_row_of_failures_ends_in_a_snapshot_of_one_moment() -> None:
    for seed in range(60):
        life = Life(seed)
        for now in range(1, 25):
            life.write()
            life.attempt(now, succeeds=life.rng.randrange(3) == 0)
            assert len(life.bitmaps) <= 4 + 1
        life.attempt(25, succeeds=True)


def test_a_lost_bitmap_means_that_what_it_covered_is_read_again() -> None:
    life = Life(1)
    life.attempt(1, succeeds=True)
    life.write()
    life.bitmaps.clear()
    life.recording = None
    plan = plan_disk(life.disk(), life.chain, tag=TAG, now=2, reason=None, partial=None)
    assert plan.reason is FullReason.BITMAP_MISSING
    assert chunks_to_read(plan, {}, count=COUNT, now=2).ones() == COUNT


def test_a_transaction_that_never_happened_does_not_cost_a_full_read() -> None:
    life = Life(2)
    life.attempt(1, succeeds=True)
    life.chain.epochs.append(2)  # on record, but QEMU refused
    life.write()
    plan = plan_disk(life.disk(), life.chain, tag=TAG, now=3, reason=None, partial=None)
    dirty = BitSet(COUNT)
    for chunk in life.bitmaps[1]:
        dirty.set(chunk, chunk + 1)
    assert plan.reason is None
    assert chunks_to_read(plan, {1: dirty}, count=COUNT, now=3) == dirty
