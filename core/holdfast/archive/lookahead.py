"""Decides which contents of the last snapshot are taken over instead of read again.

An unchanged file can keep its place in the last payload stream, but chunks are taken over whole:
whatever else lies in them becomes dead weight (*padding*). So files are queued while they form one
unbroken range of the last payload, and the range is judged as a whole:

    padding <= 10 % of the chunks' bytes    references into the chunks, which are injected
    more                                    all queued files are read and encoded again

The last chunk of a range is held back when the next range may begin in it: one injection then
serves both. A chunk is the same only if digest and end are, since contents may repeat.

    walk --file/other--> [queue | range of the last payload | held chunk] --emit/encode/reuse/inject-->

Pure: no I/O; what happens goes out through `Output`. Source: docs/algorithms/
metadata-change-detection.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

PADDING_SHARE_MAX: Final = 0.1
QUEUE_MAX: Final = 65_536  # entries; ours hold no open files, so this only bounds memory
_HEADER_BYTES: Final = 16

T = TypeVar("T")
In_contra = TypeVar("In_contra", contravariant=True)


class PreviousIndex(Protocol):
    """The chunks of the last payload stream (a dynamic index)."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def chunk_count(self) -> int: ...

    def find(self, offset: int, /) -> int:
        """Number of the chunk that holds byte `offset`."""

    def range_at(self, number: int, /) -> tuple[int, int]: ...

    def digest_at(self, number: int, /) -> bytes: ...


@dataclass(slots=True)
class ReusedChunk:
    """A chunk of the last payload stream: its place there, and how much of it is dead weight."""

    digest: bytes
    start: int
    end: int
    padding: int = 0

    @property
    def size(self) -> int:
        return self.end - self.start

    def is_same(self, other: "ReusedChunk") -> bool:
        return self.digest == other.digest and self.end == other.end


class Output(Protocol[In_contra]):
    """Where decisions go, in walk order; the payload position advances by what is put in."""

    @property
    def position(self) -> int:
        """Bytes of the new payload stream so far, injected ones included."""

    def emit(self, entry: In_contra, /) -> None:
        """Write an entry without contents (directory, its end, link, device ...)."""

    def encode(self, entry: In_contra, /) -> None:
        """Read a file and write entry and contents."""

    def reuse(self, entry: In_contra, offset: int, /) -> None:
        """Write a file whose PAYLOAD item is, or is about to be, at `offset`."""

    def inject(self, chunks: Sequence[ReusedChunk], /) -> None:
        """Put whole chunks into the payload stream at its current position."""


class BorderRule(Enum):
    """What to do when a range ends exactly where a chunk ends."""

    STOP = "stop"
    TAKE_FOLLOWING = "take-following"  # recorded behaviour: the next chunk counts as padding


@dataclass(slots=True)
class ReuseStats:
    reused_files: int = 0
    reused_bytes: int = 0  # with the header of each file's content
    injected_bytes: int = 0
    judged_too_sparse: int = 0  # files unchanged, yet read again

    @property
    def padding_bytes(self) -> int:
        return max(self.injected_bytes - self.reused_bytes, 0)


class LookAhead(Generic[T]):
    """Fed with entries in walk order; ends with `finish`."""

    def __init__(
        self,
        index: PreviousIndex,
        output: Output[T],
        *,
        queue_max: int = QUEUE_MAX,
        border: BorderRule = BorderRule.STOP,
    ) -> None:
        self.stats = ReuseStats()
        self._index = index
        self._out = output
        self._queue_max = queue_max
        self._border = border
        self._queue: list[tuple[T, int]] = []  # place relative to the range, -1 without contents
        self._queued_files = 0
        self._start = self._end = 0  # the range of the last payload that the queue covers
        self._held: ReusedChunk | None = None
        self._last_offset = 0

    def unchanged_file(self, entry: T, offset: int, size: int) -> bool:
        """A file whose metadata equals the last snapshot's.

        Args:
            entry: handed back through Output.
            offset: of its PAYLOAD item in the last payload stream, as the last archive says.
            size: of its content.

        Returns:
            False when that place cannot be used (references that run backwards, or beyond the
            stream); the file was then treated as changed.
        """
        end = offset + _HEADER_BYTES + size
        if offset <= self._last_offset or end > self._index.size_bytes:
            self.changed_file(entry)
            return False
        if self._queued_files >= self._queue_max:
            self._flush(keep=True)
        self._last_offset = offset
        if self._end == 0:
            self._start = self._end = offset
        if offset != self._end:
            self._flush(keep=True)
            self._start = offset
        self._end = end
        self._queue.append((entry, offset - self._start))
        self._queued_files += 1
        return True

    def changed_file(self, entry: T) -> None:
        """A file that has to be read."""
        self._flush(keep=False)
        self._out.encode(entry)

    def other(self, entry: T) -> None:
        """An entry without contents of its own: keeps its place among the queued ones."""
        if self._queue:
            self._queue.append((entry, -1))
            return
        if self._held is not None:
            self._out_inject([self._held])
            self._held = None
        self._out.emit(entry)

    def finish(self) -> None:
        """The walk is over: nothing stays queued or held."""
        self._flush(keep=False)

    # -----------------------------------------------------------------------------------------

    def _flush(self, *, keep: bool) -> None:
        held = self._held
        if self._start == self._end:
            self._held = None
            if held is not None:
                self._out_inject([held])
            self._drain(None)
            return
        chunks = self._lookup()
        padding = sum(chunk.padding for chunk in chunks)
        total = chunks[-1].end - chunks[0].start
        shared = held is not None and held.is_same(chunks[0])
        if held is not None and shared:
            padding -= held.size - held.padding
        self._held = None
        if held is not None and (not shared or padding > PADDING_SHARE_MAX * total):
            self._out_inject([held])
        if padding > PADDING_SHARE_MAX * total:
            self.stats.judged_too_sparse += self._queued_files
            self._drain(None)
        else:
            if held is not None and shared:
                chunks[0].padding -= held.size - held.padding
            self._drain(self._out.position + self._start - chunks[0].start)
            if keep:
                self._held = chunks.pop()
            if chunks:
                self._out_inject(chunks)
        self._start = self._end

    def _lookup(self) -> list[ReusedChunk]:
        """The chunks of the last payload that cover the range, with their padding."""
        index = self._index
        number = index.find(self._start)
        chunks: list[ReusedChunk] = []
        while number < index.chunk_count:
            start, end = index.range_at(number)
            chunks.append(ReusedChunk(index.digest_at(number), start, end))
            number += 1
            if end > self._end or (end == self._end and self._border is BorderRule.STOP):
                break
        chunks[0].padding += self._start - chunks[0].start
        chunks[-1].padding += max(chunks[-1].end - self._end, 0)
        return chunks

    def _drain(self, base: int | None) -> None:
        """Emit the queue in order; with `base`, files refer to the chunks injected there."""
        out = self._out
        queue, self._queue = self._queue, []
        if base is not None:
            self.stats.reused_files += self._queued_files
            self.stats.reused_bytes += self._end - self._start
        self._queued_files = 0
        for entry, place in queue:
            if place < 0:
                out.emit(entry)
            elif base is None:
                out.encode(entry)
            else:
                out.reuse(entry, base + place)

    def _out_inject(self, chunks: Sequence[ReusedChunk]) -> None:
        self.stats.injected_bytes += sum(chunk.size for chunk in chunks)
        self._out.inject(chunks)
