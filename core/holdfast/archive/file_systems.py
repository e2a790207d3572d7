"""Which kind of file system a directory lies on: `statfs.f_type`, and what that means for backups.

Source: statfs(2), linux/magic.h; the masks are those of `features`.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from holdfast.archive.features import (
    FUSE_MAGIC,
    MSDOS_MAGIC,
    VIRTUAL_MAGICS,
    Feature,
    of_file_system,
)

_STATFS_BYTES: Final = 120


class FileSystem(NamedTuple):
    """What may be asked of the files of one file system."""

    magic: int

    @property
    def is_virtual(self) -> bool:
        """Whether it shows the kernel's state instead of holding files."""
        return self.magic in VIRTUAL_MAGICS

    @property
    def has_project_ids(self) -> bool:
        return Feature.QUOTA_PROJID in of_file_system(self.magic)

    @property
    def has_fat_attributes(self) -> bool:
        return self.magic in (MSDOS_MAGIC, FUSE_MAGIC)


@functools.cache
def _fstatfs() -> Callable[[int, object], int]:
    function = ctypes.CDLL(None, use_errno=True).fstatfs
    function.argtypes = (ctypes.c_int, ctypes.c_char_p)
    function.restype = ctypes.c_int
    return function


def file_system_of(fd: int) -> FileSystem:
    """The file system an open file lies on (OSError)."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _fstatfs()(fd, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return FileSystem(int.from_bytes(buffer.raw[:4], "little"))
