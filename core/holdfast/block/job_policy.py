"""What a backup job copies, and what its bitmap says afterwards.

    sync mode      copies at first                 | bitmap mode  success   failure or cancel
    full           every cluster                   | never        S | N     S | N
    top            clusters that are allocated     | on-success   N         S | N
    incremental    S (always on-success)           | always       N         R | N
    bitmap         S
    none           nothing; only old data of guest writes

S are the bits at the start, N those written since, R what was not copied, in clusters of the job,
rounded outwards to the bitmap's granularity. With `always`, R | N describes the distance to the
partial target, so that target must be kept until a later run onto it succeeds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self

from holdfast.block.bit_set import BitSet
from holdfast.block.dirty_bitmap import DirtyBitmap, bits_for, regrained
from holdfast.errors import BadRequest, NotFound


class SyncMode(Enum):
    FULL = "full"
    TOP = "top"
    INCREMENTAL = "incremental"
    BITMAP = "bitmap"
    NONE = "none"


class BitmapMode(Enum):
    NEVER = "never"
    ON_SUCCESS = "on-success"
    ALWAYS = "always"


class JobOutcome(Enum):
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


def check_request(
    sync: SyncMode, mode: BitmapMode | None, name: str | None, bitmaps: Mapping[str, DirtyBitmap]
) -> tuple[DirtyBitmap | None, BitmapMode | None]:
    """The bitmap and mode a job runs with; checked in the order QEMU checks them.

    Raises:
        BadRequest: the combination makes no sense.
        NotFound: there is no such bitmap.
        Refused, Busy: the bitmap is inconsistent, or another job uses it.
    """
    needs_bitmap = sync in (SyncMode.BITMAP, SyncMode.INCREMENTAL)
    if name is None:
        if needs_bitmap:
            raise BadRequest(f"must provide a valid bitmap name for '{sync.value}' sync mode")
        if mode is not None:
            raise BadRequest("Cannot specify bitmap sync mode without a bitmap")
        return None, None
    if sync is SyncMode.INCREMENTAL:
        if mode not in (None, BitmapMode.ON_SUCCESS):
            raise BadRequest(
                "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'"
            )
        mode = BitmapMode.ON_SUCCESS
    bitmap = bitmaps.get(name)
    if bitmap is None:
        raise NotFound(f"Bitmap '{name}' could not be found")
    if mode is None:
        raise BadRequest("Bitmap sync mode must be given when providing a bitmap")
    bitmap.require_usable()
    if sync is SyncMode.NONE:
        raise BadRequest("sync mode 'none' does not produce meaningful bitmap outputs")
    if mode is BitmapMode.NEVER and not needs_bitmap:
        raise BadRequest(
            "Bitmap sync mode 'never' has no meaningful effect when combined with "
            f"sync mode '{sync.value}'"
        )
    return bitmap, mode


def bits_afterwards(
    outcome: JobOutcome, mode: BitmapMode, *, start: BitSet, new: BitSet, left: BitSet
) -> BitSet:
    """The bitmap after a job, all sets in its granularity; a new set."""
    after = new.copy()
    if outcome is JobOutcome.SUCCESS and mode is not BitmapMode.NEVER:
        return after
    is_retry = outcome is not JobOutcome.SUCCESS and mode is BitmapMode.ALWAYS
    after.unite(left if is_retry else start)
    return after


@dataclass(slots=True, kw_only=True, eq=False)
class BitmapJob:
    """The bookkeeping of one backup job: its bitmap, if any, and what is left to copy.

    Attributes:
        copy: one bit per cluster of the job that has still to be copied. A bit is cleared when
            the task that copies it is made and set again when that task fails.
    """

    size_bytes: int
    cluster_bytes: int
    copy: BitSet
    bitmap: DirtyBitmap | None = None
    mode: BitmapMode | None = None

    @classmethod
    def start(
        cls,
        sync: SyncMode,
        *,
        size_bytes: int,
        cluster_bytes: int,
        bitmap: DirtyBitmap | None = None,
        mode: BitmapMode | None = None,
        allocated: Iterable[tuple[int, int]] = (),
    ) -> Self:
        """Begin a job that check_request let pass.

        Args:
            sync: what it copies.
            size_bytes: of the image.
            cluster_bytes: the unit of copying.
            bitmap: used and updated by the job.
            mode: how the bitmap is updated.
            allocated: (offset, length) that the top layer holds, for `top` alone.

        Raises:
            BadRequest: the image has another size than the bitmap.
        """
        if bitmap is not None:
            if bitmap.size_bytes != size_bytes:
                raise BadRequest("source and bitmap have different sizes")
            bitmap.begin_job()
        count = bits_for(size_bytes, cluster_bytes)
        if sync in (SyncMode.BITMAP, SyncMode.INCREMENTAL) and bitmap is not None:
            copy = bitmap.in_clusters(cluster_bytes)
        elif sync is SyncMode.TOP:
            copy = BitSet(count)
            for offset, length in allocated:
                copy.set(offset // cluster_bytes, bits_for(offset + length, cluster_bytes))
        else:
            copy = BitSet.full(count)
        return cls(
            size_bytes=size_bytes, cluster_bytes=cluster_bytes, copy=copy, bitmap=bitmap, mode=mode
        )

    def end(self, outcome: JobOutcome) -> None:
        """Update the bitmap by the policy and let it go; call exactly once."""
        bitmap = self.bitmap
        if bitmap is None or self.mode is None:
            return
        left = regrained(
            self.copy,
            self.size_bytes,
            old_bytes=self.cluster_bytes,
            new_bytes=bitmap.granularity_bytes,
        )
        new = bitmap.written_since_begin
        after = bits_afterwards(outcome, self.mode, start=bitmap.bits, new=new, left=left)
        bitmap.end_job(after)
