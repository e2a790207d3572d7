"""Cut points of a stream that knows where its files begin, and where foreign chunks are put in.

A tree's payload stream suggests the start of every file as a place to cut, so that a file that did
not change lies in chunks that did not change. Chunks of an earlier snapshot may be injected whole;
they force a boundary. Positions are *virtual*: raw bytes plus injected bytes before them.

Two rules stand behind one interface. Both are pure: fed with the same bytes and suggestions they
cut in the same places, however the bytes are cut into buffers on the way.

SnappingCutter (ours, for FastCDC): look for a content cut; then move it on to the next start of a
    file when that is near. Where files are small the cut is looked for with a quarter of the mean,
    because fine chunks are easier to take over into the next snapshot. A cut depends on content
    near by only, so after an insertion the old cuts come back within a few chunks.

BoundaryCutter (for buzhash): the rule of Proxmox Backup's client. The first start of a file that
    is at least the minimum away wins, unless a content cut was found in an earlier block; so cuts
    depend on the block size, here fixed.

Source: docs/algorithms/chunking.md.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, Protocol

from holdfast.chunking.cutters import Chunker, Cutter, cutter_for
from holdfast.chunking.params import MEAN_BYTES_MIN, ChunkingParams
from holdfast.units import KIB

BLOCK_BYTES: Final = 256 * KIB
_FINE_SHARE: Final = 4  # where files are small, chunks of a quarter of the mean
_FIRST_LOOK_MEANS: Final = 2  # a look that finds no cut is made again from the start
_FORGET_AFTER: Final = 8192  # suggestions left behind before they are dropped in one go


class StreamCutter(Protocol):
    """Ends the chunks of one stream.

    The owner of the bytes keeps the unfinished chunk and everything behind it in one buffer, and
    asks `next_cut` until it answers 0. What is left at the end of the stream is the last chunk.
    Asking once per large buffer (not per file) is cheap; bytes without a cut may be hashed again.
    """

    params: ChunkingParams
    base: int  # virtual position of the first byte of the unfinished chunk

    def suggest(self, position: int, /) -> None:
        """A file begins at virtual `position`; never less than the one before."""

    def suggest_all(self, positions: Iterable[int], /) -> None:
        """Files begin at these positions, in order."""

    def next_cut(self, data: memoryview, *, ended: bool = False) -> int:
        """Length of the chunk that begins at `base`, or 0 when it does not end in `data`.

        `data` begins at `base` and is what was not handed out before, plus what came since. A
        positive answer moves `base` on. With `ended` no more bytes will come before a forced
        boundary or the end of the stream: decide with what is there.
        """

    def force(self, raw_bytes: int, injected_bytes: int = 0) -> None:
        """The chunk at `base` was ended after `raw_bytes`, and foreign chunks were put in."""


class _Suggestions:
    """Ascending positions; those behind the stream are skipped by bisection, not one by one."""

    __slots__ = ("_positions", "_start", "add", "add_all")

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._start = 0
        self.add = self._positions.append
        self.add_all = self._positions.extend

    def first_from(self, position: int) -> int | None:
        """The least suggestion at or after `position`; drops all before it."""
        self._start = bisect_left(self._positions, position, self._start)
        if self._start > _FORGET_AFTER:
            del self._positions[: self._start]
            self._start = 0
        return self._positions[self._start] if self._start < len(self._positions) else None


class BoundaryCutter:
    """Suggested and forced boundaries over any cutter, the way Proxmox Backup's client does it."""

    def __init__(self, cutter: Cutter, *, block_bytes: int | None = BLOCK_BYTES) -> None:
        """With `block_bytes` None each buffer given to `next_cut` counts as one block."""
        self.params = cutter.params
        self.base = 0
        self._cutter = cutter
        self._suggestions = _Suggestions()
        self._scanned = 0
        self._block_bytes = block_bytes
        self.suggest = self._suggestions.add
        self.suggest_all = self._suggestions.add_all

    def next_cut(self, data: memoryview, *, ended: bool = False) -> int:
        """See StreamCutter."""
        if self._block_bytes is None:
            return self._cut_in(data)
        while self._scanned < len(data):
            total = (self._scanned // self._block_bytes + 1) * self._block_bytes
            if total > len(data) and not ended:
                return 0
            cut = self._cut_in(data[:total])
            if cut:
                return cut
        return 0

    def force(self, raw_bytes: int, injected_bytes: int = 0) -> None:
        """See StreamCutter."""
        self.base += raw_bytes + injected_bytes
        self._scanned = 0

    def _cut_in(self, data: memoryview) -> int:
        """One block has arrived: `data` is the whole unfinished chunk up to the block's end."""
        base, total, limits = self.base, len(data), self.params
        earliest = base + max(self._scanned, limits.chunk_bytes_min)
        suggestion = self._suggestions.first_from(earliest)
        if suggestion == base + self._scanned:  # what was scanned before was no cut: not again
            suggestion = None
        length = 0
        if suggestion is not None and suggestion <= base + min(total, limits.chunk_bytes_max):
            length = suggestion - base
        else:
            length = self._cutter.scan(data, scanned=self._scanned)
        if length:
            self.force(length)
        else:
            self._scanned = total
        return length


class SnappingCutter:
    """Content cuts, moved on to the start of the next file where one is near."""

    def __init__(self, params: ChunkingParams, *, chunker: Chunker = Chunker.FASTCDC) -> None:
        self.params = params
        self.base = 0
        fine_mean = max(params.chunk_bytes_mean // _FINE_SHARE, MEAN_BYTES_MIN)
        fine_limits = ChunkingParams(
            chunk_bytes_min=fine_mean // 2,
            chunk_bytes_mean=fine_mean,
            chunk_bytes_max=4 * fine_mean,
        )
        self._fine = cutter_for(chunker, fine_limits)
        self._coarse = cutter_for(chunker, params)
        self._near_fine = fine_mean // 4
        self._near_coarse = params.chunk_bytes_mean // 4
        self._fine_first = fine_limits.chunk_bytes_min
        self._fine_reach = fine_limits.chunk_bytes_max + self._near_fine
        self._suggestions = _Suggestions()
        self.suggest = self._suggestions.add
        self.suggest_all = self._suggestions.add_all
        self._begin_chunk()

    def _begin_chunk(self) -> None:
        limits = self.params
        self._is_fine = True  # until no file begins near a fine cut
        self._fine_cut = self._coarse_cut = self._scanned = 0
        self._coarse_bytes = min(
            _FIRST_LOOK_MEANS * limits.chunk_bytes_mean, limits.chunk_bytes_max
        )

    def next_cut(self, data: memoryview, *, ended: bool = False) -> int:
        """See StreamCutter."""
        length = 0
        if self._is_fine:
            length = self._cut_finely(data, ended=ended)
        if not self._is_fine:
            length = self._cut_coarsely(data, ended=ended)
        if length:
            self.force(length)
        return length

    def force(self, raw_bytes: int, injected_bytes: int = 0) -> None:
        """See StreamCutter."""
        self.base += raw_bytes + injected_bytes
        self._begin_chunk()

    def _cut_finely(self, data: memoryview, *, ended: bool) -> int:
        """A start of a file near a fine cut; gives up for this chunk when there is none."""
        size = len(data)
        if not self._fine_cut:
            start = self._suggestions.first_from(self.base + self._fine_first)
            if start is None or start > self.base + self._fine_reach:
                self._is_fine = size <= self._fine_reach and not ended  # a file may yet begin
                return 0
            self._fine_cut = self._fine.scan(data, scanned=self._scanned)
            self._scanned = size
        if not self._fine_cut:
            return 0
        start = self._file_start(self._fine_cut, self._near_fine, size, ended=ended)
        self._is_fine = start != 0
        return start or 0

    def _cut_coarsely(self, data: memoryview, *, ended: bool) -> int:
        """The start of a file near a content cut, or that cut."""
        size = len(data)
        if not self._coarse_cut:
            if size < self._coarse_bytes and not ended:
                return 0
            cut = self._coarse.scan(data, scanned=0)
            if not cut:
                self._coarse_bytes = self.params.chunk_bytes_max
                return 0
            self._coarse_cut = max(cut, self._fine_cut)
        start = self._file_start(self._coarse_cut, self._near_coarse, size, ended=ended)
        return 0 if start is None else start or self._coarse_cut

    def _file_start(self, cut: int, near: int, size: int, *, ended: bool) -> int | None:
        """Length up to the first file that begins from `cut` to `cut + near`, or to the maximum.

        0 when none does, None while one may yet begin there.
        """
        last = min(cut + near, self.params.chunk_bytes_max)
        if cut < last and size <= last and not ended:
            return None
        start = self._suggestions.first_from(self.base + cut)
        if start is None or start > self.base + min(last, size):
            return 0
        return start - self.base


class FixedCutter:
    """Cuts at every suggestion and after `chunk_bytes`: for streams of records and whole files.

    Files that begin at suggestions lie in chunks of their own, so that indexes over them can be
    put together anew without reading them.
    """

    def __init__(self, chunk_bytes: int) -> None:
        """Chunks of at most `chunk_bytes`, a power of two as for other cutters."""
        self.params = ChunkingParams(
            chunk_bytes_min=min(MEAN_BYTES_MIN, chunk_bytes),
            chunk_bytes_mean=chunk_bytes,
            chunk_bytes_max=chunk_bytes,
        )
        self.base = 0
        self._suggestions = _Suggestions()
        self.suggest = self._suggestions.add
        self.suggest_all = self._suggestions.add_all

    def next_cut(self, data: memoryview, *, ended: bool = False) -> int:
        """See StreamCutter."""
        start = self._suggestions.first_from(self.base + 1)
        limit = self.params.chunk_bytes_max
        length = limit if start is None else min(start - self.base, limit)
        if length > len(data) or (length == len(data) and ended):
            return 0
        self.force(length)
        return length

    def force(self, raw_bytes: int, injected_bytes: int = 0) -> None:
        """See StreamCutter."""
        self.base += raw_bytes + injected_bytes


def stream_cutter(chunker: Chunker, params: ChunkingParams) -> StreamCutter:
    """The rule that belongs to a content cutter."""
    if chunker is Chunker.BUZHASH:
        return BoundaryCutter(cutter_for(chunker, params))
    return SnappingCutter(params, chunker=chunker)
