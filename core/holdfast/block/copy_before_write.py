"""Copy-before-write: save what an image held at one moment before a guest may overwrite it.

Three sets of clusters:
    copy     old content that still must be saved; a bit is cleared when a task that copies it is
             made and set again when the task fails
    done     the content of the moment is in the target (or needs no saving any more)
    access   what the snapshot reader may touch; only discards clear it
and two lists: copy tasks in flight (no bit of `copy` lies inside one, so tasks never overlap) and
frozen reads (ranges the snapshot reader is taking from the source right now).

A guest request first has every cluster it touches copied, sets `done`, then waits for frozen reads
over those clusters and only then reaches the source. Since `done` is set before the wait, new
readers go to the target and the frozen reads over the range can only become fewer.
Sets change only between awaits.
"""

import asyncio
import errno
from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from holdfast.block.bit_set import BitSet
from holdfast.block.dirty_bitmap import bits_for
from holdfast.block.node import BlockNode, Buffer, Extent, ReadNode, check_range
from holdfast.errors import BadRequest
from holdfast.units import KIB, MIB

CLUSTER_BYTES_MIN: Final = 64 * KIB
CLUSTER_BYTES_MAX: Final = 64 * MIB
TASK_BYTES_MAX: Final = 1 * MIB
_TASKS_MAX: Final = 16


class OnCbwError(Enum):
    """Who pays when old data cannot be saved: the guest's write fails, or the snapshot breaks."""

    BREAK_GUEST_WRITE = "break-guest-write"
    BREAK_SNAPSHOT = "break-snapshot"


class SaveTarget(Protocol):
    """Where old data goes."""

    async def save(self, offset: int, data: Buffer) -> None: ...

    async def save_zeroes(self, offset: int, length: int) -> None: ...

    async def forget(self, offset: int, length: int) -> None:
        """The range will not be read again."""
        ...


def cluster_size(*, target_bytes: int = 0, minimum_bytes: int = 0) -> int:
    """The unit of copying: the largest of the target's cluster, 64 KiB and what was asked for.

    Raises:
        BadRequest: not a power of two, or above 64 MiB (far above, QEMU itself would crash).
    """
    for value in (target_bytes, minimum_bytes):
        if value and value.bit_count() != 1:
            raise BadRequest(f"a cluster size needs to be a power of 2, not {value}")
        if value > CLUSTER_BYTES_MAX:
            raise BadRequest(f"a cluster size of {value} bytes is above {CLUSTER_BYTES_MAX}")
    return max(target_bytes, CLUSTER_BYTES_MIN, minimum_bytes)


class _Span:
    """Clusters that something is busy with."""

    __slots__ = ("end", "first", "gone")

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def overlaps(self, first: int, end: int) -> bool:
        return self.first < end and first < self.end


