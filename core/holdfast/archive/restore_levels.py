"""The chain of directories a restore is inside of, made when something in them is restored."""

import os
from contextlib import suppress

from holdfast.archive.pxar.items import Entry
from holdfast.errors import HoldfastError

OPEN_LEVELS_MAX = 128  # of one chain; the rest is opened again on the way up
NOT_OPEN = -1


class Level:
    """One directory of the archive on the way to where the restore is.

    Attributes:
        path: in the archive, for messages.
        is_wanted: whether what no pattern speaks of is restored below it.
        is_blocked: something else stands in its place: nothing below can be restored.
        is_made: it exists in the target, made or merged into.
        pending: files and directories below it that other threads are busy with.
        is_left: everything in it was met, but something is pending.
    """

    __slots__ = (
        "_identity",
        "depth",
        "entry",
        "fd",
        "is_blocked",
        "is_left",
        "is_made",
        "is_wanted",
        "name",
        "parent",
        "path",
        "pending",
    )

    def __init__(
        self, parent: "Level | None", entry: Entry, path: bytes, *, is_wanted: bool
    ) -> None:
        self.parent = parent
        self.entry = entry
        self.path = path
        self.name = entry.name  # changed when the directory is restored under another one
        self.is_wanted = is_wanted
        self.is_blocked: bool = parent is not None and parent.is_blocked
        self.is_made = False
        self.is_left = False
        self.pending = 0
        self.fd = NOT_OPEN
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._identity = (0, 0)

    def opened(self, fd: int) -> None:
        """The directory exists and is open as `fd`."""
        info = os.fstat(fd)
        self.fd = fd
        self.is_made = True
        self._identity = (info.st_dev, info.st_ino)
        far = self
        for _step in range(OPEN_LEVELS_MAX):
            if far.parent is None or far.parent.parent is None:
                return  # the root stays open
            far = far.parent
        far.close()

    def close(self) -> None:
        if self.fd != NOT_OPEN:
            os.close(self.fd)
            self.fd = NOT_OPEN

    def leave(self) -> None:
        """Close; the level above is open again afterwards if it was before (HoldfastError)."""
        above = self.parent
        try:
            if above is not None and above.fd == NOT_OPEN and self.fd != NOT_OPEN:
                above.open_from_below(self.fd)
        finally:
            self.close()

    def open_from_below(self, fd: int) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with suppress(OSError):
            above = os.open("..", flags, dir_fd=fd)
            info = os.fstat(above)
            if (info.st_dev, info.st_ino) == self._identity:
                self.fd = above
                return
            os.close(above)
        raise HoldfastError("a directory was moved away while it was restored")
