"""The directories a tree backup is inside of: rows of their tables and ways to open their files."""

import os
import struct
from typing import Final

from holdfast.archive.previous_tree import OldBytes
from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar import goodbye
from holdfast.archive.walk import DIRECTORY_FLAGS, READ_FLAGS

_OPEN_DEPTH_MAX: Final = 128
_READ_NOATIME: Final = READ_FLAGS | os.O_NOATIME
ROW_BYTES: Final = 24
_HEADER: Final = struct.Struct("<QQ")


class Frame:
    """One directory while its children are written.

    Attributes:
        path: relative to the root, ends in a slash; empty for the root.
        start: offset of its ENTRY in the archive (0 for the root: the table counts from there).
        names, starts: of the children so far, `starts` being offsets of their FILENAME.
        extra: by child number, content bytes that its row counts although they lie elsewhere.
        is_exact: so far the directory lies in the archive as it lay in the previous one.
        old_table: where the previous archive has its table, once all children agreed.
    """

    __slots__ = (
        "_fd",
        "_parent",
        "depth",
        "device",
        "extra",
        "inode",
        "is_exact",
        "name",
        "names",
        "old_table",
        "path",
        "start",
        "starts",
    )

    def __init__(
        self, parent: "Frame | None", name: bytes, start: int, *, device: int, inode: int
    ) -> None:
        self._parent = parent
        self._fd = -1
        self.name = name
        self.path: bytes = b"" if parent is None else parent.path + name + b"/"
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.start = start
        self.device = device
        self.inode = inode
        self.names: list[bytes] = []
        self.starts: list[int] = []
        self.extra: dict[int, int] = {}
        self.is_exact = False
        self.old_table = -1

    @classmethod
    def of_root(cls, fd: int, *, device: int, inode: int) -> "Frame":
        """The root, whose open directory it takes over."""
        frame = cls(None, b"", 0, device=device, inode=inode)
        frame._fd = fd
        return frame

    @property
    def parent(self) -> "Frame":
        if self._parent is None:
            raise AssertionError("the root has no parent")
        return self._parent

    @property
    def is_root(self) -> bool:
        return self._parent is None

    def table_bytes(self) -> int:
        return 16 + ROW_BYTES * (len(self.names) + 1)

    def table(self, goodbye_start: int, old: OldBytes = b"") -> bytes:
        """The GOODBYE item; children lie back to back, so one ends where the next begins.

        Args:
            goodbye_start: its position in the archive.
            old: the previous archive, which may hold the table ready made at `old_table`.
        """
        if self.old_table >= 0 and not self.extra:
            table = self._adapted(goodbye_start, old)
            if table is not None:
                return table
        starts, extra = self.starts, self.extra
        ends = [*starts[1:], goodbye_start] if starts else []
        rows = [
            (pxar.siphash(name), start, end - start)
            for name, start, end in zip(self.names, starts, ends, strict=True)
        ]
        for number, count in extra.items():
            digest, start, size = rows[number]
            rows[number] = (digest, start, size + count)
        return goodbye.table(rows, goodbye_start=goodbye_start, directory_start=self.start)

    def _adapted(self, goodbye_start: int, old: OldBytes) -> bytes | None:
        """The previous table, its sizes those of files that were not read; None if it differs.

        Hashes depend on names alone, and distances are the same when nothing moved, so only sizes
        can differ: those of files that were read for the previous archive count their content.
        """
        size = self.table_bytes()
        table = old[self.old_table : self.old_table + size]
        if len(table) != size:
            return None
        numbers = list(struct.unpack(f"<{size // 8}Q", table))
        distances = numbers[3:-3:3]
        ordered = sorted(distances)
        if ordered != [goodbye_start - start for start in reversed(self.starts)]:
            return None
        if numbers[-2:] != [goodbye_start - self.start, size]:
            return None
        if sum(numbers[4:-3:3]) == (ordered[-1] if ordered else 0):
            return table
        below = dict(zip(ordered, [0, *ordered], strict=False))
        numbers[4:-3:3] = [distance - below[distance] for distance in distances]
        return struct.pack(f"<{size // 8}Q", *numbers)

    def descriptor(self) -> int:
        """This directory, open (OSError; FileNotFoundError when another one took its place)."""
        if self._fd < 0:
            chain: list[Frame] = []
            above: Frame = self
            while above._fd < 0:  # the root is always open
                chain.append(above)
                above = above.parent
            for frame in reversed(chain):
                frame._open()  # noqa: SLF001  # another frame
        return self._fd

    def _open(self) -> None:
        fd = os.open(self.name, DIRECTORY_FLAGS, dir_fd=self.parent._fd)  # noqa: SLF001  # another frame
        info = os.fstat(fd)
        if (info.st_dev, info.st_ino) != (self.device, self.inode):
            os.close(fd)
            raise FileNotFoundError(2, "the directory was replaced", self.path)
        self._fd = fd
        if self.depth > _OPEN_DEPTH_MAX:
            far = self
            for _step in range(_OPEN_DEPTH_MAX):
                far = far.parent
            far.close()

    def open_file(self, name: bytes) -> int:
        """A child for reading, never through a symbolic link (OSError)."""
        dir_fd = self._fd if self._fd >= 0 else self.descriptor()
        try:
            return os.open(name, _READ_NOATIME, dir_fd=dir_fd)
        except PermissionError:  # only the owner may ask for O_NOATIME
            return os.open(name, READ_FLAGS, dir_fd=dir_fd)

    def close(self) -> None:
        """Close the directory; `descriptor` opens it again. The root stays open."""
        if self._fd >= 0 and self._parent is not None:
            os.close(self._fd)
            self._fd = -1

    def close_root(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
