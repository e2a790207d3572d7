"""Writes an archive by the rules of the format, entry by entry; the measure of the real writers.

With one sink the archive is of version 1: contents stand between the entries. With two it is of
version 2: entries in the first, contents in the second, each file holding a reference. Contents are
written by the caller, straight into the sink; children come in the order of their names.
"""

import struct
from typing import Final, Protocol

from holdfast.archive.pxar import goodbye
from holdfast.archive.pxar.format import (
    ENTRY,
    ENTRY_BYTES,
    FILENAME,
    FORMAT_VERSION,
    HEADER_BYTES,
    NAME_BYTES_MAX,
    PAYLOAD_REF,
    PAYLOAD_START_MARKER,
    PAYLOAD_TAIL_MARKER,
    PRELUDE,
    REF_BYTES,
    REF_ITEM,
    ROW,
    Metadata,
    attributes,
    device_item,
    entry_item,
    filename_item,
    hardlink_item,
    header,
    name_problem,
    payload_header,
    siphash,
    symlink_item,
)
from holdfast.errors import BadRequest
from holdfast.units import KIB

_PENDING_BYTES_MAX: Final = 64 * KIB
# One struct per length of a name writes FILENAME, ENTRY and PAYLOAD_REF in one go.
_FILE_ITEMS: Final = tuple(
    struct.Struct(f"<QQ{length + 1}sQQQQIIqI4xQQQQ") for length in range(256)
)
_FILE_ITEMS_BYTES: Final = HEADER_BYTES + 1 + ENTRY_BYTES + REF_BYTES


class Sink(Protocol):
    """Where a stream goes; a StreamWriter of the datastore is one."""

    @property
    def position(self) -> int:
        """Bytes in the stream so far."""

    def write(self, data: bytes, /) -> object:
        """Append all of `data`."""


class PayloadSink(Sink, Protocol):
    def suggest(self) -> None:
        """The current position is a good place to end a chunk."""


class _Directory:
    __slots__ = ("entry_start", "name", "rows", "start")

    def __init__(self, name: bytes, start: int, entry_start: int) -> None:
        self.name = name
        self.start = start
        self.entry_start = entry_start
        self.rows: list[goodbye.Row] = []


