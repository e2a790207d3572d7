"""Files of an archive as rows: any number of them in little memory, and quick to look through.

A million rows take about 30 bytes each besides their names. A table may be filled by one thread
while others read it: a row counts from the moment its last number is there.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, overload

from holdfast.archive.pxar.format import Kind

_KINDS: Final = tuple(Kind)
_CODES: Final = {kind: code for code, kind in enumerate(_KINDS)}
_SLICE_BYTES: Final = 1 << 20
_NANO: Final = 1_000_000_000


class FileRow(NamedTuple):
    """One entry.

    Attributes:
        path: from the root of the archive, raw bytes, no leading slash.
        size: of its content; of a hard link that of its file, or 0 when not looked up.
        mode, mtime_ns: as stored; 0 when not known.
        place: first byte of the content in its stream; -1 for none.
    """

    path: bytes
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    place: int

    @property
    def key(self) -> bytes:
        return self.path

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def is_directory(self) -> bool:
        return self.kind is Kind.DIRECTORY

    @property
    def mtime_s(self) -> float:
        return self.mtime_ns / _NANO


class FileTable(Sequence[FileRow]):
    """Rows of one directory, of a whole archive, or of what was found.

    Attributes:
        prefix: what all names are below: `etc/nginx/` or nothing.
        is_complete: nothing more will come.
    """

    def __init__(self, prefix: bytes = b"") -> None:
        self.prefix = prefix
        self.is_complete = False
        self._names = bytearray(b"\0")  # \0 name \0 name \0
        self._starts = array("Q")
        self._kinds = bytearray()
        self._sizes = array("q")
        self._modes = array("L")
        self._times = array("q")
        self._places = array("q")

    def add(  # noqa: PLR0917  # called once for every file: keywords cost time
        self, name: bytes, kind: Kind, size: int, mode: int, mtime_ns: int, place: int
    ) -> None:
        """One more; `name` continues the prefix."""
        start = len(self._names)
        self._names += name + b"\0"
        self._kinds.append(_CODES[kind])
        self._sizes.append(size)
        self._modes.append(mode)
        self._times.append(mtime_ns)
        self._places.append(place)
        self._starts.append(start)  # last: now it counts

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, at: int) -> FileRow: ...

    @overload
    def __getitem__(self, at: slice) -> list[FileRow]: ...

    def __getitem__(self, at: int | slice) -> FileRow | list[FileRow]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        return FileRow(
            self.prefix + self.name(at),
            _KINDS[self._kinds[at]],
            self._sizes[at],
            self._modes[at],
            self._times[at],
            self._places[at],
        )

    def name(self, at: int) -> bytes:
        """Without the prefix."""
        start = self._starts[at]
        return bytes(self._names[start : self._names.index(0, start)])

    def number_of(self, path: bytes) -> int | None:
        """Of the row with this path."""
        if not path.startswith(self.prefix):
            return None
        found = self._names.find(b"\0" + path[len(self.prefix) :] + b"\0")
        if found < 0:
            return None
        at = bisect_right(self._starts, found + 1) - 1
        return at if at >= 0 else None

    def slices(self) -> Iterator[tuple[int, bytes]]:
        r"""The names in pieces of about 1 MiB: where a piece begins, and it, from \\0 to \\0.

        Whoever searches does not hold the interpreter for longer than one piece takes.
        """
        end = self._starts[-1] if self._starts else 0
        position = 0
        while position < end:
            stop = min(position + _SLICE_BYTES, len(self._names) - 1)
            stop = self._names.index(0, stop)
            yield position, bytes(self._names[position : stop + 1])
            position = stop

    def rows_at(self, positions: Sequence[int]) -> "array[int]":
        """Numbers of the rows whose names hold these positions, each once, in order."""
        found = array("L")
        last = -1
        for position in positions:
            at = bisect_right(self._starts, position) - 1
            if at > last:
                found.append(at)
                last = at
        return found

    def matching(self, words: Sequence[bytes], without: Sequence[bytes] = ()) -> "array[int]":
        """Numbers of rows whose names hold all lower-case `words` and none of `without`."""
        found = self._holding(words[0]) if words else array("L", range(len(self)))
        others = [*words[1:]]
        if not others and not without:
            return found
        kept = array("L")
        for at in found:
            low = self.name(at).lower()
            if all(word in low for word in others) and not any(word in low for word in without):
                kept.append(at)
        return kept

    def _holding(self, word: bytes) -> "array[int]":
        if not word:
            return array("L", range(len(self)))
        positions = array("Q")
        for offset, piece in self.slices():
            low = piece.lower()
            at = low.find(word)
            while at >= 0:
                positions.append(offset + at)
                behind = low.find(b"\0", at)  # one hit per name is enough
                at = low.find(word, behind)
        return self.rows_at(positions)


def table_of(rows: Sequence[FileRow]) -> FileTable:
    """A table of its own out of single rows."""
    table = FileTable()
    for row in rows:
        table.add(row.path, row.kind, row.size, row.mode, row.mtime_ns, row.place)
    table.is_complete = True
    return table
