"""Takes a damaged chunk out of the way: `DIGEST` becomes `DIGEST.N.bad`, N from 0 to 9.

The next backup that holds the same data then stores it anew, which heals every snapshot that uses
the chunk. The file is read again under the directory's lock first, since a backup may have healed
it meanwhile. Source: Proxmox Backup Server, verification.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Final

from holdfast.datastore.process_lock import PrefixGuard
from holdfast.errors import Busy, DamagedData
from holdfast.host import files

_LAST: Final = 9


class SetAside(Enum):
    """What came of it."""

    RENAMED = "renamed"
    HEALED = "healed"  # the second look found nothing wrong
    GONE = "gone"


def set_aside(
    path: str, digest: bytes, guard: PrefixGuard, look: Callable[[int], None]
) -> SetAside:
    """Rename the chunk file at `path` if it is still damaged.

    Args:
        path: of the chunk.
        digest: its name.
        guard: the calling thread's own.
        look: checks an open file; raises DamagedData or OSError if it is damaged.

    Raises:
        HoldfastError: the file cannot be renamed.
    """
    with files.explained(f"setting chunk {digest.hex()} aside"), _alone(guard, digest):
        try:
            fd = files.open_read(path, extra_flags=os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return SetAside.GONE
        try:
            if _is_sound(fd, look):
                return SetAside.HEALED
            return _rename(path, os.fstat(fd).st_ino)
        finally:
            os.close(fd)


def _alone(guard: PrefixGuard, digest: bytes) -> AbstractContextManager[None]:
    """The directory's lock; nothing when another program holds the whole store for long."""
    lock = guard.exclusive(int.from_bytes(digest[:2], "big"))
    try:
        lock.__enter__()
    except Busy:
        return nullcontext()
    return _Entered(lock)


class _Entered:
    """A context that has been entered already."""

    def __init__(self, lock: AbstractContextManager[None]) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        self._lock.__exit__(None, None, None)


def _is_sound(fd: int, look: Callable[[int], None]) -> bool:
    try:
        look(fd)
    except (DamagedData, OSError):
        return False
    return True


def _rename(path: str, inode: int) -> SetAside:
    target = next(
        (bad for number in range(_LAST) if not os.path.lexists(bad := f"{path}.{number}.bad")),
        f"{path}.{_LAST}.bad",
    )
    try:
        files.rename(path, target)
    except FileNotFoundError:
        return SetAside.GONE
    if os.lstat(target).st_ino == inode:
        return SetAside.RENAMED
    if not os.path.lexists(path):  # a writer that takes no directory locks healed it just now
        files.rename(target, path)
    return SetAside.HEALED
