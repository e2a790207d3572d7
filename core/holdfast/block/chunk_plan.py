"""From dirty ranges to the chunks of a fixed index: what to read, what to take from the base.

Chunk n covers the bytes [n * C, min((n + 1) * C, size)). A chunk with any dirty byte is refreshed:
from the zero chunk when the image says that all of it is a hole that reads as zero, else by reading
all of it. Dirty and zero is recorded, never skipped: the base still holds the old data. All other
chunks keep their digest of the base index, which may be used only when every rule of
`why_not_incremental` holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from holdfast.block.bit_set import BitSet
from holdfast.block.dirty_bitmap import DirtyBitmap, bits_for
from holdfast.errors import Busy

ChunkNumbers = npt.NDArray[np.int64]


class FullReason(Enum):
    """Why everything is read, in the order the rules are checked."""

    NO_PREVIOUS = "no-previous-snapshot"
    INCOMPLETE = "previous-incomplete"
    VERIFY_FAILED = "previous-verify-failed"
    CRYPT_MODE = "crypt-mode-changed"
    CHUNK_SIZE = "chunk-size-changed"
    IMAGE_SIZE = "image-size-changed"
    IDENTITY = "disk-identity-changed"
    BITMAP_MISSING = "bitmap-missing"
    BITMAP_INCONSISTENT = "bitmap-inconsistent"
    BITMAP_DISABLED = "bitmap-not-recording"
    BITMAP_BASE = "bitmap-base-mismatch"
    PARTIAL_LOST = "partial-result-lost"

    @property
    def sentence(self) -> str:
        """The reason for a person."""
        return _SENTENCES[self]


_SENTENCES = {
    FullReason.NO_PREVIOUS: "there is no previous snapshot of this disk",
    FullReason.INCOMPLETE: "the previous snapshot was never finished",
    FullReason.VERIFY_FAILED: "the previous snapshot failed its verification",
    FullReason.CRYPT_MODE: "the encryption mode or key changed",
    FullReason.CHUNK_SIZE: "the chunk size changed",
    FullReason.IMAGE_SIZE: "the disk changed its size",
    FullReason.IDENTITY: "this is not the disk that was backed up before",
    FullReason.BITMAP_MISSING: "the record of changes (dirty bitmap) is gone",
    FullReason.BITMAP_INCONSISTENT: "the dirty bitmap is inconsistent after a crash",
    FullReason.BITMAP_DISABLED: "somebody disabled the dirty bitmap",
    FullReason.BITMAP_BASE: "the dirty bitmap belongs to another snapshot",
    FullReason.PARTIAL_LOST: "the partial result of the failed run is gone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What must not change between a base and the backup on top of it.

    Attributes:
        crypt: encryption mode and key fingerprint as one text.
        identity: what makes the disk this disk, empty when unknown.
    """

    size_bytes: int
    chunk_bytes: int
    crypt: str = "none"
    identity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousImage:
    """The newest snapshot's image of the same disk."""

    snapshot: str
    facts: ImageFacts
    is_complete: bool = True
    has_failed_verify: bool = False


def why_not_incremental(
    now: ImageFacts, previous: PreviousImage | None, bitmap: DirtyBitmap | None
) -> FullReason | None:
    """Why everything must be read; None when the bitmap and the previous image can be trusted.

    Raises:
        Busy: another backup uses the bitmap, which is no reason to read everything.
    """
    if bitmap is not None and bitmap.busy:
        raise Busy(f"another backup is running: bitmap '{bitmap.name}' is in use")
    if previous is None:
        return FullReason.NO_PREVIOUS
    return _why_not_base(now, previous) or _why_not_bitmap(previous, bitmap)


def _why_not_base(now: ImageFacts, previous: PreviousImage) -> FullReason | None:
    before = previous.facts
    checks = (
        (previous.is_complete, FullReason.INCOMPLETE),
        (not previous.has_failed_verify, FullReason.VERIFY_FAILED),
        (before.crypt == now.crypt, FullReason.CRYPT_MODE),
        (before.chunk_bytes == now.chunk_bytes, FullReason.CHUNK_SIZE),
        (before.size_bytes == now.size_bytes, FullReason.IMAGE_SIZE),
        (before.identity == now.identity, FullReason.IDENTITY),
    )
    return next((reason for holds, reason in checks if not holds), None)


