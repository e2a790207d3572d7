"""Write a tree as a split archive: names and metadata in one stream, contents in another.

Metadata goes into a buffer that may wait: a run of unchanged files is written with empty references
at once, and the references are filled in when it is clear whether the run's old chunks are reused
or its files are read again. Both ways take the same room, so nothing ever moves; only the tables of
directories that end while a run is undecided are filled in later too, since a table row counts the
content of a file that was read and does not count that of a file that was reused.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.archive.payload_reuse import PayloadRanges
from holdfast.archive.previous_tree import NOWHERE, OldBytes, PreviousDirectory, PreviousTree
from holdfast.archive.pxar import format as pxar
from holdfast.archive.tree_frames import Frame
from holdfast.archive.tree_reading import TreeReading
from holdfast.archive.tree_summary import TreeSummary
from holdfast.archive.walk import BEGIN, END, FILE, LEAF, READ, RUN, Event
from holdfast.archive.walk_ring import Contents
from holdfast.units import KIB

if TYPE_CHECKING:
    from holdfast.datastore.segments import Segment

_WRITE_BYTES: Final = 256 * KIB
QUEUE_MAX: Final = 16_384
_REF: Final = struct.Struct("<QQQQ")
_OFFSET: Final = struct.Struct("<Q")
_HEADER: Final = struct.Struct("<QQ")
_OFFSET_IN_REF: Final = 16


class MetadataSink(Protocol):
    """Where the .mpxar stream goes."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object: ...


class PayloadSink(Protocol):
    """Where the .ppxar stream goes: a StreamWriter of the datastore."""

    @property
    def position(self) -> int: ...

    def room(self) -> memoryview: ...

    def commit(self, count: int, /) -> None: ...

    def write(self, data: bytes | bytearray | memoryview, /) -> object: ...

    def suggest(self) -> None: ...

    def suggest_all(self, positions: Sequence[int], /) -> None: ...

    def adopt(self, segment: "Segment", start: int, count: int, /) -> None: ...


