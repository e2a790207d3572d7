"""Contents of small files, read by the process that walks and handed over in shared memory.

A walk opens every file anyway, and opening it again to read it costs more than reading it. So when
there is nothing to compare with, the walking process also reads small files, into a memory file that
both processes know. That file has a few slots; a batch of events uses one at the most:

    (RUN, place, sizes)          records lie back to back from `place` on, with contents of these sizes
    (READ, names, heads, link)   files of one directory; their records are the next ones of the run

`names`, `heads` and `sizes` are lists; a file with a link stands alone. A record is a PAYLOAD item as
an archive holds it: 16 bytes of header and the content. A file that is too large, was changed just
now or does not fit any more stays a FILE event, which the reader of the walk opens and reads itself;
it is the last event of its batch, so that records keep the order of the names.

Credits come back through a pipe, a byte for each free slot. Before the first byte the walk only
describes: nobody has said yet that contents are wanted. After it, the walk waits for free slots.
"""

import mmap
import os
import struct
import time
from itertools import accumulate
from typing import Final, Protocol

from holdfast.archive.file_content import HEADER_BYTES, TICK_NS
from holdfast.archive.pxar.format import PAYLOAD
from holdfast.archive.walk import READ, RUN, Event
from holdfast.units import MIB

SLOT_COUNT: Final = 4
SLOT_BYTES: Final = 4 * MIB
RING_BYTES: Final = SLOT_COUNT * SLOT_BYTES
CONTENT_BYTES_MAX: Final = 1 * MIB
_RUN_FILES_MAX: Final = 1024
_HEADER: Final = struct.Struct("<QQ")


class ContentReader:
    """The walking process's side.

    Args:
        ring: the memory file, RING_BYTES long.
        credits: the reading end of the pipe on which free slots are told.
    """

    def __init__(self, ring: int, credits_: int) -> None:
        self._memory = memoryview(mmap.mmap(ring, RING_BYTES))
        self._credits = credits_
        self._is_wanted = False
        self._has_asked = False  # during this batch
        self._free = 0
        self._slot = 0
        self._room: memoryview | None = None  # the slot of this batch, once it is ours
        self._at = 0
        self._sizes: list[int] = []
        self._group: Event = ()
        self._links: set[tuple[int, int]] = set()
        os.set_blocking(credits_, False)

    def add(self, fd: int, event: Event, batch: list[Event]) -> bool:
        """Add what the reader of the walk gets for a FILE event; True when the batch has to end.

        Args:
            fd: the file, open at its start.
            event: as `walk.file_event` made it.
            batch: where the event goes.

        Raises:
            OSError: the content cannot be read; nothing was added.
            BrokenPipeError: nobody reads the walk any more.
        """
        _kind, name, head, size, link, _inode, ctime_ns = event
        room = self._room or self._begin()
        if room is None or (link is not None and link in self._links):
            batch.append(event)  # contents are not wanted, or this one is there already
            return False
        at = self._at
        end = at + HEADER_BYTES + size
        if (
            size > CONTENT_BYTES_MAX
            or end >= SLOT_BYTES
            or 0 <= time.time_ns() - ctime_ns < TICK_NS
            or os.readv(fd, (room[at + HEADER_BYTES : end + 1],)) != size  # one more shows growth
        ):
            batch.append(event)
            return True
        _HEADER.pack_into(room, at, PAYLOAD, HEADER_BYTES + size)
        self._at = end
        if not self._sizes:
            batch.append((RUN, self._slot * SLOT_BYTES, self._sizes))
        self._sizes.append(size)
        if link is None and batch[-1] is self._group:
            self._group[1].append(name)
            self._group[2].append(head)
        else:
            group = (READ, [name], [head], link)
            batch.append(group)
            if link is None:
                self._group = group
            else:
                self._links.add(link)
        return len(self._sizes) >= _RUN_FILES_MAX

    def end_batch(self) -> None:
        """The batch is about to be sent: its slot is the reader's now."""
        self._has_asked = False
        if self._sizes:
            self._sizes = []
            self._room = None
            self._at = 0
            self._slot = (self._slot + 1) % SLOT_COUNT

    def _begin(self) -> memoryview | None:
        """A free slot; None while contents are not wanted."""
        if not self._free:
            if self._has_asked:
                return None
            self._has_asked = not self._is_wanted
            try:
                told = os.read(self._credits, SLOT_COUNT)
            except BlockingIOError:
                return None
            if not told:
                raise BrokenPipeError
            if not self._is_wanted:
                self._is_wanted = True
                os.set_blocking(self._credits, True)
            self._free = len(told)
        self._free -= 1
        start = self._slot * SLOT_BYTES
        self._room = self._memory[start : start + SLOT_BYTES]
        return self._room


class RecordSink(Protocol):
    """Takes the records of a run: a StreamWriter of the datastore."""

    @property
    def position(self) -> int: ...

    def suggest_at(self, position: int, /) -> None: ...

    def copy_from(self, fd: int, start: int, count: int, /) -> None: ...


class Contents:
    """The reading process's side: asks for contents, takes runs.

    Args:
        ring: the memory file.
        credits: the writing end of the pipe.
    """

    def __init__(self, ring: int, credits_: int) -> None:
        self._ring = ring
        self._credits = credits_

    def want(self) -> None:
        """From here on the walk is to read small files; call it once."""
        self._tell(SLOT_COUNT)

    def take(self, place: int, sizes: list[int], sink: RecordSink) -> list[int]:
        """Put a run into a stream; the positions of its records there (HoldfastError)."""
        start = sink.position
        *positions, end = accumulate((HEADER_BYTES + size for size in sizes), initial=start)
        for position in positions:
            sink.suggest_at(position)
        sink.copy_from(self._ring, place, end - start)
        self._tell(1)
        return positions

    def _tell(self, slots: int) -> None:
        try:
            os.write(self._credits, bytes(slots))
        except BrokenPipeError:  # the walk is complete, or it died: its stream says which
            return
