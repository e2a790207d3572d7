"""Goes through an archive from its first to its last entry, in the order it was written.

Every directory is met twice: when it is entered, and at its GOODBYE, whose tail row is checked.
Contents are not read, only passed over; `content` gives them on demand. Nesting costs no stack.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.format import HEADER_BYTES, ROW, ROW_BYTES, Kind
from holdfast.archive.pxar.items import Entry, Source, Step, Window, read_child, read_root
from holdfast.archive.pxar.streams import Content, Payloads, read_opening
from holdfast.units import MIB

PATH_BYTES_MAX: Final = 1 * MIB  # ours: keeps hostile nesting from costing its square


class References(Enum):
    """Whether payload offsets have to grow, as they do in archives without faults of old clients."""

    ASCENDING = "ascending"
    ANY = "any"


@dataclass(slots=True)
class _Open:
    path: bytes
    entry: Entry
    children: int = 0


class Decoder:
    """One pass over an archive."""

    def __init__(
        self,
        meta: Source,
        payload: Source | None = None,
        *,
        what: str = "archive",
        references: References = References.ANY,
    ) -> None:
        """Read the opening (DamagedData).

        Args:
            meta: the archive, or the stream of entries of a split one.
            payload: the other stream; without it contents cannot be read.
            what: how errors call the archive.
            references: what to demand of references to contents.
        """
        self._window = Window(meta, what)
        opening = read_opening(self._window)
        self._root_start = opening.root_start
        self.is_split = opening.is_split
        self.prelude = opening.prelude
        if not self.is_split:
            self._window.read_little()
        self._payloads = Payloads(meta, payload, is_split=opening.is_split, what=what)
        self._payloads.check_markers()
        self._references = references

    def content(self, entry: Entry) -> Content:
        """See Payloads.content."""
        return self._payloads.content(entry)

    def steps(self) -> Iterator[Step]:
        """All entries in archive order, the root first and last (DamagedData)."""
        root = read_root(self._window, self._root_start, is_split=self.is_split)
        last = 0
        for step in steps_below(self._window, root, b"", is_split=self.is_split):
            entry = step.entry
            if (
                entry.kind is Kind.FILE
                and self.is_split
                and self._references is References.ASCENDING
            ):
                if entry.payload <= last:
                    raise self._window.damaged(entry.start, "references to contents run backwards")
                last = entry.payload
            yield step


def steps_below(window: Window, top: Entry, path: bytes, *, is_split: bool) -> Iterator[Step]:
    """A directory and everything below it in archive order, each directory met twice.

    Args:
        window: over the stream of entries.
        top: the directory.
        path: of `top`; what the paths of the steps begin with.
        is_split: version 2.

    Raises:
        DamagedData: an entry or the end of a table is not what it should be.
    """
    opened = [_Open(path, top)]
    position = top.body
    yield Step(path, top)
    while opened:
        here = opened[-1]
        kind, size = window.header_at(position, window.size)
        if kind == pxar.GOODBYE:
            _check_goodbye(window, here, position, size)
            position += size
            opened.pop()
            yield Step(here.path, here.entry._replace(end=position), leaving=True)
            continue
        entry = read_child(window, position, window.size, is_split=is_split)
        here.children += 1
        below = here.path + b"/" + entry.name if here.path else entry.name
        if len(below) > PATH_BYTES_MAX:
            raise window.damaged(position, "directories are nested too deep")
        if entry.kind is Kind.DIRECTORY:
            opened.append(_Open(below, entry))
            position = entry.body
        else:
            position = entry.end
        yield Step(below, entry)


def _check_goodbye(window: Window, here: _Open, position: int, size: int) -> None:
    if size != HEADER_BYTES + ROW_BYTES * (here.children + 1):
        raise window.damaged(position, "a directory's table does not fit its entries")
    data, index = window.at(position + size - ROW_BYTES, ROW_BYTES)
    marker, distance, table_bytes = ROW.unpack_from(data, index)
    starts = {here.entry.entry_start} if here.entry.name else {0, here.entry.entry_start}
    if (
        marker != pxar.GOODBYE_TAIL_MARKER
        or table_bytes != size
        or position - distance not in starts
    ):
        raise window.damaged(position, "a directory's table does not end as it should")