def _why_not_bitmap(previous: PreviousImage, bitmap: DirtyBitmap | None) -> FullReason | None:
    if bitmap is None:
        return FullReason.BITMAP_MISSING
    checks = (
        (not bitmap.inconsistent, FullReason.BITMAP_INCONSISTENT),
        (bitmap.recording, FullReason.BITMAP_DISABLED),
        (bitmap.base == previous.snapshot, FullReason.BITMAP_BASE),
    )
    return next((reason for holds, reason in checks if not holds), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPlan:
    """Chunk numbers, ascending: read them, store the zero chunk, or keep the base's digest."""

    size_bytes: int
    chunk_bytes: int
    read: ChunkNumbers
    zero: ChunkNumbers
    keep: ChunkNumbers

    @property
    def read_bytes(self) -> int:
        """What reading will cost."""
        if not len(self.read):
            return 0
        last = bits_for(self.size_bytes, self.chunk_bytes) - 1
        missing = (last + 1) * self.chunk_bytes - self.size_bytes
        return len(self.read) * self.chunk_bytes - (missing if self.read[-1] == last else 0)

    def not_read(self) -> BitSet:
        """Chunks whose bytes nobody will ask for."""
        wanted = np.ones(bits_for(self.size_bytes, self.chunk_bytes), bool)
        wanted[self.read] = False
        return BitSet(len(wanted), np.packbits(wanted, bitorder="little"))


def plan_chunks(
    refresh: BitSet,
    *,
    size_bytes: int,
    chunk_bytes: int,
    zero: Iterable[tuple[int, int]] = (),
    data: BitSet | None = None,
) -> ChunkPlan:
    """Sort the chunks of an image.

    Args:
        refresh: one bit per chunk that must not come from the base.
        size_bytes: of the image.
        chunk_bytes: of a chunk, a power of two.
        zero: (offset, length) of stretches that are known to read as zero.
        data: one bit per chunk that is read whatever `zero` says.
    """
    is_zero = BitSet(refresh.count)
    for first, end in _joined(zero):
        last = refresh.count if end >= size_bytes else end // chunk_bytes
        low = bits_for(first, chunk_bytes)
        if low < last:
            is_zero.set(low, last)
    if data is not None:
        is_zero.subtract(data)
    zeroes = refresh.copy()
    kept = BitSet.full(refresh.count)
    kept.subtract(refresh)
    read = refresh.copy()
    read.subtract(is_zero)
    zeroes.subtract(read)
    return ChunkPlan(
        size_bytes=size_bytes,
        chunk_bytes=chunk_bytes,
        read=read.numbers(),
        zero=zeroes.numbers(),
        keep=kept.numbers(),
    )


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """(start, end) of (offset, length), those that touch made one."""
    start = end = 0
    for offset, length in ranges:
        if offset > end or offset < start:
            if end > start:
                yield start, end
            start, end = offset, offset + length
        else:
            end = max(end, offset + length)
    if end > start:
        yield start, end


def stale_chunks(
    valid_as_of: npt.NDArray[np.int64],
    *,
    now: int,
    dirty: Mapping[int, BitSet],
    lost: frozenset[int] = frozenset(),
) -> BitSet:
    """Chunks of a partial image that must be read at point in time `now`.

    A chunk that holds the state of epoch e is stale when a bitmap k with e <= k < now has it dirty,
    or such a bitmap is lost: bitmap k records what was written between points k and k + 1.

    Args:
        valid_as_of: for each chunk the epoch its stored digest belongs to.
        now: number of this point in time.
        dirty: for each epoch one bit per chunk written in it.
        lost: epochs whose bitmap is gone.
    """
    stale = np.zeros(len(valid_as_of), bool)
    for epoch in range(int(valid_as_of.min(initial=now)), now):
        touched = valid_as_of <= epoch
        if epoch not in lost and epoch in dirty:
            bits = np.unpackbits(dirty[epoch].table, count=len(stale), bitorder="little")
            touched &= bits.astype(bool)
        stale |= touched
    table = np.packbits(stale, bitorder="little")
    return BitSet(len(stale), table)
