"""Which chunks of the previous payload stream may stand for a run of unchanged files.

Files that did not change and lay side by side form a range of the previous payload stream. The
chunks that cover the range hold other bytes as well (padding): of files that are gone, or of a
neighbour. A range is reused when padding is at most a tenth of what its chunks hold; otherwise its
files are read again. A chunk at the end of a range that the next range may need too is held back,
so that it enters the new stream once. Source: the pxar format, look-ahead of metadata mode.

A range that ends exactly where a chunk ends needs no further chunk; the Proxmox client takes one
more, which only makes it read some files again that need not be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from holdfast.archive.previous_tree import ChunkIndex

PADDING_TENTHS_MAX: Final = 1


@dataclass(frozen=True, slots=True)
class OldChunk:
    """A chunk of the previous payload stream; its number is its identity, not its digest.

    Attributes:
        number: in the previous index.
        size: its bytes.
        padding: those of them that no reused file needs.
    """

    number: int
    size: int
    padding: int


class Injection(Protocol):
    """Puts chunks of the previous index, by number, into the new stream at its position."""

    def __call__(self, numbers: Sequence[int], /) -> None: ...


class PayloadRanges:
    """The range of the previous payload stream that waits for a decision, and the held chunk."""

    def __init__(
        self, index: ChunkIndex, *, position: Callable[[], int], inject: Injection
    ) -> None:
        self._index = index
        self._position = position
        self._inject = inject
        self.start = 0
        self.end = 0
        self._held: OldChunk | None = None
        self.injected_bytes = 0

    @property
    def holds_chunk(self) -> bool:
        return self._held is not None

    def begin(self, start: int, end: int) -> None:
        """A new range: the record of one file."""
        self.start, self.end = start, end

    def decide(self, *, keep_last: bool) -> int | None:
        """End the range: the new offset of its first byte if reused, None to read its files again.

        When reused the offset is where the range will lie once its chunks are in; the caller writes
        references first and calls nothing else in between, since the chunks go in at once here.
        """
        start, end = self.start, self.end
        self.start = end
        if start == end:
            self.release()
            return None
        chunks = self._chunks(start, end)
        held = self._held
        padding = sum(chunk.padding for chunk in chunks)
        total = sum(chunk.size for chunk in chunks)
        shares_held = bool(held and chunks and held.number == chunks[0].number)
        if held is not None and shares_held:
            padding -= held.size - held.padding
        if not chunks or 10 * padding > PADDING_TENTHS_MAX * total:
            self.release()
            return None
        if held is not None and shares_held:
            first = chunks[0]
            used = held.size - held.padding
            chunks[0] = OldChunk(first.number, first.size, first.padding - used)
        else:
            self.release()
        self._held = None
        base = self._position() + start - self._index.range_at(chunks[0].number)[0]
        if keep_last:
            self._held = chunks.pop()
        self._put(chunks)
        return base

    def place(self, start: int, end: int) -> int:
        """Put the chunks of one record in, whatever the padding; its offset in the new stream."""
        self.release()
        chunks = self._chunks(start, end)
        base = self._position() + start - self._index.range_at(chunks[0].number)[0]
        self._put(chunks)
        return base

    def release(self) -> None:
        """Put a held chunk into the stream."""
        if self._held is not None:
            held, self._held = self._held, None
            self._put([held])

    def _put(self, chunks: Sequence[OldChunk]) -> None:
        if chunks:
            self.injected_bytes += sum(chunk.size for chunk in chunks)
            self._inject([chunk.number for chunk in chunks])

    def _chunks(self, start: int, end: int) -> list[OldChunk]:
        """The chunks that cover [start, end); none when the index does not reach that far."""
        index = self._index
        if end > index.size_bytes:
            return []
        chunks: list[OldChunk] = []
        for number in range(index.find(start), index.chunk_count):
            chunk_start, chunk_end = index.range_at(number)
            padding = max(start - chunk_start, 0) + max(chunk_end - end, 0)
            chunks.append(OldChunk(number, chunk_end - chunk_start, padding))
            if chunk_end >= end:
                break
        return chunks
