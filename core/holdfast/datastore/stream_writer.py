"""One stream into a dynamic index: bytes and known chunks in, chunks and index entries out.

The producer reads file content straight into `room()`, or hands over memory that it filled itself
(`adopt`); nothing is joined or copied on the way to the workers. When enough new bytes are there
the cutter looks at the segment, and each chunk it ends is handed to a worker as a view of the
segment. What is left behind the last cut, less than a maximal chunk, moves to the next segment by
one copy.

`position` is virtual: bytes written plus bytes of injected chunks. Injected chunks force a boundary
there; the piece before them may be shorter than the minimum.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from holdfast.chunking.boundaries import StreamCutter
from holdfast.datastore.dynamic_index import DynamicIndexWriter
from holdfast.datastore.index import IndexSummary
from holdfast.datastore.segments import Segment, SegmentPool
from holdfast.datastore.upload import KnownChunks, Lane, Uploader
from holdfast.errors import BadRequest, HoldfastError
from holdfast.host.files import Buffer
from holdfast.units import KIB

_SCANS_PER_SEGMENT: Final = 4


@dataclass(frozen=True, slots=True)
class KnownChunk:
    """A stored chunk that may be put into a stream without its bytes.

    Attributes:
        digest: its name.
        size: its bytes before compression.
    """

    digest: bytes
    size: int


class _StreamChunk:
    """A piece of a segment on its way through a worker, and its place in the index."""

    __slots__ = ("_data", "_done", "_segment", "digest", "end")

    def __init__(
        self, data: memoryview, end: int, segment: Segment, done: "SimpleQueue[None]"
    ) -> None:
        self.end = end
        self.digest: bytes | None = None
        self._data: memoryview | None = data
        self._segment = segment
        self._done = done

    def run(self, lane: Lane) -> None:
        if self._data is not None:
            self.digest = lane.store(self._data)

    def release(self) -> None:
        self._data = None
        self._segment.release()
        self._done.put(None)


class _InjectedChunk:
    """A chunk that needs no worker."""

    __slots__ = ("digest", "end")

    def __init__(self, digest: bytes, end: int) -> None:
        self.digest: bytes | None = digest
        self.end = end


def segment_bytes_for(chunk_bytes_max: int) -> int:
    """Room for the longest piece that may be left behind a cut, and a mean chunk to fill.

    Not more: memory that was not touched for a while costs more than the copies it saves.
    """
    return chunk_bytes_max + chunk_bytes_max // 4


class StreamWriter:
    """Takes one stream of bytes; made by `BackupSession.stream`.

    Attributes:
        position: virtual offset of the next byte.
        injected_bytes: how much of `position` came from injected chunks.
    """

    def __init__(
        self,
        cutter: StreamCutter,
        index: DynamicIndexWriter,
        uploader: Uploader,
        known: KnownChunks,
        pool: SegmentPool,
        *,
        on_close: Callable[[IndexSummary], None],
    ) -> None:
        self.position = 0
        self.injected_bytes = 0
        self._cutter = cutter
        self._suggest = cutter.suggest
        self._index = index
        self._uploader = uploader
        self._known = known
        self._pool = pool
        self._on_close = on_close
        self._segment = pool.take()
        self._view = self._segment.view
        self._size = pool.segment_bytes
        self._start = 0  # of the unfinished chunk in the segment
        self._fill = 0  # end of the bytes in the segment
        self._step = max(self._size // _SCANS_PER_SEGMENT, 64 * KIB)
        self._scan_at = min(self._step, self._size)
        self._entries: deque[_StreamChunk | _InjectedChunk] = deque()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._running = 0
        self._is_open = True

    # The producer's side: called for every file, so each does next to nothing -----------------

    def room(self) -> memoryview:
        """Where the next bytes may be put; at least one byte long, good until the next call."""
        return self._view[self._fill :]

    def commit(self, count: int) -> None:
        """The first `count` bytes of `room()` belong to the stream now (HoldfastError)."""
        self.position += count
        self._fill += count
        if self._fill >= self._scan_at:
            self._scan()

    def write(self, data: Buffer) -> None:
        """Add bytes by copying them (HoldfastError)."""
        count = len(data)
        end = self._fill + count
        if end < self._scan_at:
            self._view[self._fill : end] = data
            self._fill = end
            self.position += count
        else:
            self._write_in_pieces(memoryview(data))

    def adopt(self, segment: Segment, start: int, count: int) -> None:
        """Add `count` bytes that lie in `segment` from `start` on, mostly without copying them.

        What is left of the unfinished chunk is put before them if it fits there, and the stream goes
        on in that segment. The caller's use of it passes to the stream (HoldfastError).
        """
        unfinished = self._fill - self._start
        if unfinished > start:
            try:
                self._write_in_pieces(segment.view[start : start + count])
            finally:
                segment.release()
            return
        self._move_to(segment, start - unfinished)
        self._fill += count
        self.position += count
        self._scan()

    def suggest(self) -> None:
        """A file begins at `position`: a good place to cut."""
        self._suggest(self.position)

    def suggest_all(self, positions: Sequence[int]) -> None:
        """Files will begin at these positions, which ascend from the last one suggested."""
        self._cutter.suggest_all(positions)

    def inject(self, chunks: Sequence[KnownChunk]) -> None:
        """Put stored chunks here instead of bytes; forces a boundary (BadRequest: not known)."""
        for chunk in chunks:
            if self._known.length(chunk.digest) != chunk.size:
                raise BadRequest(f"chunk {chunk.digest.hex()} is not known to this backup")
        self._cut(ended=True)
        raw_bytes = self._fill - self._start
        self._hand_over(raw_bytes)
        total = 0
        for chunk in chunks:
            total += chunk.size
            self._entries.append(_InjectedChunk(chunk.digest, self.position + total))
        self._cutter.force(raw_bytes, total)
        self.position += total
        self.injected_bytes += total
        self._uploader.count_injected(chunks=len(chunks), size=total)
        self._append_finished()
        if self._fill >= self._scan_at:
            self._next_threshold()

    def end(self) -> None:
        """No more bytes will come: the last chunks go to the workers, without waiting for them.

        `close` does that too; this is for several streams that end together (HoldfastError).
        """
        self._cut(ended=True)
        self._hand_over(self._fill - self._start)

    def close(self) -> IndexSummary:
        """End the stream: all its chunks are stored and its index has its final name.

        Raises:
            BadRequest: nothing was written; an index cannot be empty.
            HoldfastError: a worker failed, now or earlier.
        """
        self.end()
        self._retire_segment()
        while self._running:
            self._done.get()
            self._running -= 1
        self._append_finished()
        if not self.position:
            raise BadRequest("an archive without a single byte cannot be stored")
        summary = self._index.close()
        self._on_close(summary)
        return summary

    def abandon(self) -> None:
        """Drop the stream and its unfinished index; does nothing after `close`."""
        self._retire_segment()
        self._index.abandon()

    # Cutting -----------------------------------------------------------------------------------

    def _write_in_pieces(self, rest: memoryview) -> None:
        while rest:
            room = self.room()
            count = min(len(rest), len(room))
            room[:count] = rest[:count]
            self.commit(count)
            rest = rest[count:]

    def _scan(self) -> None:
        self._cut(ended=False)
        self._append_finished()
        self._next_threshold()

    def _next_threshold(self) -> None:
        if self._fill == self._size:
            self._next_segment()
        self._scan_at = min(self._fill + self._step, self._size)

    def _cut(self, *, ended: bool) -> None:
        next_cut = self._cutter.next_cut
        while self._start < self._fill:
            length = next_cut(self._view[self._start : self._fill], ended=ended)
            if not length:
                break
            self._hand_over(length)

    def _hand_over(self, length: int) -> None:
        """Give the next `length` bytes of the segment to a worker."""
        if not length:
            return
        end = self._start + length
        virtual_end = self.position - (self._fill - end)
        self._segment.hold()
        chunk = _StreamChunk(self._view[self._start : end], virtual_end, self._segment, self._done)
        self._running += 1
        self._entries.append(chunk)
        self._uploader.submit(chunk)
        self._start = end

    def _append_finished(self) -> None:
        """Move what the workers have finished, in order, to the index (HoldfastError)."""
        self._uploader.check()
        try:
            while True:
                self._done.get_nowait()
                self._running -= 1
        except Empty:
            pass
        entries, append = self._entries, self._index.append
        while entries and (digest := entries[0].digest) is not None:
            append(entries.popleft().end, digest)

    def _next_segment(self) -> None:
        if self._fill - self._start >= self._pool.segment_bytes:
            raise HoldfastError("a chunk does not fit into memory set aside for it")
        self._move_to(self._pool.take(), 0)
        self._uploader.check()

    def _move_to(self, segment: Segment, start: int) -> None:
        """Go on in another segment, with what is left of the unfinished chunk at `start`."""
        tail = self._view[self._start : self._fill]
        end = start + len(tail)
        segment.view[start:end] = tail
        self._segment.release()
        self._segment, self._view, self._size = segment, segment.view, len(segment.view)
        self._start, self._fill = start, end

    def _retire_segment(self) -> None:
        if self._is_open:
            self._is_open = False
            self._view = memoryview(b"")
            self._segment.release()
