"""Reused memory that file content is read into and chunks are taken from.

A segment is filled by one producer, cut into chunks, and comes back to whoever owns it, mostly a
pool, when it has been filled and the workers are done with every chunk in it. The pool is what
bounds memory: a producer that is ahead of the workers waits here.
"""

import mmap
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from holdfast.units import MIB

_TOUCHED_AT_ONCE_MAX: Final = 4 * MIB


class Segment:
    """A stretch of memory and how many chunks in it are still being worked on.

    Args:
        buffer: the memory.
        on_free: takes the segment each time its last use ends, in the thread that ended it.
    """

    __slots__ = ("_lock", "_on_free", "_users", "buffer", "view")

    def __init__(
        self, buffer: bytearray | mmap.mmap | memoryview, on_free: "Callable[[Segment], None]"
    ) -> None:
        self.buffer: Final = buffer
        self.view: Final = memoryview(buffer)
        self._on_free = on_free
        self._users = 0
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Keep the segment for one more user."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Give up one use; after the last one it goes back to its owner."""
        with self._lock:
            self._users -= 1
            is_free = not self._users
        if is_free:
            self._on_free(self)


def _mapping(size: int) -> mmap.mmap:
    """Memory that costs nothing until it is touched, and then comes in large pages if it can.

    A backup that reads little, such as one of an unchanged tree, touches little of a segment.
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # large pages may be turned off
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class SegmentPool:
    """At most `count_max` segments of `segment_bytes`, made when first wanted."""

    def __init__(self, *, segment_bytes: int, count_max: int) -> None:
        self.segment_bytes: Final = segment_bytes
        self.count_max = count_max
        self._count = 0
        self._free: SimpleQueue[Segment] = SimpleQueue()
        self._lock = threading.Lock()

    def take(self) -> Segment:
        """A segment for the caller to fill, held once; waits for the workers if all are in use."""
        segment = self._take_new() if self._free.empty() else None
        if segment is None:
            segment = self._free.get()
        segment.hold()
        return segment

    def put_back(self, segment: Segment) -> None:
        self._free.put(segment)

    def _take_new(self) -> Segment | None:
        with self._lock:
            if self._count >= self.count_max:
                return None
            self._count += 1
        size = self.segment_bytes
        is_large = size > _TOUCHED_AT_ONCE_MAX
        return Segment(_mapping(size) if is_large else bytearray(size), self.put_back)

    def drop(self) -> None:
        """Let go of the memory that nobody uses, now rather than when cycles are collected."""
        with self._lock, suppress(Empty):
            while True:
                self._free.get_nowait()
                self._count -= 1
