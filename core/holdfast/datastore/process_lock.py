"""The store lock: who may collect garbage while who writes, all on the file `<base>/.lock`.

Proxmox locks the whole file with POSIX record locks, shared while it writes and exclusive while it
collects. We lock single bytes with OFD locks, which conflict with record locks and need no byte to
exist. All of them end with the process, so that a killed one leaves nothing to clean up.

    byte             shared                             exclusive
    0                                                   our garbage collection, its whole run
    1 + prefix       a writer: "is the chunk there?     collection and verification: "is it still
                     touch it, else write it"           unused? remove it"
    2^40 + start     a writer, its whole life; `start`
                     is when it began (seconds)

prefix = first 16 bits of a digest, the number of a chunk directory. What excludes what:

                     Proxmox writing   Proxmox collecting   our writer       our collection
    our writer       both run          excluded             both run         both run, per prefix
    our collection   excluded          excluded             both run         excluded

Source: Proxmox Backup, process locker. Why: docs/decisions/gc-beside-writers.md
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from holdfast.errors import Busy
from holdfast.host import files, locks
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode

LOCK_NAME: Final = ".lock"
LOCK_FILE_MODE: Final = 0o644
PREFIX_COUNT: Final = 1 << 16
GUARD_WAIT_S_MAX: Final = 60.0

_GC_BYTE: Final = 0
_PREFIX_BYTE: Final = 1
_WRITER_BYTE: Final = 1 << 40
_WRITER_BYTES: Final = 1 << 40
_PAUSE_S_MIN: Final = 0.0005
_PAUSE_S_MAX: Final = 0.02


class StoreLock:
    """All three uses of one store's lock file; safe to share between threads."""

    def __init__(
        self, base: str, *, owner_ids: tuple[int, int] | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """Nothing is opened or taken yet; a missing lock file is made when it is first needed."""
        self._path = os.path.join(base, LOCK_NAME)
        self._owner_ids = owner_ids
        self._clock = clock

    @contextmanager
    def writer(self, start_s: int) -> Iterator[None]:
        """Be registered as a writer that began at `start_s`.

        Everything inserted or touched since then is safe from garbage collection until the end of
        the block.

        Raises:
            Busy: another program collects garbage here.
        """
        with self._opened() as fd:
            if not locks.try_range_lock(fd, LockMode.SHARED, start=_WRITER_BYTE + start_s):
                raise Busy(
                    f"the store is locked by another program{_by_whom(fd)}",
                    hint="a garbage collection of Proxmox keeps writers out: try again later",
                )
            yield

    @contextmanager
    def gc(self) -> Iterator[None]:
        """Be the one garbage collection; none of Proxmox's processes can write meanwhile.

        Raises:
            Busy: another collection runs, or Proxmox writes to the store.
        """
        with self._opened() as fd:
            if not locks.try_range_lock(fd, LockMode.EXCLUSIVE, start=_GC_BYTE):
                found = locks.foreign_lock(fd, LockMode.EXCLUSIVE, start=_GC_BYTE)
                is_ours = found is not None and found.pid < 0
                raise Busy(
                    "another garbage collection is running in this store"
                    if is_ours
                    else f"the store is in use by another program{_by_whom(fd)}",
                    hint="try again when it has finished",
                )
            yield

    def oldest_writer(self) -> int | None:
        """When the oldest of the running writers began (seconds), None when nobody writes.

        Makes no lock file and asks for none of the locks, so that a store that is only read may be
        asked, too. A program that does not tell when it began counts as having begun at 0. The kernel names
        one lock in the way at a time, so ask again for what lies before it until there is none.
        """
        oldest = None
        with files.explained("opening the store's lock file"):
            try:
                fd = files.open_read(self._path, extra_flags=os.O_NOFOLLOW)
            except FileNotFoundError:
                return None  # nobody has ever written
        try:
            length = _WRITER_BYTES
            while length and (
                found := locks.foreign_lock(
                    fd, LockMode.EXCLUSIVE, start=_WRITER_BYTE, length=length
                )
            ):
                oldest = length = max(found.start - _WRITER_BYTE, 0)
        finally:
            os.close(fd)
        return oldest

    def chunk_guard(self) -> "PrefixGuard":
        """A guard for the calling thread alone; close it when done."""
        return PrefixGuard(self._open(), clock=self._clock)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        fd = self._open()
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self) -> int:
        with files.explained("opening the store's lock file"):
            try:
                return files.open_update(self._path)
            except FileNotFoundError:
                return self._create()

    def _create(self) -> int:
        try:
            fd = files.create(self._path, mode=LOCK_FILE_MODE)
        except FileExistsError:
            return files.open_update(self._path)
        if self._owner_ids is not None:
            os.fchown(fd, *self._owner_ids)
        return fd


class PrefixGuard:
    """Keeps insertion and removal of the same chunk apart; one prefix at a time, one thread only."""

    def __init__(self, fd: int, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._fd = fd
        self._clock = clock
        self._is_held = False

    @contextmanager
    def shared(self, digest: bytes) -> Iterator[None]:
        """Nobody removes a chunk of this prefix inside the block (Busy after a minute's wait)."""
        start = _PREFIX_BYTE + int.from_bytes(digest[:2], "big")
        self._take(LockMode.SHARED, start)
        try:
            yield
        finally:
            self._drop(start)

    @contextmanager
    def exclusive(self, prefix: int) -> Iterator[None]:
        """Nobody inserts or counts on a chunk of this prefix inside the block.

        Raises:
            Busy: another program holds the whole store, or the prefix stayed taken for a minute.
        """
        if not 0 <= prefix < PREFIX_COUNT:
            raise ValueError(prefix)
        self._take(LockMode.EXCLUSIVE, _PREFIX_BYTE + prefix)
        try:
            yield
        finally:
            self._drop(_PREFIX_BYTE + prefix)

    def close(self) -> None:
        """Give up the lock file; the guard is of no use afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self, mode: LockMode, start: int) -> None:
        if self._is_held:
            raise RuntimeError("a guard holds one prefix at a time")
        if not locks.try_range_lock(self._fd, mode, start=start):
            self._wait(mode, start)
        self._is_held = True

    def _wait(self, mode: LockMode, start: int) -> None:
        """Ask again and again: the kernel's own wait knows no end, should a program never let go."""
        deadline = self._clock.monotonic_s() + GUARD_WAIT_S_MAX
        pause_s = _PAUSE_S_MIN
        while not locks.try_range_lock(self._fd, mode, start=start):
            found = locks.foreign_lock(self._fd, mode, start=start)
            if found is not None and found.start == 0 and found.length == 0:
                raise Busy(
                    f"the store is in use by another program{_by_whom(self._fd)}",
                    hint="try again when it has finished",
                )
            if self._clock.monotonic_s() > deadline:
                raise Busy("a part of the store stayed locked for a minute")
            self._clock.wait(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _drop(self, start: int) -> None:
        self._is_held = False
        locks.drop_range_lock(self._fd, start=start)


def _by_whom(fd: int) -> str:
    """` (process 123, NAME)` for a lock whose owner the kernel names, else nothing."""
    try:
        found = locks.foreign_lock(fd, LockMode.EXCLUSIVE, start=0, length=0)
    except OSError:
        return ""
    if found is None or found.pid <= 0:
        return ""
    try:
        with open(f"/proc/{found.pid}/comm", encoding="utf-8", errors="replace") as file:
            return f" (process {found.pid}, {file.read(64).strip()})"
    except OSError:
        return f" (process {found.pid})"
