"""One image into a fixed index: chunks in any order, zeros and unchanged chunks almost for free.

A chunk comes in one of four ways: as bytes (`put`, copied), as a function that fills a buffer in a
worker's own thread (`fetch`, so that reading runs beside hashing and finds the bytes in the
processor's cache), as a known zero (`put_zero`), or as "the same as in the base" (`keep`). A full
chunk of zeros is recognised by one comparison in C and hashed and stored once per image.
"""

from collections.abc import Callable
from functools import cache
from queue import Empty, SimpleQueue
from typing import Final

from holdfast.datastore.fixed_index import FixedIndexWriter
from holdfast.datastore.index import Index, IndexSummary
from holdfast.datastore.segments import Segment, SegmentPool
from holdfast.datastore.upload import Lane, Uploader
from holdfast.errors import BadRequest
from holdfast.host.files import Buffer
from holdfast.units import MIB

CHUNK_BYTES: Final = 4 * MIB
Fill = Callable[[memoryview], None]


@cache
def _zeros(size: int) -> bytes:
    return bytes(size)


def _nobody(_number: int, _digest: bytes) -> None:
    pass


class _ImageChunk:
    """One chunk in a buffer, filled by the producer or in the worker."""

    __slots__ = ("_done", "_fill", "_length", "_segment", "digest", "is_zero", "number")

    def __init__(
        self,
        number: int,
        segment: Segment,
        length: int,
        done: "SimpleQueue[_ImageChunk]",
        fill: Fill | None = None,
    ) -> None:
        self.number = number
        self.digest: bytes | None = None
        self.is_zero = False
        self._segment = segment
        self._length = length
        self._done = done
        self._fill = fill

    def run(self, lane: Lane) -> None:
        data = self._segment.view[: self._length]
        if self._fill is not None:
            self._fill(data)
        buffer = self._segment.buffer
        self.is_zero = (
            self._length == len(buffer)
            and isinstance(buffer, bytearray)
            and buffer == _zeros(len(buffer))
        )
        if not self.is_zero:
            self.digest = lane.store(data)

    def release(self) -> None:
        self._segment.release()
        self._done.put(self)


class _ZeroChunk:
    """The chunk of zeros, stored once however often it is used."""

    __slots__ = ("_done", "_size", "digest")

    def __init__(self, size: int) -> None:
        self.digest: bytes | None = None
        self._size = size
        self._done: SimpleQueue[None] = SimpleQueue()

    def run(self, lane: Lane) -> None:
        self.digest = lane.store(memoryview(_zeros(self._size)))

    def release(self) -> None:
        self._done.put(None)

    def wait(self) -> None:
        self._done.get()


