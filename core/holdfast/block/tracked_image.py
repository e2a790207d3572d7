"""An image that guests write through, so that backups can be taken of it at any moment.

Every guest request first passes the copy-before-write filters, then reaches the image, then marks
the bitmaps, and only then is answered. Requests over the same bytes are carried out in the order
they came. `drained` is the barrier at which filters and bitmaps change: it lets no new request in
and waits for those under way, so that no write is on both sides of a point in time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from enum import Enum

from holdfast.block.copy_before_write import CopyBeforeWrite
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.node import BlockNode, Buffer, Extent, check_range


class Discard(Enum):
    """What a guest's TRIM does."""

    UNMAP = "unmap"
    IGNORE = "ignore"


class _Request:
    __slots__ = ("done", "end", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class TrackedImage:
    """A node with dirty bitmaps and copy-before-write filters on top.

    Attributes:
        node: the image itself.
        bitmaps: by name; all of them see every write.
        filters: those of running backups.
    """

    def __init__(
        self,
        node: BlockNode,
        bitmaps: dict[str, DirtyBitmap] | None = None,
        *,
        discard: Discard = Discard.UNMAP,
    ) -> None:
        self.node = node
        self.bitmaps = {} if bitmaps is None else bitmaps
        self.filters: list[CopyBeforeWrite] = []
        self._discard = discard
        self._requests: list[_Request] = []
        self._admits = asyncio.Event()
        self._admits.set()

    @property
    def size_bytes(self) -> int:
        return self.node.size_bytes

    async def read(self, offset: int, length: int) -> Buffer:
        return await self.node.read(offset, length)

    async def extents(self, offset: int, length: int) -> Sequence[Extent]:
        return await self.node.extents(offset, length)

    async def flush(self) -> None:
        await self.node.flush()

    async def write(self, offset: int, data: Buffer) -> None:
        await self._guest(offset, len(data), lambda: self.node.write(offset, data))

    async def write_zeroes(self, offset: int, length: int) -> None:
        await self._guest(offset, length, lambda: self.node.write_zeroes(offset, length))

    async def discard(self, offset: int, length: int) -> None:
        check_range(self.size_bytes, offset, length)
        if self._discard is Discard.UNMAP:
            await self._guest(offset, length, lambda: self.node.discard(offset, length))

    async def _guest(self, offset: int, length: int, effect: Callable[[], Awaitable[None]]) -> None:
        check_range(self.size_bytes, offset, length)
        while not self._admits.is_set():
            await self._admits.wait()
        request = _Request(offset, offset + length)
        before = [r.done for r in self._requests if r.start < request.end and offset < r.end]
        self._requests.append(request)
        try:
            if before:
                await asyncio.wait(before)
            for copy_filter in tuple(self.filters):
                await copy_filter.before_write(offset, length)
            try:
                await effect()
            finally:  # a write that failed half-way has changed something, too
                for bitmap in self.bitmaps.values():
                    bitmap.record(offset, length)
        finally:
            self._requests.remove(request)
            request.done.set_result(None)

    async def remove_filter(self, copy_filter: CopyBeforeWrite) -> None:
        """Take a filter away; no request is inside it any more when this returns."""
        self.filters.remove(copy_filter)
        inside = [request.done for request in self._requests]
        if inside:
            await asyncio.wait(inside)

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        """No guest request is under way inside the block; use it for moments only."""
        while not self._admits.is_set():
            await self._admits.wait()
        self._admits.clear()
        try:
            while self._requests:
                await asyncio.wait([request.done for request in self._requests])
            yield
        finally:
            self._admits.set()