class ClusterCopy:
    """Copies clusters from a source to a target, each once, whoever asks for it.

    Attributes:
        copy: what still has to be copied; may be shared with a job's bookkeeping.
        wanted: clusters that somebody may still read; others are not set again after a failure.
    """

    def __init__(
        self,
        source: ReadNode,
        target: SaveTarget,
        *,
        cluster_bytes: int,
        copy: BitSet,
        wanted: BitSet | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self.cluster_bytes = cluster_bytes
        self.copy = copy
        self.wanted = wanted
        self.tasks_made = 0
        self.in_flight: list[_Span] = []
        self._task_clusters = max(1, TASK_BYTES_MAX // cluster_bytes)
        self._slots = asyncio.Semaphore(_TASKS_MAX)

    def span(self, offset: int, length: int) -> tuple[int, int]:
        """The clusters that a range touches."""
        return offset // self.cluster_bytes, bits_for(offset + length, self.cluster_bytes)

    async def copy_range(self, first: int, end: int) -> None:
        """Return when nothing in [first, end) waits to be copied or is being copied.

        Raises:
            OSError: a task of this very call failed; failures of others are tried again.
        """
        while True:
            tasks, at = [], first
            while (start := self.copy.next_set(at, end)) is not None:
                limit = min(end, start + self._task_clusters)
                stop = self.copy.next_clear(start, limit) or limit
                self.copy.clear(start, stop)
                span = _Span(start, stop)
                self.in_flight.append(span)
                tasks.append(asyncio.ensure_future(self._task(span)))
                at = stop
            if tasks:
                results = await asyncio.gather(*tasks, return_exceptions=True)
                for result in results:
                    if result is not None:
                        raise result
            foreign = [span.gone for span in self.in_flight if span.overlaps(first, end)]
            if foreign:
                await asyncio.wait(foreign, return_when=asyncio.FIRST_COMPLETED)
            elif self.copy.next_set(first, end) is None:
                return

    async def _task(self, span: _Span) -> None:
        self.tasks_made += 1
        try:
            async with self._slots:
                await self._transfer(span)
        except BaseException:
            self._want_again(span)
            raise
        finally:
            self.in_flight.remove(span)
            span.gone.set_result(None)

    def _want_again(self, span: _Span) -> None:
        if self.wanted is None:
            self.copy.set(span.first, span.end)
            return
        for cluster in range(span.first, span.end):
            if self.wanted.test(cluster):
                self.copy.set(cluster, cluster + 1)

    async def _transfer(self, span: _Span) -> None:
        offset = span.first * self.cluster_bytes
        end = min(span.end * self.cluster_bytes, self.source.size_bytes)
        extents = await self.source.extents(offset, end - offset)
        for extent in self._whole_clusters(extents, offset, end):
            if extent.is_zero:
                await self.target.save_zeroes(extent.offset, extent.length)
            else:
                data = await self.source.read(extent.offset, extent.length)
                await self.target.save(extent.offset, data)
        if self.wanted is not None:
            for cluster in range(span.first, span.end):
                if not self.wanted.test(cluster):  # discarded by the reader meanwhile
                    at = cluster * self.cluster_bytes
                    await self.target.forget(at, min(self.cluster_bytes, end - at))

    def _whole_clusters(self, extents: Sequence[Extent], offset: int, end: int) -> list[Extent]:
        """The range as extents of whole clusters: one that is zero only in part is data."""
        zero = BitSet(bits_for(end - offset, self.cluster_bytes))
        for extent in extents:
            if extent.is_zero:
                low = bits_for(extent.offset - offset, self.cluster_bytes)
                is_last = extent.end >= end
                high = zero.count if is_last else (extent.end - offset) // self.cluster_bytes
                if low < high:
                    zero.set(low, high)
        found, at = [], 0
        while at < zero.count:
            is_zero = zero.test(at)
            step = zero.next_clear(at) if is_zero else zero.next_set(at)
            stop = zero.count if step is None else step
            start = offset + at * self.cluster_bytes
            length = min(offset + stop * self.cluster_bytes, end) - start
            found.append(Extent(start, length, is_zero))
            at = stop
        return found


class CopyBeforeWrite:
    """The filter between a guest and an image, and the reader of the image's past."""

    def __init__(
        self,
        copying: ClusterCopy,
        *,
        saved: BlockNode | None,
        on_error: OnCbwError = OnCbwError.BREAK_GUEST_WRITE,
        timeout_s: float = 0,
    ) -> None:
        """Protect every cluster in `copying.copy`.

        Args:
            copying: how and where old data is saved.
            saved: the image that old data is saved in, when it can be read from there.
            on_error: who pays for a failed copy.
            timeout_s: after so many seconds a copy counts as failed; 0 for never.
        """
        self.copying = copying
        self.saved = saved
        self.on_error = on_error
        self.timeout_s = timeout_s
        self.access = copying.copy.copy()
        self.done = BitSet(copying.copy.count)
        self.snapshot_error: OSError | None = None
        self._frozen: list[_Span] = []
        self._abandoned: set[asyncio.Future[None]] = set()
        copying.wanted = self.access

    @property
    def size_bytes(self) -> int:
        return self.copying.source.size_bytes

    async def before_write(self, offset: int, length: int) -> None:
        """Save what a guest is about to overwrite.

        Raises:
            OSError: it could not be saved and the policy is to fail the guest's write.
        """
        if self.snapshot_error is not None or not length:
            return
        first, end = self.copying.span(offset, length)
        try:
            await self._copy_in_time(first, end)
        except OSError as error:
            if self.on_error is OnCbwError.BREAK_GUEST_WRITE:
                raise
            if self.snapshot_error is None:  # the first failure tells the most
                self.snapshot_error = error
        else:
            self.done.set(first, end)
        while waits := [span.gone for span in self._frozen if span.overlaps(first, end)]:
            if self.snapshot_error is not None:
                return  # those reads will be refused: the guest need not wait for them
            await asyncio.wait(waits)

    async def _copy_in_time(self, first: int, end: int) -> None:
        if self.copying.copy.next_set(first, end) is None and not self.copying.in_flight:
            return
        work = asyncio.ensure_future(self.copying.copy_range(first, end))
        if not self.timeout_s:
            await work
            return
        await asyncio.wait([work], timeout=self.timeout_s)
        if not work.done():  # goes on by itself; only the guest stops waiting
            self._abandoned.add(work)
            work.add_done_callback(self._abandoned_ended)
            raise OSError(errno.ETIMEDOUT, "saving old data took too long")
        work.result()

    def _abandoned_ended(self, work: "asyncio.Future[None]") -> None:
        self._abandoned.discard(work)
        if not work.cancelled():
            work.exception()  # seen: the bits are set again, the next write tries once more

    def _check_access(self, first: int, end: int) -> None:
        if self.snapshot_error is not None:
            raise PermissionError(errno.EACCES, "the snapshot is broken: old data was not saved")
        if self.access.next_clear(first, end) is not None:
            raise PermissionError(errno.EACCES, "outside of what the snapshot can still read")

    async def read(self, offset: int, length: int) -> Buffer:
        """Bytes of the moment the filter was put in.

        Raises:
            PermissionError: broken, discarded, or never protected.
        """
        check_range(self.size_bytes, offset, length)
        first, end = self.copying.span(offset, length)
        self._check_access(first, end)
        if self.done.next_set(first, end) is None:
            return await self._read_source(offset, length)
        parts, at = [], offset
        while at < offset + length:
            cluster = at // self.copying.cluster_bytes
            self._check_access(cluster, end)
            is_done = self.done.test(cluster)
            step = self.done.next_clear(cluster, end) if is_done else None
            step = step if is_done else self.done.next_set(cluster, end)
            stop = offset + length
            stop = stop if step is None else min(stop, step * self.copying.cluster_bytes)
            if is_done and self.saved is not None:
                parts.append(await self.saved.read(at, stop - at))
            else:
                parts.append(await self._read_source(at, stop - at))
            at = stop
        self._check_access(first, end)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_source(self, offset: int, length: int) -> Buffer:
        span = _Span(*self.copying.span(offset, length))
        self._frozen.append(span)
        try:
            data = await self.copying.source.read(offset, length)
        finally:
            self._frozen.remove(span)
            span.gone.set_result(None)
        if self.snapshot_error is not None:  # the guest may have overwritten it while we read
            raise PermissionError(errno.EACCES, "the snapshot broke while it was read")
        return data

    async def extents(self, offset: int, length: int) -> Sequence[Extent]:
        """Where the past is known to be zero (PermissionError as for read)."""
        check_range(self.size_bytes, offset, length)
        first, end = self.copying.span(offset, length)
        self._check_access(first, end)
        found: list[Extent] = []
        at = offset
        while at < offset + length:
            cluster = at // self.copying.cluster_bytes
            is_done = self.done.test(cluster)
            step = (self.done.next_clear if is_done else self.done.next_set)(cluster, end)
            stop = offset + length
            stop = stop if step is None else min(stop, step * self.copying.cluster_bytes)
            node = self.saved if is_done and self.saved is not None else self.copying.source
            if node is self.copying.source:
                found += await self._source_extents(at, stop - at)
            else:
                found += await node.extents(at, stop - at)
            at = stop
        self._check_access(first, end)
        return found

    async def _source_extents(self, offset: int, length: int) -> Sequence[Extent]:
        span = _Span(*self.copying.span(offset, length))
        self._frozen.append(span)
        try:
            return await self.copying.source.extents(offset, length)
        finally:
            self._frozen.remove(span)
            span.gone.set_result(None)

    async def discard(self, offset: int, length: int) -> None:
        """The reader is finished with a range: whole clusters inside it are let go."""
        check_range(self.size_bytes, offset, length)
        first = bits_for(offset, self.copying.cluster_bytes)
        end = (offset + length) // self.copying.cluster_bytes
        if offset + length == self.size_bytes:  # the short last cluster belongs to it
            end = self.access.count
        if first >= end:
            return
        self.access.clear(first, end)
        self.copying.copy.clear(first, end)
        start = first * self.copying.cluster_bytes
        stop = min(end * self.copying.cluster_bytes, self.size_bytes)
        await self.copying.target.forget(start, stop - start)

    async def settle(self) -> None:
        """Wait for copies whose guests stopped waiting."""
        while self._abandoned:
            await asyncio.wait(self._abandoned)
