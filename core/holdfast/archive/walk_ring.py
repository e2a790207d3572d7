"""The memory that a walking process reads contents into, and this process's way to take them.

SLOT_COUNT slots lie one behind the other. The records of a slot begin FRONT_BYTES behind its start:
what a stream has left of an unfinished chunk is put before them, and its chunks are cut where the
other process put the bytes. A slot is told to be free when the last of its chunks is stored.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.units import MIB

if TYPE_CHECKING:
    from holdfast.datastore.segments import Segment

SLOT_COUNT: Final = 6
SLOT_BYTES: Final = 12 * MIB
FRONT_BYTES: Final = 8 * MIB
RING_BYTES: Final = SLOT_COUNT * SLOT_BYTES


class RecordSink(Protocol):
    """Takes the records of a run: a StreamWriter of the datastore."""

    @property
    def position(self) -> int: ...

    def suggest_all(self, positions: Sequence[int], /) -> None: ...

    def adopt(self, segment: "Segment", start: int, count: int, /) -> None: ...


class Contents:
    """Asks a walking process for contents, and takes runs of them.

    Attributes:
        is_wanted: contents were asked for.

    Args:
        ring: the memory file, RING_BYTES long; closed by this.
        tell: takes the numbers of free slots, a byte each; called by any thread.
    """

    def __init__(self, ring: int, tell: Callable[[bytes], None]) -> None:
        self._ring = ring
        self._tell = tell
        self.is_wanted = False
        self._slots: list[Segment] = []

    def want(self) -> None:
        """From here on the walk is to read small files; once more does nothing."""
        if self.is_wanted:
            return
        self.is_wanted = True
        from holdfast.datastore.segments import Segment

        memory = memoryview(mmap.mmap(self._ring, RING_BYTES))
        self._slots = [
            Segment(memory[start : start + SLOT_BYTES], self._freed)
            for start in range(0, RING_BYTES, SLOT_BYTES)
        ]
        self._close_ring()
        self._tell(bytes(range(SLOT_COUNT)))

    def take(self, slot: int, sizes: list[int], sink: RecordSink) -> list[int]:
        """Put a run into a stream; the positions of its records there (HoldfastError)."""
        from holdfast.archive.file_content import HEADER_BYTES

        start = sink.position
        *positions, end = accumulate((HEADER_BYTES + size for size in sizes), initial=start)
        sink.suggest_all(positions)
        segment = self._slots[slot]
        segment.hold()
        sink.adopt(segment, FRONT_BYTES, end - start)
        return positions

    def close(self) -> None:
        """Let go of the memory, once the stream that took the runs is closed."""
        self._close_ring()
        self._slots = []

    def _close_ring(self) -> None:
        if self._ring >= 0:
            os.close(self._ring)
            self._ring = -1

    def _freed(self, segment: "Segment") -> None:
        if segment in self._slots:
            self._tell(bytes([self._slots.index(segment)]))
