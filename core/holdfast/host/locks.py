"""The three kinds of Linux file locks Holdfast uses, none of which waits unless asked to.

flock          belongs to an open file; on a directory or a lock file; shared or exclusive.
record lock    `fcntl(F_SETLK)`, belongs to (process, inode): closing any descriptor of the file in
               this process drops it, forks do not inherit it. Proxmox's datastore lock is one.
OFD lock       `fcntl(F_OFD_SETLK)`, a record lock that belongs to an open file; byte ranges.
"""

import errno
import fcntl
import os
import struct
from enum import Enum
from typing import Final, NamedTuple

F_OFD_GETLK: Final = 36
F_OFD_SETLK: Final = 37
F_OFD_SETLKW: Final = 38
_FLOCK: Final = struct.Struct("hhqqi4x")  # type, whence, start, length, pid (Linux, 64 bit)
_HELD: Final = (errno.EAGAIN, errno.EACCES)


class LockMode(Enum):
    """How a lock is wanted."""

    SHARED = fcntl.LOCK_SH
    EXCLUSIVE = fcntl.LOCK_EX


def try_flock(fd: int, mode: LockMode) -> bool:
    """Take or change a flock; False when another open file holds it (OSError otherwise)."""
    try:
        fcntl.flock(fd, mode.value | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def try_record_lock(fd: int, mode: LockMode) -> bool:
    """Take or change the record lock on the whole file; False when another process holds it."""
    try:
        fcntl.lockf(fd, mode.value | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def drop_record_lock(fd: int) -> None:
    fcntl.lockf(fd, fcntl.LOCK_UN)


def _range(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)


def try_range_lock(fd: int, mode: LockMode, *, start: int, length: int = 1) -> bool:
    """Take an OFD lock on `length` bytes from `start`; False when another open file holds it."""
    kind = fcntl.F_RDLCK if mode is LockMode.SHARED else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, F_OFD_SETLK, _range(kind, start, length))
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def wait_range_lock(fd: int, mode: LockMode, *, start: int, length: int = 1) -> None:
    """Like try_range_lock, but sleeps in the kernel until the lock is free."""
    kind = fcntl.F_RDLCK if mode is LockMode.SHARED else fcntl.F_WRLCK
    fcntl.fcntl(fd, F_OFD_SETLKW, _range(kind, start, length))


def drop_range_lock(fd: int, *, start: int, length: int = 1) -> None:
    fcntl.fcntl(fd, F_OFD_SETLK, _range(fcntl.F_UNLCK, start, length))


class ForeignLock(NamedTuple):
    """A lock that somebody else holds.

    Attributes:
        start: its first byte.
        length: bytes, 0 for "to the end of any file".
        pid: the process of a record lock; -1 for an OFD lock.
    """

    start: int
    length: int
    pid: int


def foreign_lock(fd: int, mode: LockMode, *, start: int, length: int = 1) -> ForeignLock | None:
    """One lock of others that stands in the way of taking `mode` on the range; takes none."""
    kind = fcntl.F_RDLCK if mode is LockMode.SHARED else fcntl.F_WRLCK
    answer = fcntl.fcntl(fd, F_OFD_GETLK, _range(kind, start, length))
    found, _whence, found_start, found_length, pid = _FLOCK.unpack(answer)
    return None if found == fcntl.F_UNLCK else ForeignLock(found_start, found_length, pid)


def is_range_locked(fd: int, *, start: int, length: int = 1) -> bool:
    """Whether another open file holds any lock on the range; takes none itself."""
    return foreign_lock(fd, LockMode.EXCLUSIVE, start=start, length=length) is not None
