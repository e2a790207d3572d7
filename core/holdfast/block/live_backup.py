"""Back up an image while guests write to it: one moment, copied straight into a store's chunks.

    without fleecing   guest -> filter -> image        old data goes into the store, in the guest's
                                 '-> store             own write; the unit is a chunk
    with fleecing      guest -> filter -> image        old data goes to a local scratch file; the
                                 '-> scratch           backup reads the moment from both and lets
                                                       scratch space go as it reads

A job's clusters are chunks, so what is left of a failed job is counted in chunks, and by what
really is in the store, never by how far the reading came.
"""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from holdfast.block.bit_set import BitSet
from holdfast.block.copy_before_write import ClusterCopy, CopyBeforeWrite, OnCbwError, cluster_size
from holdfast.block.dirty_bitmap import DirtyBitmap, regrained
from holdfast.block.fleecing import ClusterSizes, FleecingImage
from holdfast.block.job_policy import BitmapJob, BitmapMode, JobOutcome, SyncMode
from holdfast.block.node import Buffer
from holdfast.block.partial_image import PartialImage
from holdfast.block.tracked_image import TrackedImage
from holdfast.datastore.image_writer import ImageWriter
from holdfast.errors import BadRequest, HoldfastError, TemporaryFailure
from holdfast.units import MIB

CBW_TIMEOUT_S: Final = 45.0
WORKERS: Final = 4
READ_BYTES_MIN: Final = 1 * MIB
READ_BYTES_MAX: Final = 4 * MIB
_QUICK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """How a live backup treats its guests.

    Attributes:
        fleecing: the scratch image, None to save old data straight into the store.
        on_cbw_error: who pays when old data cannot be saved.
        cbw_timeout_s: how long a guest waits for that at most; 0 for ever.
        min_cluster_bytes: smallest unit of saving old data.
        workers: chunks read at the same time.
        max_chunk_bytes: most that is read at a time, 0 for a whole chunk of the store.
    """

    fleecing: FleecingImage | None = None
    on_cbw_error: OnCbwError = OnCbwError.BREAK_SNAPSHOT
    cbw_timeout_s: float = CBW_TIMEOUT_S
    min_cluster_bytes: int = 0
    workers: int = WORKERS
    max_chunk_bytes: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise BadRequest("max-workers must be at least 1")
        cluster = cluster_size(minimum_bytes=self.min_cluster_bytes)
        if self.max_chunk_bytes and self.max_chunk_bytes < cluster:
            raise BadRequest(
                f"max-chunk ({self.max_chunk_bytes}) is less than the cluster size ({cluster})"
            )


