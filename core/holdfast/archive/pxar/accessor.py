"""Random access to an archive through the tables at the ends of its directories.

A directory that ends at E: the last row (24 bytes before E) gives the size of its table and how far
before the table its ENTRY stands; the other rows give hash, position and size of every child. Only
what is asked for is read: a path costs a few rows per level, a listing one table and one small
read per child.

Rows are believed only as far as they lead to entries that lie inside their directory and do not
overlap, so a walk ends after at most as many steps as the archive has bytes.
"""

from collections.abc import Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.decoder import steps_below
from holdfast.archive.pxar.format import HEADER_BYTES, ROW, ROW_BYTES, Kind, siphash
from holdfast.archive.pxar.items import Entry, Source, Step, Window, read_child, read_root
from holdfast.archive.pxar.streams import Content, Payloads, read_opening
from holdfast.errors import BadRequest

_CHILD_BYTES_MIN: Final = 18 + 27  # the shortest name with the shortest hard link
_ROWS_AT_ONCE: Final = 1024


class _Table(NamedTuple):
    start: int  # of GOODBYE
    rows: int
    end: int  # of the directory


class Accessor:
    """An archive to browse."""

    def __init__(
        self, meta: Source, payload: Source | None = None, *, what: str = "archive"
    ) -> None:
        """Read the root's metadata (DamagedData).

        Args:
            meta: the archive, or the stream of entries of a split one.
            payload: the other stream; without it contents cannot be read.
            what: how errors call the archive.
        """
        self._window = Window(meta, what)
        self._tables = Window(meta, what)  # lie apart from the entries: both stay in memory
        opening = read_opening(self._window)
        self.is_split = opening.is_split
        self.prelude = opening.prelude
        if not self.is_split:
            self._window.read_little()
            self._tables.read_little()
        self._payloads = Payloads(meta, payload, is_split=opening.is_split, what=what)
        root = read_root(self._window, opening.root_start, is_split=opening.is_split)
        self.root: Entry = root._replace(end=self._window.size)

    def content(self, entry: Entry) -> Content:
        """The bytes of a regular file (see Payloads.content)."""
        return self._payloads.content(entry)

    def children(self, directory: Entry) -> list[Entry]:
        """What a directory holds, by name (DamagedData; BadRequest when it is none)."""
        found = self.children_in_archive_order(directory)
        found.sort(key=attrgetter("name"))
        return found

    def children_in_archive_order(self, directory: Entry) -> list[Entry]:
        """What a directory holds, as it was written: almost always by name."""
        return list(self.each_child(directory))

    def each_child(self, directory: Entry) -> Iterator[Entry]:
        """The same one by one, for directories too large to wait for."""
        table = self._table(directory)
        window = self._window
        is_split = self.is_split
        position = directory.body
        for distance, size in self._sorted_rows(directory, table):
            start = table.start - distance
            if start < position:
                raise window.damaged(start, "entries of a directory overlap")
            entry = read_child(window, start, table.end, is_split=is_split)
            if entry.kind is Kind.DIRECTORY:
                entry = self._bounded(entry, start + size, table.start)
            position = entry.end
            if position > table.start:
                raise window.damaged(start, "an entry reaches into its directory's table")
            yield entry

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """The entry called `name`, found by hash; None when there is none (DamagedData)."""
        table = self._table(directory)
        digest = siphash(name)
        slots = [0]
        while slots:
            slot = slots.pop()
            if slot >= table.rows:
                continue
            row_digest, distance, size = self._row(table, slot)
            if digest == row_digest:
                entry = self._child_at(directory, table, distance, size)
                if entry.name == name:
                    return entry
                slots += (2 * slot + 1, 2 * slot + 2)
            else:
                slots.append(2 * slot + 1 if digest < row_digest else 2 * slot + 2)
        return None

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at `path` from the root, slashes at the ends do not matter; None if absent.

        Raises:
            BadRequest: a path that leads upwards.
            DamagedData: the archive does.
        """
        entry: Entry | None = self.root
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            if part == b"..":
                raise BadRequest("a path inside an archive cannot lead upwards")
            if entry is None or entry.kind is not Kind.DIRECTORY:
                return None
            entry = self.child(entry, part)
        return entry

    def walk(self, top: Entry | None = None, path: bytes = b"") -> Iterator[Step]:
        """`top` (or the root) and all below, each directory when entered and when left.

        Entries come as they were written, almost always by name: so every part of the archive is
        read once, which is what counts when contents stand between them.

        Args:
            top: where to begin.
            path: what the paths of the steps begin with, the path of `top`.
        """
        first = self.root if top is None else top
        if first.kind is Kind.DIRECTORY:
            return steps_below(self._window, first, path, is_split=self.is_split)
        return iter((Step(path, first),))

    def resolve_hardlink(self, link: Entry) -> Entry:
        """The regular file a hard link is another name of.

        Raises:
            DamagedData: it leads to no regular file.
        """
        window = self._window
        if link.kind is not Kind.HARDLINK:
            raise BadRequest(f"only a hard link can be resolved, this is a {link.kind}")
        if link.problem is not None:
            raise window.damaged(link.start, link.problem)
        start = link.start - link.distance
        target = read_child(window, start, window.size, is_split=self.is_split)
        if target.kind is not Kind.FILE or target.problem is not None:
            raise window.damaged(link.start, "a hard link to something that is no regular file")
        return target

    # -----------------------------------------------------------------------------------------

    def _table(self, directory: Entry) -> _Table:
        window = self._tables
        end = directory.end
        if directory.kind is not Kind.DIRECTORY:
            raise BadRequest(f"only a directory has entries, this is a {directory.kind}")
        if end < 0:  # met on a walk, which does not know yet where it ends
            *_steps, last = steps_below(window, directory, b"", is_split=self.is_split)
            end = last.entry.end
        if end - ROW_BYTES < directory.body:
            raise window.damaged(directory.start, "a directory without room for its table")
        data, index = window.at(end - ROW_BYTES, ROW_BYTES)
        marker, distance, size = ROW.unpack_from(data, index)
        start = end - size
        if marker != pxar.GOODBYE_TAIL_MARKER or start < directory.body:
            raise window.damaged(end, "a directory's table does not end as it should")
        starts = {directory.entry_start} if directory.name else {0, directory.entry_start}
        if start - distance not in starts:
            raise window.damaged(start, "a directory's table belongs to another one")
        rows, rest = divmod(size - HEADER_BYTES - ROW_BYTES, ROW_BYTES)
        if rest or rows < 0 or window.header_at(start, end) != (pxar.GOODBYE, size):
            raise window.damaged(start, "a directory's table is malformed")
        if rows * _CHILD_BYTES_MIN > start - directory.body:
            raise window.damaged(start, "a directory's table has more rows than there are entries")
        return _Table(start, rows, end)

    def _row(self, table: _Table, slot: int) -> tuple[int, int, int]:
        data, index = self._tables.at(table.start + HEADER_BYTES + ROW_BYTES * slot, ROW_BYTES)
        row: tuple[int, int, int] = ROW.unpack_from(data, index)
        return row

    def _sorted_rows(self, directory: Entry, table: _Table) -> list[tuple[int, int]]:
        """Distance and size of every row, the child that was written first comes first."""
        rows: list[tuple[int, int]] = []
        position = table.start + HEADER_BYTES
        for first in range(0, table.rows, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, table.rows - first)
            data = self._tables.bytes_at(position + ROW_BYTES * first, ROW_BYTES * count)
            rows += [(distance, size) for _digest, distance, size in ROW.iter_unpack(data)]
        rows.sort(reverse=True)
        if rows and rows[0][0] > table.start - directory.body:
            raise self._window.damaged(table.start, "a directory's table leads out of it")
        return rows

    def _child_at(self, directory: Entry, table: _Table, distance: int, size: int) -> Entry:
        start = table.start - distance
        if start < directory.body:
            raise self._window.damaged(table.start, "a directory's table leads out of it")
        entry = read_child(self._window, start, table.end, is_split=self.is_split)
        if entry.kind is Kind.DIRECTORY:
            return self._bounded(entry, start + size, table.start)
        if entry.end > table.start:
            raise self._window.damaged(start, "an entry reaches into its directory's table")
        return entry

    def _bounded(self, entry: Entry, end: int, limit: int) -> Entry:
        """A directory with the end its row gives; sizes of other rows are not believed."""
        if not entry.body < end <= limit:
            raise self._window.damaged(entry.start, "a directory reaches out of the one above it")
        return entry._replace(end=end)
