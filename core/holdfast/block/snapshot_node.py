"""An image of a snapshot as a node: chunks are fetched when they are read, optionally under a
copy-on-write layer that takes writes, so that a machine can start from its backup at once.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from holdfast.block.bit_set import BitSet
from holdfast.block.dirty_bitmap import bits_for
from holdfast.block.node import Buffer, Extent, FileNode, ReadNode, check_range
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.keys import EncryptionKey, chunk_digest
from holdfast.datastore.reader import StreamReader
from holdfast.errors import HoldfastError
from holdfast.units import KIB

T = TypeVar("T")
CLUSTER_BYTES: Final = 64 * KIB
_THREADS: Final = 4


class SnapshotNode:
    """An image archive, read-only."""

    def __init__(self, reader: StreamReader, key: EncryptionKey | None) -> None:
        self._reader = reader
        self._zero = chunk_digest(bytes(CHUNK_BYTES), key)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="snapshot")

    @property
    def size_bytes(self) -> int:
        return self._reader.size

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def read(self, offset: int, length: int) -> Buffer:
        check_range(self.size_bytes, offset, length)
        try:
            return await self._run(self._reader.read_at, offset, length)
        except HoldfastError as error:  # a damaged or missing chunk: the guest sees a bad sector
            raise OSError(errno.EIO, error.message) from error

    async def extents(self, offset: int, length: int) -> Sequence[Extent]:
        """Chunks of zeros are known by their digest."""
        check_range(self.size_bytes, offset, length)
        index, found, end = self._reader.index, list[Extent](), offset + length
        while offset < end:
            number = offset // CHUNK_BYTES
            stop = min((number + 1) * CHUNK_BYTES, end)
            is_zero = index.digest_at(number) == self._zero
            if found and found[-1].is_zero == is_zero:
                before = found.pop()
                found.append(Extent(before.offset, stop - before.offset, is_zero))
            else:
                found.append(Extent(offset, stop - offset, is_zero))
            offset = stop
        return found


class OverlayNode:
    """Writes go to a sparse file, reads find what was written there and the base otherwise.

    Attributes:
        written: clusters of 64 KiB that the overlay holds.
    """

    def __init__(self, base: ReadNode, overlay: FileNode) -> None:
        self.base = base
        self.overlay = overlay
        self.written = BitSet(bits_for(base.size_bytes, CLUSTER_BYTES))
        self._filling = asyncio.Lock()

    @property
    def size_bytes(self) -> int:
        return self.base.size_bytes

    def _runs(self, offset: int, length: int) -> list[tuple[int, int, bool]]:
        """(start, end, whether the overlay has it) of a range."""
        found, at, end = [], offset, offset + length
        last = bits_for(end, CLUSTER_BYTES)
        while at < end:
            cluster = at // CLUSTER_BYTES
            is_here = self.written.test(cluster)
            step = (self.written.next_clear if is_here else self.written.next_set)(cluster, last)
            stop = end if step is None else min(end, step * CLUSTER_BYTES)
            found.append((at, stop, is_here))
            at = stop
        return found

    async def read(self, offset: int, length: int) -> Buffer:
        check_range(self.size_bytes, offset, length)
        parts = []
        for start, stop, is_here in self._runs(offset, length):
            node: ReadNode = self.overlay if is_here else self.base
            parts.append(await node.read(start, stop - start))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def extents(self, offset: int, length: int) -> Sequence[Extent]:
        found: list[Extent] = []
        for start, stop, is_here in self._runs(offset, length):
            node: ReadNode = self.overlay if is_here else self.base
            found += await node.extents(start, stop - start)
        return found

    async def _fill_edges(self, offset: int, length: int) -> None:
        """Bring the clusters that a write covers only in part into the overlay."""
        end = offset + length
        edges = {offset // CLUSTER_BYTES, (end - 1) // CLUSTER_BYTES}
        for cluster in sorted(edges):
            start = cluster * CLUSTER_BYTES
            stop = min(start + CLUSTER_BYTES, self.size_bytes)
            if self.written.test(cluster) or (offset <= start and stop <= end):
                continue
            data = await self.base.read(start, stop - start)
            await self.overlay.write(start, data)
            self.written.set(cluster, cluster + 1)

    async def _change(self, offset: int, length: int, effect: Callable[[], object]) -> None:
        check_range(self.size_bytes, offset, length)
        if not length:
            return
        async with self._filling:  # one at a time: an overlay is for a start, not for a life
            await self._fill_edges(offset, length)
            work = effect()
            if asyncio.iscoroutine(work):
                await work
            self.written.set(offset // CLUSTER_BYTES, bits_for(offset + length, CLUSTER_BYTES))

    async def write(self, offset: int, data: Buffer) -> None:
        await self._change(offset, len(data), lambda: self.overlay.write(offset, data))

    async def write_zeroes(self, offset: int, length: int) -> None:
        await self._change(offset, length, lambda: self.overlay.write_zeroes(offset, length))

    async def discard(self, offset: int, length: int) -> None:
        await self.write_zeroes(offset, length)

    async def flush(self) -> None:
        await self.overlay.flush()
