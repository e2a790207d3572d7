"""Write a tree as a unified archive (`.pxar`): contents between the entries, and a catalog beside.

Every content is read; nothing of an earlier snapshot is reused except what deduplicates. Since an
entry stands before its content, a file whose first bytes can be read stays in the archive.
"""

import struct
from collections.abc import Iterable
from typing import Final, Protocol

from holdfast.archive.file_content import ByteSink
from holdfast.archive.pxar import format as pxar
from holdfast.archive.tree_frames import Frame
from holdfast.archive.tree_reading import TreeReading
from holdfast.archive.tree_summary import TreeSummary
from holdfast.archive.walk import BEGIN, END, FILE, LEAF, Event
from holdfast.archive.walk_rules import EXCLUDE_FILE_CLI

_MODE_AT: Final = 16  # in ENTRY
_MTIME_AT: Final = 40
_NUMBER: Final = struct.Struct("<Q")
_SECONDS: Final = struct.Struct("<q")
_CLI_MODE: Final = 0o100600


class CatalogSink(Protocol):
    """Takes the names of a tree in archive order."""

    def begin_directory(self, name: bytes, /) -> None: ...

    def end_directory(self) -> None: ...

    def file(self, name: bytes, size: int, mtime_s: int, /) -> None: ...

    def other(self, name: bytes, kind: pxar.Kind, /) -> None: ...


class UnifiedTree:
    """One unified archive while it is written; feed it the batches of a walk, in order.

    Args:
        stream: the archive, empty so far.
        catalog: takes names; the archive's own directory is opened and ended by the caller.
        root_fd: the tree's root, open; stays open.
        reading: opens and copies files.
        patterns_text: content of `.pxarexclude-cli`, empty for no such file.
        owner: uid and gid of that file.
    """

    def __init__(
        self,
        stream: ByteSink,
        catalog: CatalogSink,
        root_fd: int,
        reading: TreeReading,
        *,
        patterns_text: bytes = b"",
        owner: tuple[int, int] = (0, 0),
    ) -> None:
        self.summary = TreeSummary()
        self._stream = stream
        self._catalog = catalog
        self._root_fd = root_fd
        self._reading = reading
        self._patterns_text = patterns_text
        self._owner = owner
        self._frame: Frame | None = None
        self._links: dict[tuple[int, int], tuple[int, bytes]] = {}

    def consume(self, batches: Iterable[list[Event]]) -> None:
        """Write all events of a walk (HoldfastError from the stream, OSError)."""
        handle = {FILE: self._file, LEAF: self._leaf, BEGIN: self._begin, END: self._end}
        for batch in batches:
            for event in batch:
                action = handle.get(event[0])
                if action is not None:
                    action(event)
                else:
                    self._reading.remark(event)
            self._reading.advance(len(batch))

    def release(self) -> None:
        """Close the directories that are still open, except the root."""
        frame = self._frame
        while frame is not None and not frame.is_root:
            frame.close()
            frame = frame.parent

    @property
    def _here(self) -> Frame:
        if self._frame is None:
            raise AssertionError("an entry outside of a directory")
        return self._frame

    def _file(self, event: Event) -> None:
        frame, stream = self._here, self._stream
        name, link = event[1], event[4]
        start = stream.position
        if link is not None and link in self._links:
            target, path = self._links[link]
            item = event[2][: 17 + len(name)] + pxar.hardlink_item(start - target, path)
            stream.write(item)
            frame.names.append(name)
            frame.starts.append(start)
            self._catalog.other(name, pxar.Kind.HARDLINK)
            self.summary.files += 1
            return
        opened = self._reading.open_described(frame, event)
        if opened is None:
            return
        fd, event = opened
        _kind, name, head, size, link, _inode, _ctime_ns = event
        if not self._reading.copy(fd, event, frame, stream, prefix=head):
            return
        (mtime_s,) = _SECONDS.unpack_from(head, 17 + len(name) + _MTIME_AT)
        self._catalog.file(name, size, mtime_s)
        if link is not None:
            self._links.setdefault(link, (start, frame.path + name))
        frame.names.append(name)
        frame.starts.append(start)
        self.summary.files += 1
        self.summary.changed_files += 1
        self.summary.content_bytes += size

    def _leaf(self, event: Event) -> None:
        _kind, name, head = event
        self._here.names.append(name)
        self._here.starts.append(self._stream.position)
        self._stream.write(head)
        (mode,) = _NUMBER.unpack_from(head, 17 + len(name) + _MODE_AT)
        kind = pxar.Stat(mode).kind
        if kind is not None:
            self._catalog.other(name, kind)
        self.summary.others += 1

    def _begin(self, event: Event) -> None:
        _kind, name, head, device, inode = event
        start = self._stream.position
        parent = self._frame
        if parent is None:
            self._frame = Frame.of_root(self._root_fd, device=device, inode=inode)
        else:
            parent.names.append(name)
            parent.starts.append(start)
            self._frame = Frame(parent, name, start + 17 + len(name), device=device, inode=inode)
            self._catalog.begin_directory(name)
        self._stream.write(head)
        self.summary.directories += 1

    def _end(self, _event: Event) -> None:
        frame = self._here
        if frame.is_root:
            self._add_patterns(frame)
        self._stream.write(frame.table(self._stream.position))
        frame.close()
        if frame.is_root:
            self._frame = None
        else:
            self._frame = frame.parent
            self._catalog.end_directory()

    def _add_patterns(self, root: Frame) -> None:
        """The command line's patterns, as the last file of the root, whatever its name sorts to."""
        text = self._patterns_text
        if not text:
            return
        uid, gid = self._owner
        stat = pxar.Stat(_CLI_MODE, 0, uid, gid)
        start = self._stream.position
        head = pxar.filename_item(EXCLUDE_FILE_CLI) + pxar.entry_item(stat)
        self._stream.write(head + pxar.payload_header(len(text)) + text)
        self._catalog.file(EXCLUDE_FILE_CLI, len(text), 0)
        root.names.append(EXCLUDE_FILE_CLI)
        root.starts.append(start)
        self.summary.files += 1