class SplitTree:
    """One split archive while it is written; feed it the batches of a walk, in order.

    Args:
        metadata, payload: the two streams, empty so far.
        root_fd: the tree's root, open; closed by `close`.
        reading: opens and copies files.
        prelude: content of the PRELUDE item, or None for no such item.
        previous: the archive of the snapshot before, if its contents may be reused.
        inject: puts chunks of the previous payload index into the payload stream.
        queue_max: entries that may wait for one decision.
        contents: takes the runs of contents that come with the walk.
    """

    def __init__(
        self,
        metadata: MetadataSink,
        payload: PayloadSink,
        root_fd: int,
        reading: TreeReading,
        *,
        prelude: bytes | None = None,
        previous: PreviousTree | None = None,
        inject: Callable[[Sequence[int]], None] | None = None,
        queue_max: int = QUEUE_MAX,
        contents: Contents | None = None,
    ) -> None:
        self.summary = TreeSummary()
        self._metadata = metadata
        self._payload = payload
        self._root_fd = root_fd
        self._reading = reading
        self._queue_max = queue_max
        self._contents = contents
        self._records: Iterator[tuple[int, int]] = iter(())  # where they lie, and their sizes
        self._out = bytearray(pxar.header(pxar.FORMAT_VERSION, 8) + _OFFSET.pack(2))
        if prelude is not None:
            self._out += pxar.header(pxar.PRELUDE, len(prelude)) + prelude
        self._base = 0  # offset of _out[0] in the metadata stream
        self._frame: Frame | None = None
        self._links: dict[tuple[int, int], tuple[int, bytes]] = {}
        payload.write(pxar.header(pxar.PAYLOAD_START_MARKER, 0))
        # the previous archive, and where in it the walk stands
        self._old: OldBytes = b"" if previous is None else previous.data
        self._previous = previous
        self._directories: list[PreviousDirectory | None] = []
        self._at = NOWHERE
        self._last_old_offset = 0
        self._ranges: PayloadRanges | None = None
        if previous is not None and inject is not None:
            self._ranges = PayloadRanges(
                previous.payload, position=lambda: payload.position, inject=inject
            )
        # what waits for a decision
        self._queued = 0
        self._waiting_files: list[tuple[int, int, int, Frame, int, Event]] = []
        self._waiting_tables: list[tuple[int, Frame]] = []

    def consume(self, batches: Iterable[list[Event]]) -> None:
        """Write all events of a walk (HoldfastError from the streams, OSError)."""
        handle = {
            FILE: self._file,
            LEAF: self._leaf,
            BEGIN: self._begin,
            END: self._end,
            RUN: self._run,
            READ: self._read,
        }
        for batch in batches:
            for event in batch:
                action = handle.get(event[0])
                if action is not None:
                    action(event)
                else:
                    self._reading.remark(event)
            if not self._queued and len(self._out) >= _WRITE_BYTES:
                self._write_out()
            self._reading.advance(len(batch))

    def close(self) -> None:
        """Write the rest and the tail marker; the sinks stay open (HoldfastError)."""
        self._write_out()
        self._payload.write(pxar.header(pxar.PAYLOAD_TAIL_MARKER, 0))

    def release(self) -> None:
        """Close what is open, whether the archive is complete or not."""
        frame = self._frame
        while frame is not None and not frame.is_root:
            frame.close()
            frame = frame.parent

    @property
    def _here(self) -> Frame:
        if self._frame is None:
            raise AssertionError("an entry outside of a directory")
        return self._frame

    def _write_out(self) -> None:
        if self._out:
            self._metadata.write(self._out)
            self._base += len(self._out)
            self._out = bytearray()

    # Files ---------------------------------------------------------------------------------------

    def _file(self, event: Event) -> None:
        _kind, name, head, size, link, _inode, _ctime_ns = event
        if self._queued >= self._queue_max:
            self._flush(keep_last=True)
        if link is not None and link in self._links:
            self._hard_link(name, head, link)
            return
        ranges = self._ranges
        if ranges is None:
            self._fresh(event)
            return
        old_offset = self._old_offset(name, head, size)
        if old_offset == NOWHERE:
            self._flush(keep_last=False)
            self._fresh(event)
            return
        end = old_offset + 16 + size
        if old_offset == ranges.end:
            ranges.end = end
        else:
            if ranges.end:
                self._flush(keep_last=True)
            ranges.begin(old_offset, end)
        out, frame = self._out, self._here
        start = self._base + len(out)
        if link is not None:
            self._links[link] = (start, frame.path + name)
        out += head
        at = len(out)
        out += _REF.pack(pxar.PAYLOAD_REF, 32, 0, size)
        self._waiting_files.append(
            (at + _OFFSET_IN_REF, old_offset, size, frame, len(frame.names), event)
        )
        frame.names.append(name)
        frame.starts.append(start)
        self._queued += 1

    def _old_offset(self, name: bytes, head: bytes, size: int) -> int:
        """Where the file's record is in the previous payload stream; NOWHERE if it changed."""
        at, old = self._at, self._old
        end = at + len(head)
        if at < 0 or old[at:end] != head:
            self._at = NOWHERE
            self._here.is_exact = False
            directory = self._directories[-1]
            at = NOWHERE if directory is None else directory.find(name)
            end = at + len(head)
            if at < 0 or old[at:end] != head:
                return NOWHERE
        try:
            kind, _item, offset, old_size = _REF.unpack_from(old, end)
        except struct.error:
            return NOWHERE
        if kind != pxar.PAYLOAD_REF or old_size != size:
            self._at = NOWHERE
            return NOWHERE
        self._at = end + 32
        if offset <= self._last_old_offset:
            return NOWHERE
        self._last_old_offset = int(offset)
        return int(offset)

    def _fresh(self, event: Event) -> None:
        """Read a file now and write its entry; nothing is waiting."""
        frame = self._here
        opened = self._reading.open_described(frame, event)
        if opened is None:
            return
        fd, event = opened
        self._payload.suggest()
        offset = self._payload.position
        if not self._reading.copy(fd, event, frame, self._payload):
            return
        _kind, name, head, size, link, _inode, _ctime_ns = event
        start = self._base + len(self._out)
        if link is not None:
            self._links.setdefault(link, (start, frame.path + name))
        self._out += head
        self._out += _REF.pack(pxar.PAYLOAD_REF, 32, offset, size)
        frame.extra[len(frame.names)] = size
        frame.names.append(name)
        frame.starts.append(start)
        summary = self.summary
        summary.files += 1
        summary.changed_files += 1
        summary.content_bytes += size

    def _run(self, event: Event) -> None:
        """The records of the READ events that follow."""
        _kind, slot, sizes = event
        if self._contents is None:
            raise AssertionError("contents nobody asked for")
        positions = self._contents.take(slot, sizes, self._payload)
        self._records = zip(positions, sizes, strict=True)
        content_bytes = sum(sizes)
        self._reading.copied(content_bytes)
        self.summary.content_bytes += content_bytes
        self.summary.files += len(sizes)
        self.summary.changed_files += len(sizes)

    def _read(self, event: Event) -> None:
        """Files of one directory, whose records are in the payload stream already."""
        _kind, names, heads, link = event
        frame, out, base, pack = self._here, self._out, self._base, _REF.pack
        if link is not None:
            self._links[link] = (base + len(out), frame.path + names[0])
        add_start, extra, number = frame.starts.append, frame.extra, len(frame.names)
        for head, (offset, size) in zip(heads, self._records, strict=False):
            add_start(base + len(out))
            out += head
            out += pack(pxar.PAYLOAD_REF, 32, offset, size)
            extra[number] = size
            number += 1
        frame.names += names
        self._reading.advance(len(names) - 1)

    def _hard_link(self, name: bytes, head: bytes, link: tuple[int, int]) -> None:
        frame = self._here
        start = self._base + len(self._out)
        target, path = self._links[link]
        item = head[: 17 + len(name)] + pxar.hardlink_item(start - target, path)
        self._out += item
        if self._at >= 0:
            end = self._at + len(item)
            self._at = end if self._old[self._at : end] == item else NOWHERE
        frame.names.append(name)
        frame.starts.append(start)
        self.summary.files += 1
        self._queued += bool(self._queued)

    # Everything else -----------------------------------------------------------------------------

    def _before_other(self) -> None:
        """An entry without content comes: it waits if others do, else nothing may be held back."""
        if self._queued:
            if self._queued >= self._queue_max:
                self._flush(keep_last=True)
            else:
                self._queued += 1
                return
        if self._ranges is not None:
            self._ranges.release()

    def _leaf(self, event: Event) -> None:
        self._before_other()
        _kind, name, head = event
        frame = self._here
        frame.names.append(name)
        frame.starts.append(self._base + len(self._out))
        self._out += head
        if self._at >= 0:
            end = self._at + len(head)
            self._at = end if self._old[self._at : end] == head else NOWHERE
        self.summary.others += 1

    def _begin(self, event: Event) -> None:
        self._before_other()
        _kind, name, head, device, inode = event
        start = self._base + len(self._out)
        parent = self._frame
        if parent is None:
            self._frame = Frame.of_root(self._root_fd, device=device, inode=inode)
        else:
            parent.names.append(name)
            parent.starts.append(start)
            self._frame = Frame(parent, name, start + 17 + len(name), device=device, inode=inode)
        self._out += head
        self.summary.directories += 1
        if self._previous is not None:
            self._begin_old(self._previous, name, head)

    def _begin_old(self, previous: PreviousTree, name: bytes, head: bytes) -> None:
        """Move to the directory of the same name in the previous archive, if there is one."""
        above = self._directories[-1] if self._directories else None
        directory: PreviousDirectory | None = None
        if not self._directories:
            directory = previous.root()
        elif above is not None:
            at = self._at
            name_end = at + 17 + len(name)
            if at < 0 or self._old[at:name_end] != head[: 17 + len(name)]:
                self._here.parent.is_exact = False
                at = above.find(name)
            if at >= 0:
                directory = above.child(name, at)
        self._directories.append(directory)
        self._at = NOWHERE if directory is None else directory.body
        self._here.is_exact = directory is not None

    def _end(self, _event: Event) -> None:
        self._before_other()
        frame = self._here
        if frame.is_root:
            self._flush(keep_last=False)
        if self._directories:
            self._directories.pop()
            if self._at >= 0 and self._previous is not None:
                at, self._at = self._at, self._previous.after_table(self._at)
                frame.old_table = at if frame.is_exact and self._at >= 0 else NOWHERE
        start = self._base + len(self._out)
        if self._waiting_files or self._waiting_tables:
            self._waiting_tables.append((len(self._out), frame))
            self._out += bytes(frame.table_bytes())
        else:
            self._out += frame.table(start, self._old)
        frame.close()
        self._frame = None if frame.is_root else frame.parent

    # Decisions -----------------------------------------------------------------------------------

    def _flush(self, *, keep_last: bool) -> None:
        """Decide about the range of unchanged files and fill in everything that waited for it."""
        ranges = self._ranges
        if ranges is None:
            return
        range_start = ranges.start
        base = ranges.decide(keep_last=keep_last)
        out = self._out
        if base is not None:
            shift = base - range_start
            pack_into = _OFFSET.pack_into
            for at, old_offset, size, _frame, _child, _event in self._waiting_files:
                pack_into(out, at, old_offset + shift)
                self.summary.reused_bytes += size
        else:
            for waiting in self._waiting_files:
                self._read_again(ranges, waiting)
        self.summary.files += len(self._waiting_files)
        for at, frame in self._waiting_tables:
            table = frame.table(self._base + at, self._old)
            out[at : at + len(table)] = table
        self._waiting_files.clear()
        self._waiting_tables.clear()
        self._queued = 0

    def _read_again(
        self, ranges: PayloadRanges, waiting: tuple[int, int, int, Frame, int, Event]
    ) -> None:
        """Read an unchanged file after all, since its old chunks hold too much else.

        Its entry stands already, so if it changed or vanished since, its old chunks are used.
        """
        at, old_offset, size, frame, child, event = waiting
        fd = self._reading.open_unchanged(frame, event)
        if fd is not None:
            self._payload.suggest()
            offset = self._payload.position
            if self._reading.copy_exactly(fd, event, frame, self._payload):
                frame.extra[child] = size
                self.summary.content_bytes += size
                _OFFSET.pack_into(self._out, at, offset)
                return
        _OFFSET.pack_into(self._out, at, ranges.place(old_offset, old_offset + 16 + size))
        self.summary.reused_bytes += size