class ImageWriter:
    """Takes the chunks of one image; made by `BackupSession.image`.

    Attributes:
        size: bytes of the image.
        chunk_bytes: bytes of each chunk but perhaps the last.
        chunk_count: chunks of the image; their numbers run from 0.
        on_stored: told the number and digest of each chunk that was given as bytes and is in the
            store, with an empty digest for zeros; in the producer's thread.
    """

    def __init__(
        self,
        size: int,
        index: FixedIndexWriter,
        uploader: Uploader,
        pool: SegmentPool,
        *,
        base: Index | None,
        on_close: Callable[[IndexSummary], None],
    ) -> None:
        self.size: Final = size
        self.chunk_bytes: Final = pool.segment_bytes
        self.chunk_count: Final = -(-size // self.chunk_bytes)
        self._index = index
        self._uploader = uploader
        self._pool = pool
        self._base = base
        self._on_close = on_close
        self._done: SimpleQueue[_ImageChunk] = SimpleQueue()
        self._running = 0
        self._zero_numbers: list[int] = []
        self.on_stored: Callable[[int, bytes], None] = _nobody

    def length_of(self, number: int) -> int:
        """Bytes of chunk `number` (BadRequest when the image has no such chunk)."""
        if not 0 <= number < self.chunk_count:
            raise BadRequest(f"an image of {self.size} bytes has no chunk {number}")
        return min(self.chunk_bytes, self.size - number * self.chunk_bytes)

    def put(self, number: int, *parts: Buffer) -> None:
        """Chunk `number` is `parts` in a row, which are copied (BadRequest on a wrong length)."""
        length, given = self.length_of(number), sum(map(len, parts))
        if given != length:
            raise BadRequest(f"chunk {number} has {length} bytes, not {given}")
        segment, at = self._pool.take(), 0
        for part in parts:
            segment.view[at : at + len(part)] = part
            at += len(part)
        self._submit(_ImageChunk(number, segment, length, self._done))

    def fetch(self, number: int, fill: Fill) -> None:
        """Chunk `number` is what `fill` puts into the buffer it gets, in a worker's thread.

        `fill` has to overwrite the whole buffer; what it raises ends the backup.
        """
        length = self.length_of(number)
        self._submit(_ImageChunk(number, self._pool.take(), length, self._done, fill))

    def put_zero(self, number: int) -> None:
        """Chunk `number` is all zeros."""
        length = self.length_of(number)
        if length == self.chunk_bytes:
            self._zero_numbers.append(number)
        else:
            self.put(number, bytes(length))

    def keep(self, number: int) -> None:
        """Chunk `number` is what it was in the base (BadRequest when that cannot be)."""
        length = self.length_of(number)
        base = self._base
        if base is None or number >= base.chunk_count:
            raise BadRequest(f"chunk {number} is not part of an earlier backup")
        start, end = base.range_at(number)
        if (start, end - start) != (number * self.chunk_bytes, length):
            raise BadRequest(f"chunk {number} had another size in the earlier backup")
        self._index.put(number, base.digest_at(number))
        self._uploader.count_injected(chunks=1, size=length)

    def link(self, number: int, digest: bytes) -> None:
        """Chunk `number` is one that the caller knows to be in the store (BadRequest)."""
        length = self.length_of(number)
        self._index.put(number, digest)
        self._uploader.count_injected(chunks=1, size=length)

    def settle(self) -> None:
        """Wait for chunks under way and tell `on_stored`, whatever became of the backup."""
        while self._running:
            self._finish(self._done.get())

    def close(self) -> IndexSummary:
        """End the image: all its chunks are stored and its index has its final name.

        Raises:
            BadRequest: a chunk is missing, or the image is empty.
            HoldfastError: a worker failed, now or earlier.
        """
        while self._running:
            self._finish(self._done.get())
        self._uploader.check()
        self._put_zeros()
        summary = self._index.close()
        self._on_close(summary)
        return summary

    def abandon(self) -> None:
        """Drop the image and its unfinished index; does nothing after `close`."""
        self._index.abandon()

    def _submit(self, chunk: _ImageChunk) -> None:
        self._running += 1
        self._uploader.submit(chunk)
        try:
            while True:
                self._finish(self._done.get_nowait())
        except Empty:
            pass
        self._uploader.check()

    def _finish(self, chunk: _ImageChunk) -> None:
        self._running -= 1
        if chunk.is_zero:
            self._zero_numbers.append(chunk.number)
            self.on_stored(chunk.number, b"")
        elif chunk.digest is not None:
            self._index.put(chunk.number, chunk.digest)
            self.on_stored(chunk.number, chunk.digest)

    def _put_zeros(self) -> None:
        if not self._zero_numbers:
            return
        zero = _ZeroChunk(self.chunk_bytes)
        self._uploader.submit(zero)
        zero.wait()
        self._uploader.check()
        if zero.digest is not None:
            for number in self._zero_numbers:
                self._index.put(number, zero.digest)
        repeated = len(self._zero_numbers) - 1
        self._uploader.count_injected(chunks=repeated, size=repeated * self.chunk_bytes)
