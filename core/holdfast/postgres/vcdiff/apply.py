"""Apply VCDIFF deltas: whole ones of any origin in order, our own ones at any offset."""

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable
from itertools import islice
from typing import Final

from holdfast.postgres.byte_source import ByteSource
from holdfast.postgres.vcdiff.windows import (
    Instruction,
    Kind,
    Window,
    damaged,
    first_window_at,
    instructions,
    window_at,
    windows,
)

_INSTRUCTIONS_MAX: Final = 4096  # ours have at most one for each block of a window


def apply_delta(
    source: ByteSource,
    delta: ByteSource,
    write: Callable[[memoryview], object],
    *,
    size_max: int,
) -> int:
    """Make the target, of at most `size_max` bytes, and hand it on window by window; its size.

    Args:
        source: what the delta was made against.
        delta: of our encoder or another one.
        write: takes a view of each window's bytes, good until it returns.
        size_max: more is refused before it is made.

    Raises:
        DamagedData: the delta contradicts itself or the source, or a checksum is wrong.
        Refused: it uses a feature that is not supported.
    """
    room = bytearray()
    done = 0
    for window in windows(delta):
        done += window.target_bytes
        if done > size_max:
            raise damaged(f"it makes more than {size_max} bytes")
        if window.source_start + window.source_bytes > source.size:
            raise damaged("its source is shorter than what it copies from")
        if len(room) < window.target_bytes:
            room = bytearray(window.target_bytes)
        target = memoryview(room)[: window.target_bytes]
        _make(window, source, delta, target)
        if window.adler is not None and zlib.adler32(target) != window.adler:
            raise damaged("what it makes has another checksum: damaged, or the wrong source")
        write(target)
    return done


def _make(window: Window, source: ByteSource, delta: ByteSource, target: memoryview) -> None:
    at = 0
    for kind, size, argument in instructions(window, delta):
        piece = target[at : at + size]
        if kind is Kind.ADD:
            _fill(piece, delta, window.data_at + argument)
        elif kind is Kind.RUN:
            piece[:] = bytes((argument,)) * size
        elif argument < window.source_bytes:
            _fill(piece, source, window.source_start + argument)
        else:
            _repeat(target, argument - window.source_bytes, at, size)
        at += size


def _repeat(target: memoryview, start: int, at: int, size: int) -> None:
    """Copy within the target; the copy may overlap what it copies, which repeats a pattern."""
    end, step = at + size, at - start
    while at < end:
        count = min(step, end - at)
        target[at : at + count] = target[start : start + count]
        at += count
        step += count


def _fill(piece: memoryview, source: ByteSource, offset: int) -> None:
    if source.read_into(offset, piece) != len(piece):
        raise damaged("it refers to bytes that are not there")


class PatchedFile:
    """A file of a differential backup: the file below it with a delta on top, read at any offset.

    Deltas of our encoder copy every block from where it stands, so what is not in the delta is read
    from below at the same offset, through as many layers as there are, and blocks that a layer
    above replaced are never read.

    Args:
        below: the file the delta was made against, as long as it is needed.
        delta: of our encoder.
        size: of the result, as recorded; checked against the delta.
    """

    def __init__(self, below: ByteSource, delta: ByteSource, size: int) -> None:
        self.size = size
        self._below = below
        self._delta = delta
        self._starts = array("Q")  # of the windows, in the file
        self._heads = array("Q")  # and in the delta
        self._next_at = first_window_at(delta)
        self._next_start = 0
        self._loaded: tuple[Window, list[Instruction]] | None = None

    def read_into(self, offset: int, target: memoryview, /) -> int:
        """Fill `target` from `offset` (DamagedData); fewer bytes at the end."""
        count = min(len(target), max(self.size - offset, 0))
        done = 0
        while done < count:
            window, found = self._window_of(offset + done)
            end = window.target_start + window.target_bytes
            step = min(count - done, end - offset - done)
            self._fill_within(window, found, offset + done, target[done : done + step])
            done += step
        return count

    def check_end(self) -> None:
        """Be sure that the delta makes exactly `size` bytes (DamagedData)."""
        while self._next_at < self._delta.size:
            self._read_head()
        if self._next_start != self.size:
            raise damaged(f"it makes {self._next_start} bytes instead of {self.size}")

    def _read_head(self) -> None:
        if self._next_at >= self._delta.size:
            raise damaged(f"it makes less than {self.size} bytes")
        window = window_at(self._delta, self._next_at, self._next_start)
        if window.target_bytes:
            self._starts.append(window.target_start)
            self._heads.append(self._next_at)
        self._next_at, self._next_start = window.end, self._next_start + window.target_bytes
        if self._next_start > self.size:
            raise damaged(f"it makes more than {self.size} bytes")

    def _window_of(self, offset: int) -> tuple[Window, list[Instruction]]:
        while offset >= self._next_start:
            self._read_head()
        number = bisect_right(self._starts, offset) - 1
        if self._loaded is None or self._loaded[0].target_start != self._starts[number]:
            window = window_at(self._delta, self._heads[number], self._starts[number])
            found = list(islice(instructions(window, self._delta), _INSTRUCTIONS_MAX + 1))
            if len(found) > _INSTRUCTIONS_MAX:
                raise damaged("a window with more instructions than ours have")
            self._loaded = window, found
        return self._loaded

    def _fill_within(
        self, window: Window, found: list[Instruction], offset: int, target: memoryview
    ) -> None:
        """Fill from one window, in which `offset` and the last byte lie."""
        at, end = window.target_start, offset + len(target)
        for kind, size, argument in found:
            low, high = max(at, offset), min(at + size, end)
            if low < high:
                piece = target[low - offset : high - offset]
                skip = low - at
                if kind is Kind.ADD:
                    _fill(piece, self._delta, window.data_at + argument + skip)
                elif kind is Kind.RUN:
                    piece[:] = bytes((argument,)) * len(piece)
                elif argument >= window.source_bytes or window.source_start + argument != at:
                    raise damaged("it moves blocks, which ours never do")
                else:
                    _fill(piece, self._below, low)
            at += size
            if at >= end:
                break
