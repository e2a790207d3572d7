"""The one or two streams of an archive: how they begin, and where a file's content lies.

version 1   root ENTRY ...
version 2   FORMAT_VERSION (24 bytes, value 2) [PRELUDE] root ENTRY ...
payload     PAYLOAD_START_MARKER (16), PAYLOAD items between any other bytes,
PAYLOAD_TAIL_MARKER (16); never read from front to back, only by reference
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.format import HEADER, HEADER_BYTES, NUMBER, Kind
from holdfast.archive.pxar.items import Buffer, Entry, Source, Window
from holdfast.errors import BadRequest, DamagedData
from holdfast.units import MIB

_DIRECT_BYTES_MAX: Final = 8 * MIB  # above, threads that decode ahead are worth starting


@dataclass(frozen=True, slots=True)
class Opening:
    """What stands before the root's ENTRY."""

    is_split: bool
    root_start: int
    prelude: bytes | None


def read_opening(window: Window) -> Opening:
    """Recognise the version of an archive (DamagedData)."""
    kind, size = window.header_at(0, window.size)
    if kind != pxar.FORMAT_VERSION:
        return Opening(is_split=False, root_start=0, prelude=None)
    if size != HEADER_BYTES + NUMBER.size:
        raise window.damaged(0, "a format version of impossible size")
    (version,) = NUMBER.unpack(window.bytes_at(HEADER_BYTES, NUMBER.size))
    if version not in (1, 2):
        raise window.damaged(0, f"format version {version} is not known")
    position = size
    prelude = None
    kind, size = window.header_at(position, window.size)
    if kind == pxar.PRELUDE:
        if size > HEADER_BYTES + pxar.PRELUDE_BYTES_MAX:
            raise window.damaged(position, f"a prelude of {size} bytes")
        prelude = window.bytes_at(position + HEADER_BYTES, size - HEADER_BYTES)
        position += size
    return Opening(is_split=version == 2, root_start=position, prelude=prelude)  # noqa: PLR2004


class Content:
    """The bytes of one file."""

    def __init__(self, source: Source, start: int, size: int) -> None:
        self._source = source
        self._start = start
        self.size = size

    def read_at(self, offset: int, length: int) -> Buffer:
        """At most `length` bytes from `offset`; fewer at the end."""
        length = min(length, self.size - offset)
        return self._source.read_at(self._start + offset, length) if length > 0 else b""

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """The bytes of a range in order, read ahead."""
        stop = self.size if end is None else min(end, self.size)
        if stop - start > _DIRECT_BYTES_MAX:
            return self._source.pieces(self._start + start, self._start + stop)
        return self._views(start, stop)

    def _views(self, position: int, stop: int) -> Iterator[memoryview]:
        """Out of what the source has decoded already: the chunk of many small files, once."""
        while position < stop:
            view = self._source.view_at(self._start + position, stop - position)
            if not len(view):
                raise DamagedData("archive", "a content ends early")
            yield view
            position += len(view)


class Payloads:
    """Finds contents: between the entries, or in a stream of their own."""

    def __init__(self, meta: Source, payload: Source | None, *, is_split: bool, what: str) -> None:
        self._source = payload if is_split else meta
        self._is_split = is_split
        self._what = what

    def check_markers(self) -> None:
        """A payload stream begins and ends as it should (DamagedData); reads both its ends.

        An end whose chunk is lost proves nothing: the files in it are told when they are read.
        """
        source = self._source
        if not self._is_split or source is None:
            return
        expected = (
            (0, pxar.PAYLOAD_START_MARKER),
            (source.size - HEADER_BYTES, pxar.PAYLOAD_TAIL_MARKER),
        )
        for offset, kind in expected:
            try:
                is_whole = offset >= 0 and (
                    bytes(source.read_at(offset, HEADER_BYTES)) == pxar.header(kind, 0)
                )
            except DamagedData:
                continue
            if not is_whole:
                raise DamagedData(self._what, "its payload stream is not a whole one")

    def content(self, entry: Entry) -> Content:
        """The content of a regular file.

        Raises:
            BadRequest: no regular file, or the payload stream was not opened.
            DamagedData: the reference leads to no content of that size.
        """
        if entry.kind is not Kind.FILE:
            raise BadRequest(f"only regular files have contents, this is a {entry.kind}")
        source = self._source
        if source is None:
            raise BadRequest("this archive was opened without its payload stream")
        if not self._is_split:
            return Content(source, entry.payload, entry.size)
        start = entry.payload + HEADER_BYTES
        if entry.payload < HEADER_BYTES or start + entry.size > source.size - HEADER_BYTES:
            raise DamagedData(self._what, "a reference leads beyond the payload stream")
        header = HEADER.unpack(bytes(source.read_at(entry.payload, HEADER_BYTES)))
        if header != (pxar.PAYLOAD, HEADER_BYTES + entry.size):
            raise DamagedData(self._what, "a reference leads to something that is not the content")
        return Content(source, start, entry.size)
