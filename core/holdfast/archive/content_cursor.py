"""Contents of files in the order of an archive, as views of decoded chunks.

Many small files lie in one chunk, so the cursor keeps the chunk at hand and cuts views from it. In
a split archive each content has a header of 16 bytes in the payload stream, which is checked.
"""

from collections.abc import Iterator
from typing import Protocol

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.items import Entry
from holdfast.errors import DamagedData

_WHOLE_CHUNK = 1 << 62


class ViewSource(Protocol):
    """A stream that can show its bytes without copying; StreamReader of the datastore is one."""

    @property
    def size(self) -> int: ...

    def view_at(self, offset: int, length: int, /) -> memoryview:
        """Bytes from `offset`, at least one unless at the end, up to `length`."""


class ContentCursor:
    """Reads contents; any order works, archive order is fast."""

    def __init__(self, source: ViewSource, *, is_split: bool) -> None:
        self._source = source
        self._header_bytes = pxar.HEADER_BYTES if is_split else 0
        self._start = 0
        self._end = 0
        self._view = memoryview(b"")

    def views(self, entry: Entry) -> Iterator[memoryview]:
        """The content of a regular file, in pieces (DamagedData when there is no such content)."""
        at = entry.payload
        if self._header_bytes:
            header = b"".join(self._stretch(at, at + self._header_bytes))
            if header != pxar.payload_header(entry.size):
                raise DamagedData("archive", "a reference leads to something that is no content")
            at += self._header_bytes
        return self._stretch(at, at + entry.size)

    def view_at_hand(self, entry: Entry) -> memoryview | None:
        """The content of a regular file if it lies in the chunk that was read last (DamagedData)."""
        start = entry.payload + self._header_bytes
        end = start + entry.size
        if entry.payload < self._start or end > self._end:
            return None
        if self._header_bytes:
            header = self._view[entry.payload - self._start : start - self._start]
            if header != pxar.payload_header(entry.size):
                raise DamagedData("archive", "a reference leads to something that is no content")
        return self._view[start - self._start : end - self._start]

    def _stretch(self, at: int, end: int) -> Iterator[memoryview]:
        if at >= self._start and end <= self._end:
            return iter((self._view[at - self._start : end - self._start],))
        if end > self._source.size or at < 0:
            raise DamagedData("archive", "a reference leads beyond the stream of contents")
        return self._across_chunks(at, end)

    def _across_chunks(self, at: int, end: int) -> Iterator[memoryview]:
        while at < end:
            if not self._start <= at < self._end:
                self._view = self._source.view_at(at, _WHOLE_CHUNK)
                if not self._view:
                    raise DamagedData("archive", "its stream of contents ends early")
                self._start, self._end = at, at + len(self._view)
            piece = self._view[at - self._start : end - self._start]
            yield piece
            at += len(piece)