class Encoder:
    """One archive from root to `finish`.

    Every method that adds an entry returns the position of its FILENAME item, which is what a hard
    link needs to point back to.
    """

    def __init__(
        self,
        meta_out: Sink,
        payload_out: PayloadSink | None = None,
        *,
        root: Metadata,
        prelude: bytes | None = None,
    ) -> None:
        """Write what stands before the first entry.

        Args:
            meta_out: takes everything (version 1) or all but the contents (version 2).
            payload_out: takes the contents of version 2.
            root: the directory itself.
            prelude: free bytes at the start of version 2.
        """
        self._meta = meta_out
        self._payload = payload_out
        self._pending: list[bytes] = []
        self._flushed = meta_out.position
        self._origin = self._flushed
        self._position = self._flushed
        self._last_reference = 0
        if payload_out is not None:
            payload_out.write(header(PAYLOAD_START_MARKER, 0))
            self._add(ROW.pack(FORMAT_VERSION, 24, 2))
            if prelude is not None:
                self._add(header(PRELUDE, len(prelude)) + prelude)
        elif prelude is not None:
            raise BadRequest("only archives in two streams have a prelude")
        # The tail of a version 2 root points to the start of the stream, not to its ENTRY.
        self._directory = _Directory(b"", self._origin, self._origin)
        self._rows = self._directory.rows
        self._open: list[_Directory] = []
        self._add(entry_item(root.stat) + attributes(root))

    @property
    def position(self) -> int:
        """Where the next entry begins in the (metadata) stream."""
        return self._position

    @property
    def depth(self) -> int:
        """Directories open below the root."""
        return len(self._open)

    # Directories -----------------------------------------------------------------------------

    def begin_directory(self, name: bytes, metadata: Metadata) -> int:
        """Enter a child directory."""
        start = self._position
        self._named(name, metadata, b"")
        self._open.append(self._directory)
        self._directory = _Directory(name, start, start + HEADER_BYTES + 1 + len(name))
        self._rows = self._directory.rows
        return start

    def end_directory(self) -> None:
        """Leave the directory entered last."""
        done = self._directory
        self._end()
        self._directory = self._open.pop()
        self._rows = self._directory.rows
        self._rows.append((siphash(done.name), done.start, self._position - done.start))

    def finish(self) -> None:
        """Close the root; the sinks stay open."""
        if self._open:
            raise BadRequest(f"{len(self._open)} directories of the archive are still open")
        self._end()
        self._flush()
        if self._payload is not None:
            self._payload.write(header(PAYLOAD_TAIL_MARKER, 0))

    # Files -----------------------------------------------------------------------------------

    def file(self, name: bytes, metadata: Metadata, size: int) -> int:
        """A regular file; the caller now writes exactly `size` bytes to the content's sink."""
        if self._payload is not None:
            self._payload.suggest()
            offset = self._payload.position
            self._payload.write(payload_header(size))
            return self.file_at(name, metadata, size, offset)
        start = self._position
        self._named(name, metadata, payload_header(size))
        self._flush()
        self._position += size
        self._flushed += size
        self._rows.append((siphash(name), start, self._position - start))
        return start

    def file_at(self, name: bytes, metadata: Metadata, size: int, offset: int) -> int:
        """A file whose PAYLOAD item the caller writes at `offset` of the payload stream."""
        start = self._reference(name, metadata, size, offset)
        # Recorded quirk: the row of a freshly read file counts its content, which is elsewhere.
        self._rows.append((siphash(name), start, self._position - start + size))
        return start

    def file_reference(self, name: bytes, metadata: Metadata, size: int, offset: int) -> int:
        """A file whose PAYLOAD item lies at `offset` within chunks taken over as they are."""
        start = self._reference(name, metadata, size, offset)
        self._rows.append((siphash(name), start, self._position - start))
        return start

    def _reference(self, name: bytes, metadata: Metadata, size: int, offset: int) -> int:
        start = self._position
        if offset <= self._last_reference:
            raise BadRequest(f"payload offset {offset} does not follow {self._last_reference}")
        self._last_reference = offset
        stat, xattrs, acl, fcaps, projid = metadata
        length = len(name)
        if xattrs or acl or projid or fcaps is not None or length > 255:
            self._named(name, metadata, REF_ITEM.pack(PAYLOAD_REF, REF_BYTES, offset, size))
            return start
        if b"/" in name or b"\0" in name or name in (b"", b".", b".."):
            raise BadRequest(f"an archive cannot hold {name_problem(name)}")
        items = _FILE_ITEMS[length].pack(
            FILENAME, length + 17, name, ENTRY, ENTRY_BYTES, *stat,
            PAYLOAD_REF, REF_BYTES, offset, size,
        )  # fmt: skip
        self._pending.append(items)
        self._position = start + length + _FILE_ITEMS_BYTES
        if self._position - self._flushed > _PENDING_BYTES_MAX:
            self._flush()
        return start

    # Everything else -------------------------------------------------------------------------

    def symlink(self, name: bytes, metadata: Metadata, target: bytes) -> int:
        if not target or len(target) > NAME_BYTES_MAX or b"\0" in target:
            raise BadRequest("an archive cannot hold a symbolic link with such a target")
        return self._leaf(name, metadata, symlink_item(target))

    def device(self, name: bytes, metadata: Metadata, *, major: int, minor: int) -> int:
        return self._leaf(name, metadata, device_item(major, minor))

    def special(self, name: bytes, metadata: Metadata) -> int:
        """A fifo or socket; nothing follows its metadata."""
        return self._leaf(name, metadata, b"")

    def hardlink(self, name: bytes, *, target_start: int, target_path: bytes) -> int:
        """Another name of a file written before.

        Args:
            name: the further name.
            target_start: what `file` returned for the first one.
            target_path: its path from the root, without a leading slash.
        """
        start = self._position
        self._check(name)
        item = hardlink_item(start - target_start, target_path)
        self._add(filename_item(name) + item)
        self._rows.append((siphash(name), start, self._position - start))
        return start

    def _leaf(self, name: bytes, metadata: Metadata, end: bytes) -> int:
        start = self._position
        self._named(name, metadata, end)
        self._rows.append((siphash(name), start, self._position - start))
        return start

    def _named(self, name: bytes, metadata: Metadata, end: bytes) -> None:
        self._check(name)
        parts = (filename_item(name), entry_item(metadata.stat), attributes(metadata), end)
        self._add(b"".join(parts))

    @staticmethod
    def _check(name: bytes) -> None:
        problem = name_problem(name)
        if problem is not None:
            raise BadRequest(f"an archive cannot hold {problem}")

    def _end(self) -> None:
        self._add(
            goodbye.table(
                self._rows,
                goodbye_start=self._position,
                directory_start=self._directory.entry_start,
            )
        )

    def _add(self, items: bytes) -> None:
        self._pending.append(items)
        self._position += len(items)
        if self._position - self._flushed > _PENDING_BYTES_MAX:
            self._flush()

    def _flush(self) -> None:
        if self._meta.position != self._flushed:
            raise BadRequest("a file's content is not as long as was announced")
        self._meta.write(b"".join(self._pending))
        self._pending.clear()
        self._flushed = self._position
