"""Contents of small files, read by the process that walks and handed over in shared memory.

A walk opens every file anyway, and opening it again to read it costs more than reading it. So when
there is nothing to compare with, the walking process also reads small files, into the slots of a
memory file that both processes know (walk_ring.py). A batch of events uses one slot at the most:

    (RUN, slot, sizes)           records of contents of these sizes lie back to back in that slot
    (READ, names, heads, link)   files of one directory; their records are the next ones of the run

`names`, `heads` and `sizes` are lists; a file with a link stands alone. A record is a PAYLOAD item as
an archive holds it: 16 bytes of header and the content. A file that is too large, was changed just
now or does not fit any more stays a FILE event, which the reader of the walk opens and reads itself;
it is the last event of its batch, so that records keep the order of the names.

The numbers of free slots come through a pipe, a byte each. Before the first byte the walk only
describes: nobody has said yet that contents are wanted. After it, the walk waits for free slots.
"""

import mmap
import os
import struct
import time
from typing import Final

from holdfast.archive.file_content import HEADER_BYTES, TICK_NS
from holdfast.archive.pxar.format import PAYLOAD
from holdfast.archive.walk import READ, RUN, Event
from holdfast.archive.walk_ring import FRONT_BYTES, RING_BYTES, SLOT_BYTES, SLOT_COUNT
from holdfast.units import KIB, MIB

CONTENT_BYTES_MAX: Final = 2 * MIB
_RUN_FILES_MAX: Final = 2048
_FULL_AT: Final = SLOT_BYTES - 512 * KIB  # so that few files meet a slot that is too full for them
_HEADER: Final = struct.Struct("<QQ")


class ContentReader:
    """The walking process's side.

    Args:
        ring: the memory file, RING_BYTES long.
        told: the reading end of the pipe on which free slots are told.
    """

    def __init__(self, ring: int, told: int) -> None:
        self._memory = memoryview(mmap.mmap(ring, RING_BYTES))
        self._told = told
        self._is_wanted = False
        self._has_asked = False  # during this batch
        self._free: list[int] = []
        self._slot = 0
        self._room: memoryview | None = None  # the slot of this batch, once it is ours
        self._at = FRONT_BYTES
        self._sizes: list[int] = []
        self._group: Event = ()
        self._links: set[tuple[int, int]] = set()
        os.set_blocking(told, False)

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
            batch.append((RUN, self._slot, self._sizes))
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
        return end >= _FULL_AT or len(self._sizes) >= _RUN_FILES_MAX

    def end_batch(self) -> None:
        """The batch is about to be sent: its slot is the reader's now."""
        self._has_asked = False
        if self._sizes:
            self._sizes = []
            self._room = None
            self._at = FRONT_BYTES

    def _begin(self) -> memoryview | None:
        """A free slot; None while contents are not wanted."""
        if not self._free:
            if self._has_asked:
                return None
            self._has_asked = not self._is_wanted
            try:
                told = os.read(self._told, SLOT_COUNT)
            except BlockingIOError:
                return None
            if not told:
                raise BrokenPipeError
            if not self._is_wanted:
                self._is_wanted = True
                os.set_blocking(self._told, True)
            self._free += told
        self._slot = self._free.pop()
        start = self._slot * SLOT_BYTES
        self._room = self._memory[start : start + SLOT_BYTES]
        return self._room
