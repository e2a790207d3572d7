"""Which bitmaps of a machine's disk tell what must be read: the chain of epochs.

At the point in time n the bitmap "n" begins to record and the one before is frozen, in the same
transaction. A finished snapshot makes older bitmaps worthless. A failed run keeps them all: each
chunk of its partial image is valid for some epoch, and a retry at point m reads a chunk valid for e
when a bitmap of an epoch from e to m - 1 has it dirty, or such a bitmap is lost.

Which stretch of epochs a bitmap stands for: the newest one, still recording, from its own up to
now; a frozen one up to the next epoch on record. Long chains are merged, older into newer.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import FullReason, stale_chunks
from holdfast.block.partial_image import PartialImage
from holdfast.block.vm_disks import BitmapState, VmDisk
from holdfast.block.vm_graph import GRANULARITY_BYTES, PREFIX, Action
from holdfast.block.vm_record import DiskChain

FROZEN_MAX: Final = 3
_TAG_DIGITS: Final = 12


def bitmap_tag(mark: str, store: str) -> str:
    """What names of bitmaps begin with: a digest of a machine's record, a store and a namespace."""
    return hashlib.sha256(f"{mark}|{store}".encode()).hexdigest()[:_TAG_DIGITS]


def bitmap_name(tag: str, epoch: int) -> str:
    return f"{PREFIX}{tag}-{epoch}"


def bitmap_epochs(disk: VmDisk, tag: str) -> dict[int, BitmapState]:
    """Our bitmaps of one store on a disk, by epoch, ascending."""
    prefix = bitmap_name(tag, 0).removesuffix("0")
    found = {}
    for name, state in disk.bitmaps.items():
        number = name.removeprefix(prefix)
        if name.startswith(prefix) and number.isdecimal():
            found[int(number)] = state
    return dict(sorted(found.items()))


@dataclass(slots=True, kw_only=True)
class DiskPlan:
    """How one disk is backed up at one point in time.

    Attributes:
        chain: as it will be on record.
        reason: why everything is read, None when a chain can be used.
        partial: chunks of failed runs that may still be good.
        frozen: epochs whose bitmaps are exported and asked.
        actions: what the transaction does to bitmaps.
        was_recording: the epoch whose bitmap recorded up to now, None for none.
    """

    disk: VmDisk
    chain: DiskChain
    reason: FullReason | None
    partial: PartialImage | None
    frozen: list[int]
    actions: list[Action]
    was_recording: int | None

    @property
    def uses_base(self) -> bool:
        """Whether chunks of the base snapshot may be kept."""
        return self.reason is None


def plan_disk(
    disk: VmDisk,
    chain: DiskChain,
    *,
    tag: str,
    now: int,
    reason: FullReason | None,
    partial: PartialImage | None,
) -> DiskPlan:
    """Decide what happens to the bitmaps of one disk.

    Args:
        disk: as it is in the machine.
        chain: what the record says; not changed.
        tag: of the store.
        now: number of the new point in time.
        reason: why the base snapshot cannot be used, None when it can.
        partial: what failed runs stored, None for nothing.
    """
    present = bitmap_epochs(disk, tag)
    good = {e: s for e, s in present.items() if s is not BitmapState.INCONSISTENT}
    oldest = _oldest_needed(chain, reason, partial)
    usable = [e for e in good if oldest is not None and e >= oldest]
    if reason is None:
        reason = _why_no_bitmap(chain, present)
    actions: list[Action] = []
    for epoch in present:
        if epoch not in usable:
            data = {"node": disk.node, "name": bitmap_name(tag, epoch)}
            actions.append(("block-dirty-bitmap-remove", data))
    name = bitmap_name(tag, now)
    add = {"node": disk.node, "name": name, "granularity": GRANULARITY_BYTES}
    actions.insert(0, ("block-dirty-bitmap-add", add | {"persistent": disk.keeps_bitmaps}))
    was_recording = None
    for epoch in usable:
        if good[epoch] is BitmapState.RECORDING:
            was_recording = epoch
            data = {"node": disk.node, "name": bitmap_name(tag, epoch)}
            actions.append(("block-dirty-bitmap-disable", data))
    starts = {e: chain.starts.get(str(e), e) for e in usable}
    while len(usable) > FROZEN_MAX:
        older, newer = usable[0], usable[1]
        target, source = bitmap_name(tag, newer), bitmap_name(tag, older)
        merge = {"node": disk.node, "target": target, "bitmaps": [source]}
        actions.append(("block-dirty-bitmap-merge", merge))
        remove = {"node": disk.node, "name": source}
        actions.append(("block-dirty-bitmap-remove", remove))
        starts[newer] = starts.pop(older)
        usable = usable[1:]
    planned = DiskChain(
        node=disk.node,
        size_bytes=disk.size_bytes,
        base=chain.base,
        base_epoch=chain.base_epoch,
        crypt=chain.crypt,
        epochs=sorted(
            {*usable, *(e for e in chain.epochs if oldest is not None and e >= oldest), now}
        ),
        starts={str(e): start for e, start in starts.items() if start != e},
    )
    return DiskPlan(
        disk=disk,
        chain=planned,
        reason=reason,
        partial=partial,
        frozen=usable,
        actions=actions,
        was_recording=was_recording,
    )


def _oldest_needed(
    chain: DiskChain, reason: FullReason | None, partial: PartialImage | None
) -> int | None:
    """The first epoch whose bitmap still matters, None when none does."""
    if reason is None:
        return chain.base_epoch
    if partial is None:
        return None
    held = partial.valid_as_of[partial.valid_as_of >= 0]
    return int(held.min()) if len(held) else None


def _why_no_bitmap(chain: DiskChain, present: Mapping[int, BitmapState]) -> FullReason | None:
    starts = [e for e in present if chain.starts.get(str(e), e) <= chain.base_epoch <= e]
    if not starts:
        return FullReason.BITMAP_MISSING
    if present[starts[0]] is BitmapState.INCONSISTENT:
        return FullReason.BITMAP_INCONSISTENT
    return None


def chunks_to_read(plan: DiskPlan, dirty: Mapping[int, BitSet], *, count: int, now: int) -> BitSet:
    """Chunks of the disk that cannot be taken from the partial image or the base.

    Args:
        plan: of the disk.
        dirty: for each frozen bitmap, by its epoch, one bit per chunk.
        count: chunks of the disk.
        now: number of this point in time.
    """
    valid: npt.NDArray[np.int64] = np.full(count, plan.chain.base_epoch if plan.uses_base else -1)
    if plan.partial is not None:
        held = plan.partial.valid_as_of
        valid = np.maximum(valid, held.astype(np.int64))
    by_epoch: dict[int, BitSet] = {}
    numbers = [e for e in plan.chain.epochs if e < now]
    for epoch in plan.frozen:
        later = min((e for e in numbers if e > epoch), default=epoch + 1)
        end = now if epoch == plan.was_recording else later
        for covered in range(plan.chain.starts.get(str(epoch), epoch), end):
            by_epoch[covered] = dirty[epoch]
    first = int(valid.min(initial=now))
    lost = frozenset(e for e in range(first, now) if e not in by_epoch)
    return stale_chunks(valid, now=now, dirty=by_epoch, lost=lost)