class ReadSize:
    """How much is read at a time: a guest's write may have to wait for it.

    Begins with 1 MiB; doubles while a read takes less than half of 50 ms, halves when it takes more
    than all of them.

    Attributes:
        size_bytes: for the next read, a multiple of `unit_bytes`.
    """

    def __init__(self, largest_bytes: int, unit_bytes: int) -> None:
        self._unit = unit_bytes
        self._largest = max(unit_bytes, largest_bytes // unit_bytes * unit_bytes)
        self.size_bytes = min(self._largest, max(unit_bytes, READ_BYTES_MIN))

    def took(self, size_bytes: int, seconds: float) -> None:
        """Learn from a read of `size_bytes`; a shorter one tells nothing."""
        if size_bytes < self.size_bytes:
            return
        if seconds > _QUICK_S:
            self.size_bytes = max(self._unit, self.size_bytes // 2 // self._unit * self._unit)
        elif seconds < _QUICK_S / 2:
            self.size_bytes = min(self._largest, self.size_bytes * 2)


@dataclass(slots=True, kw_only=True)
class LiveOutcome:
    """What one run did.

    Attributes:
        read_bytes: taken from the image (or its fleecing image) by the backup.
        zero_chunks: known to be zero and not read.
        saved_for_guests: copies that guests had to wait for.
    """

    read_bytes: int = 0
    zero_chunks: int = 0
    saved_for_guests: int = 0


class _StoreTarget:
    """Takes whole chunks of old data into the store."""

    def __init__(self, backup: "LiveBackup") -> None:
        self._backup = backup

    async def save(self, offset: int, data: Buffer) -> None:
        view, chunk_bytes = memoryview(data), self._backup.chunk_bytes
        for at in range(0, len(view), chunk_bytes):
            await self._backup.put((offset + at) // chunk_bytes, view[at : at + chunk_bytes])

    async def save_zeroes(self, offset: int, length: int) -> None:
        chunk_bytes = self._backup.chunk_bytes
        for at in range(offset, offset + length, chunk_bytes):
            await self._backup.put_zero(at // chunk_bytes)

    async def forget(self, offset: int, length: int) -> None:
        """Nothing to do: the store keeps what it has."""


class LiveBackup:
    """One backup of one image; run() once.

    Attributes:
        partial: what this and earlier failed runs have stored; kept by the caller.
        outcome: figures, also after a failure.
    """

    def __init__(
        self,
        image: TrackedImage,
        writer: ImageWriter,
        partial: PartialImage,
        *,
        options: LiveOptions,
        bitmap: DirtyBitmap | None,
        mode: BitmapMode,
        refresh: BitSet | None,
    ) -> None:
        """Prepare.

        Args:
            image: what guests write to.
            writer: an open image of the store, of the same size.
            partial: chunks that need not be read; updated as chunks are stored.
            options: how guests are treated.
            bitmap: updated at the end, None to track nothing.
            mode: how it is updated.
            refresh: chunks to read besides the bitmap's, None to read everything.
        """
        if writer.size != image.size_bytes:
            raise BadRequest("Source and target image have different sizes")
        self.image = image
        self.partial = partial
        self.outcome = LiveOutcome()
        self.chunk_bytes = writer.chunk_bytes
        self._writer = writer
        self._options = options
        self._bitmap = bitmap
        self._mode = mode
        self._refresh = refresh
        self._stored = BitSet(writer.chunk_count)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="image-writer")
        self._failure: HoldfastError | None = None
        unit = cluster_size(minimum_bytes=options.min_cluster_bytes)
        self._read_size = ReadSize(options.max_chunk_bytes or READ_BYTES_MAX, unit)
        writer.on_stored = self._on_stored

    def _on_stored(self, number: int, digest: bytes) -> None:
        self._stored.set(number, number + 1)
        self.partial.add(number, digest)

    async def put(self, number: int, *parts: Buffer) -> None:
        """Store a chunk (OSError, and the real error is remembered)."""
        await self._write(lambda: self._writer.put(number, *parts))

    async def put_zero(self, number: int) -> None:
        def zero() -> None:
            self._writer.put_zero(number)
            self._on_stored(number, b"")

        self.outcome.zero_chunks += 1
        await self._write(zero)

    async def _write(self, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, work)
        except HoldfastError as error:
            self._failure = self._failure or error
            raise OSError(errno.EIO, error.message) from error

    async def run(self, at_point_in_time: Callable[[], None] = lambda: None) -> None:
        """Copy the image as it is at one moment; the writer is filled but not closed.

        On success call finish() once the snapshot is published; otherwise fail().

        Args:
            at_point_in_time: called at the moment, while no guest request is under way.

        Raises:
            HoldfastError: the store, the image or the fleecing image failed.
        """
        async with self.image.drained():
            self._job = self._start_job()
            self._initial = self._job.copy.copy()
            self._filter = self._insert_filter()
            at_point_in_time()
        try:
            await self._copy_all()
            self._keep_the_rest()
        except OSError as error:
            if self._filter.snapshot_error is not None:
                reason = self._filter.snapshot_error.strerror
                raise self._failure or TemporaryFailure(
                    f"old data of a guest's write could not be saved ({reason}), "
                    "so the backup was given up and the guest went on"
                ) from error
            raise self._failure or HoldfastError(f"{error.strerror} while backing up") from error
        finally:
            self.outcome.saved_for_guests = self._filter.copying.tasks_made
            await self.image.remove_filter(self._filter)
            await self._filter.settle()

    def _start_job(self) -> BitmapJob:
        sync = SyncMode.FULL if self._refresh is None else SyncMode.BITMAP
        job = BitmapJob.start(
            sync,
            size_bytes=self.image.size_bytes,
            cluster_bytes=self.chunk_bytes,
            bitmap=self._bitmap,
            mode=self._mode if self._bitmap is not None else None,
        )
        if self._refresh is not None:
            job.copy.unite(self._refresh)
        return job

    def _insert_filter(self) -> CopyBeforeWrite:
        options, fleecing = self._options, self._options.fleecing
        if fleecing is None:
            copying = ClusterCopy(
                self.image.node,
                _StoreTarget(self),
                cluster_bytes=self.chunk_bytes,
                copy=self._job.copy,
            )
        else:
            cluster = cluster_size(minimum_bytes=options.min_cluster_bytes)
            sizes = ClusterSizes(fleecing_bytes=1, filter_bytes=cluster, job_bytes=self.chunk_bytes)
            if problem := sizes.problem():
                raise BadRequest(problem)
            copy = regrained(
                self._job.copy,
                self.image.size_bytes,
                old_bytes=self.chunk_bytes,
                new_bytes=cluster,
            )
            copying = ClusterCopy(self.image.node, fleecing, cluster_bytes=cluster, copy=copy)
        cbw = CopyBeforeWrite(
            copying,
            saved=None if fleecing is None else fleecing.node,
            on_error=options.on_cbw_error,
            timeout_s=options.cbw_timeout_s,
        )
        self.image.filters.append(cbw)
        return cbw

    async def _copy_all(self) -> None:
        numbers = iter(self._initial.numbers().tolist())

        errors: list[OSError] = []

        async def worker() -> None:
            for number in numbers:
                if errors:
                    return  # chunks under way are finished and count, no new ones are begun
                try:
                    await self._copy(number)
                except OSError as error:
                    errors.append(error)

        workers = [asyncio.ensure_future(worker()) for _number in range(self._options.workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if errors:
            raise errors[0]
        if self._filter.snapshot_error is not None:
            raise self._filter.snapshot_error

    async def _copy(self, number: int) -> None:
        if self._failure is not None:
            raise OSError(errno.EIO, self._failure.message)
        if self._filter.snapshot_error is not None:
            raise self._filter.snapshot_error
        if self._options.fleecing is None:
            await self._filter.copying.copy_range(number, number + 1)
            self.outcome.read_bytes += self._writer.length_of(number)
            return
        offset, length = number * self.chunk_bytes, self._writer.length_of(number)
        extents = await self._filter.extents(offset, length)
        if all(extent.is_zero for extent in extents):
            await self.put_zero(number)
        else:
            await self.put(number, *await self._read(offset, length))
        await self._filter.discard(offset, length)

    async def _read(self, offset: int, length: int) -> list[Buffer]:
        """A chunk of the past, in pieces that guests can bear to wait for."""
        pieces, end = list[Buffer](), offset + length
        clock = asyncio.get_running_loop().time
        while offset < end:
            size, started = min(self._read_size.size_bytes, end - offset), clock()
            pieces.append(await self._filter.read(offset, size))
            self._read_size.took(size, clock() - started)
            offset += size
        self.outcome.read_bytes += length
        return pieces

    def _keep_the_rest(self) -> None:
        held = self.partial.held()
        rest = BitSet.full(self._initial.count)
        rest.subtract(self._initial)
        for number in rest.numbers().tolist():
            if not held.test(number):
                self._writer.keep(number)
            elif digest := self.partial.digest(number):
                self._writer.link(number, digest)
            else:
                self._writer.put_zero(number)

    def close_writer(self) -> None:
        """Wait until every chunk is stored and the index has its name (HoldfastError)."""
        self._writer.close()

    def finish(self) -> None:
        """The snapshot is published: the bitmap begins anew at this run's moment."""
        self._thread.shutdown(wait=True)
        self._job.end(JobOutcome.SUCCESS)

    def fail(self, outcome: JobOutcome = JobOutcome.FAILED) -> None:
        """No snapshot came of it: the bitmap keeps, by its policy, what has to be read again."""
        self._thread.shutdown(wait=True)
        self._writer.settle()
        left = self._initial.copy()
        left.subtract(self._stored)
        self._job.copy = left
        self._job.end(outcome)
