"""The metadata archive of the snapshot before, as something to compare a walk with.

A walk and an unchanged archive agree entry for entry, so the comparison is a cursor that moves along
both. Only where they part is a directory's table read, once, to find a name again. Damage in the old
archive is no reason to fail: what cannot be read there counts as changed.
"""

import mmap
import stat
import struct
from typing import Final, Protocol

from holdfast.archive.pxar import format as pxar

_HEADER: Final = struct.Struct("<QQ")
_ROW: Final = struct.Struct("<QQQ")
_ROWS_AT: Final = 16
_TAIL_BYTES: Final = 24

NOWHERE: Final = -1
OldBytes = bytes | mmap.mmap  # slices of both are bytes


class ChunkIndex(Protocol):
    """The previous payload stream: which chunk holds which stretch."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def chunk_count(self) -> int: ...

    def range_at(self, number: int, /) -> tuple[int, int]: ...

    def find(self, offset: int, /) -> int: ...

    def digest_at(self, number: int, /) -> bytes: ...


class PreviousTree:
    """A whole .mpxar stream in memory and the index of its payload stream."""

    def __init__(self, data: OldBytes, payload: ChunkIndex) -> None:
        self.data = data
        self.payload = payload

    def root(self) -> "PreviousDirectory | None":
        """The root, or None when the stream does not begin like a split archive."""
        try:
            kind, size = _HEADER.unpack_from(self.data, 0)
            if kind != pxar.FORMAT_VERSION or size != 24:  # noqa: PLR2004  # its exact size
                return None
            at = 24
            kind, size = _HEADER.unpack_from(self.data, at)
            if kind == pxar.PRELUDE:
                at += size
        except struct.error:
            return None
        return PreviousDirectory(self, None, b"", at)

    def children_start(self, at: int) -> int:
        """Skip ENTRY and attributes from `at`; NOWHERE when no directory's children follow."""
        data = self.data
        try:
            kind, size = _HEADER.unpack_from(data, at)
            while kind not in (pxar.FILENAME, pxar.GOODBYE):
                if kind in _NO_DIRECTORY or size < _HEADER.size:
                    return NOWHERE
                at += size
                kind, size = _HEADER.unpack_from(data, at)
        except struct.error:
            return NOWHERE
        return at

    def after_table(self, at: int) -> int:
        """Where the GOODBYE at `at` ends, or NOWHERE when none begins there."""
        try:
            kind, size = _HEADER.unpack_from(self.data, at)
        except struct.error:
            return NOWHERE
        return at + size if kind == pxar.GOODBYE else NOWHERE


_NO_DIRECTORY: Final = frozenset(
    {pxar.SYMLINK, pxar.DEVICE, pxar.HARDLINK, pxar.PAYLOAD, pxar.PAYLOAD_REF}
)


class PreviousDirectory:
    """A directory of the old archive; its table is read when a name must be looked up."""

    __slots__ = ("_children", "_name", "_parent", "_tree", "body")

    def __init__(
        self, tree: PreviousTree, parent: "PreviousDirectory | None", name: bytes, entry: int
    ) -> None:
        self._tree = tree
        self._parent = parent
        self._name = name
        self._children: dict[bytes, tuple[int, int]] | None = None
        self.body = tree.children_start(entry)

    def find(self, name: bytes) -> int:
        """Offset of a child's FILENAME, or NOWHERE."""
        found = self._table().get(name)
        return NOWHERE if found is None else found[0]

    def child(self, name: bytes, at: int) -> "PreviousDirectory | None":
        """The sub-directory whose FILENAME is at `at`; None when that is no directory."""
        directory = PreviousDirectory(self._tree, self, name, at + 17 + len(name))
        if directory.body == NOWHERE or not _is_directory(self._tree.data, at + 17 + len(name)):
            return None
        return directory

    def _end(self) -> int:
        if self._parent is None:
            return len(self._tree.data)
        return self._parent._table().get(self._name, (NOWHERE, NOWHERE))[1]  # noqa: SLF001  # kin

    def _table(self) -> dict[bytes, tuple[int, int]]:
        if self._children is None:
            unread: list[PreviousDirectory] = []
            above: PreviousDirectory | None = self
            while above is not None and above._children is None:  # noqa: SLF001  # kin
                unread.append(above)
                above = above._parent  # noqa: SLF001  # kin
            for directory in reversed(unread):  # parents first, however deep
                directory._children = directory._read_table()  # noqa: SLF001  # kin
        return self._children or {}

    def _read_table(self) -> dict[bytes, tuple[int, int]]:
        data, end = self._tree.data, self._end()
        children: dict[bytes, tuple[int, int]] = {}
        try:
            mark, _offset, size = _ROW.unpack_from(data, end - _TAIL_BYTES)
            start = end - size
            if mark != pxar.GOODBYE_TAIL_MARKER or not 0 < start < end:
                return {}
            if _HEADER.unpack_from(data, start) != (pxar.GOODBYE, size):
                return {}
            rows = data[start + _ROWS_AT : end - _TAIL_BYTES]
            for _hash, back, length in _ROW.iter_unpack(rows):
                at = start - back
                kind, name_bytes = _HEADER.unpack_from(data, at)
                if at >= 0 and kind == pxar.FILENAME:
                    children[data[at + 16 : at + name_bytes - 1]] = (at, at + length)
        except struct.error:
            return {}
        return children


def _is_directory(data: OldBytes, entry: int) -> bool:
    if _HEADER.unpack_from(data, entry) != (pxar.ENTRY, pxar.ENTRY_BYTES):
        return False
    return stat.S_ISDIR(int.from_bytes(data[entry + 16 : entry + 24], "little"))
