"""Who works, and what is still owed: two sets of flags in one byte beside three lock ranges.

The file is one byte (an empty file reads as 0) that is never removed:
    bits 0-3  pending: asked for while the worker was busy with something else
    bits 4-7  running: what the worker took upon itself
Open-file-description locks, each one byte long:
    0  STATE   held for every look at and change of the flags; never while work is done
    1  BACKUP  held by the one worker for its whole life; only ever tried, with STATE held
    2  WAIT    held by the worker as long as BACKUP; whoever waits takes it shared and drops it

What follows from it:
- A worker that dies frees BACKUP and leaves its running flags. The next `begin` sees a free BACKUP
  and takes running and pending together as its own work: nothing that was asked for is lost.
- Asking while a worker runs only adds pending flags; the worker merges them before it may end.
- The last look at the flags and the release of BACKUP happen under one STATE lock, so there is no
  moment in which a request meets a worker that will not look again.
- The flags are written before `begin` returns, so a crash right after it forgets nothing.

The locks belong to the open file: a forked child shares them, and they end with the last
duplicate. The descriptor is close-on-exec, so scripts a worker starts never hold them.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, NamedTuple, Self

from holdfast.errors import BadRequest
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import (
    LockMode,
    drop_range_lock,
    is_range_locked,
    try_range_lock,
    wait_range_lock,
)

STATE: Final = 0
BACKUP: Final = 1
WAIT: Final = 2
FLAGS_MASK: Final = 0x0F
_RUNNING_SHIFT: Final = 4
_POLL_S_MIN: Final = 0.01
_POLL_S_MAX: Final = 0.25


class Flags(NamedTuple):
    """The byte, taken apart."""

    pending: int
    running: int

    @classmethod
    def of_byte(cls, byte: int) -> Self:
        return cls(pending=byte & FLAGS_MASK, running=byte >> _RUNNING_SHIFT)

    @property
    def owed(self) -> int:
        """Everything that was asked for and has not been done."""
        return self.pending | self.running


class Beginning(NamedTuple):
    """What `begin` makes of the byte: flags to work on (None: a worker has them) and the byte."""

    work: int | None
    byte: int


class Round(NamedTuple):
    """One pass of a worker: what it owes, and what of that was asked for since the last pass."""

    owed: int
    arrived: int


def plan_begin(byte: int, flags: int, *, worker_exists: bool) -> Beginning:
    """The decision of `begin`, without any lock: pure, checked against recorded cases."""
    if not worker_exists:
        return Beginning(work=flags | Flags.of_byte(byte).owed, byte=byte)
    return Beginning(work=None, byte=byte | flags)


class RequestFlags:
    """One open request file. Not for use by several threads at once: each opens its own."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`, open on the file (perhaps inherited together with its locks)."""
        self._fd = fd

    @classmethod
    def open(cls, path: str, *, mode: int = 0o644) -> Self:
        """Open for asking and working, making the file when it is missing (OSError)."""
        return cls(files.open_update(path, mode=mode))

    @classmethod
    def open_to_watch(cls, path: str) -> Self:
        """Open for looking and waiting only: read access is enough (FileNotFoundError, OSError)."""
        return cls(files.open_read(path))

    def close(self) -> None:
        """Free all locks, unless a forked child still has the file open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """For handing the file and its locks to a child process."""
        return self._fd

    # Watching -------------------------------------------------------------------------------------

    def flags(self) -> Flags:
        """The flags at this moment; takes no lock, so only good for showing."""
        return Flags.of_byte(self._read())

    def is_worker_alive(self) -> bool:
        """Whether another open file holds BACKUP; takes no lock."""
        return is_range_locked(self._fd, start=BACKUP)

    def wait(self, timeout_s: float | None = None, *, clock: Clock = SYSTEM_CLOCK) -> bool:
        """Return True once no worker runs, False after `timeout_s` (0 just looks; None: forever).

        Only the end of the worker is waited for: what a killed worker left is still owed.
        """
        if timeout_s is None:
            wait_range_lock(self._fd, LockMode.SHARED, start=WAIT)
            drop_range_lock(self._fd, start=WAIT)
            return True
        deadline = clock.monotonic_s() + timeout_s
        pause = _POLL_S_MIN
        while is_range_locked(self._fd, start=BACKUP):
            left = deadline - clock.monotonic_s()
            if left <= 0:
                return False
            clock.wait(min(pause, left))
            pause = min(2 * pause, _POLL_S_MAX)
        return True

    # Asking and working ---------------------------------------------------------------------------

    def begin(self, flags: int) -> int | None:
        """Ask for `flags` (0: only for what an earlier worker left).

        Returns:
            None: a worker runs and has been told.
            0: nothing is owed.
            Anything else: the caller now is the worker for these flags. STATE, BACKUP and WAIT are
            held and the running flags are written; go on with `publish`.
        """
        if flags & ~FLAGS_MASK:
            raise BadRequest(f"{flags:#x} are more flags than the four there are")
        wait_range_lock(self._fd, LockMode.EXCLUSIVE, start=STATE)
        try:
            worker_exists = not try_range_lock(self._fd, LockMode.EXCLUSIVE, start=BACKUP)
            byte = self._read()
            plan = plan_begin(byte, flags, worker_exists=worker_exists)
            if plan.work:
                wait_range_lock(self._fd, LockMode.EXCLUSIVE, start=WAIT)
                self._write(plan.work << _RUNNING_SHIFT)
                return plan.work
            if plan.byte != byte:
                self._write(plan.byte)
            if not worker_exists:
                drop_range_lock(self._fd, start=BACKUP)
        except BaseException:
            self._release()
            raise
        drop_range_lock(self._fd, start=STATE)
        return plan.work

    @contextmanager
    def state_held(self) -> Iterator[None]:
        """Hold STATE for a short change of something that belongs to the flags (OSError)."""
        wait_range_lock(self._fd, LockMode.EXCLUSIVE, start=STATE)
        try:
            yield
        finally:
            drop_range_lock(self._fd, start=STATE)

    def publish(self, owed: int) -> None:
        """Worker, STATE held: write what is being worked on, clear pending, and free STATE."""
        self._write((owed & FLAGS_MASK) << _RUNNING_SHIFT)
        drop_range_lock(self._fd, start=STATE)

    def collect(self) -> int:
        """Worker: take STATE again; the flags that were asked for since `publish`."""
        wait_range_lock(self._fd, LockMode.EXCLUSIVE, start=STATE)
        return Flags.of_byte(self._read()).pending

    def finish(self) -> None:
        """Worker, STATE held: nothing is owed any more; free everything, STATE last."""
        self._write(0)
        self._release()

    def abandon(self, owed: int) -> None:
        """Worker, STATE held: give up for now; `owed` and pending stay for the next `begin`."""
        self._write((owed & FLAGS_MASK) << _RUNNING_SHIFT | Flags.of_byte(self._read()).pending)
        self._release()

    def serve(self, flags: int, work: Callable[[Round], int]) -> bool:
        """Ask for `flags` and, if nobody works yet, be the worker until nothing is owed.

        Args:
            flags: what is asked for; 0 only takes up what was left.
            work: does one round and returns the flags that are still owed; it is called again with
                them and all that arrived meanwhile, so it is the one to pause between attempts.
                When it raises, what it owed stays for the next worker and the error goes on.

        Returns:
            False when another worker was told to do it instead.
        """
        owed = self.begin(flags)
        if owed is None:
            return False
        arrived = owed
        while owed:
            self.publish(owed)
            try:
                left = work(Round(owed=owed, arrived=arrived))
            except BaseException:
                self.collect()
                self.abandon(owed)
                raise
            arrived = self.collect()
            owed = left | arrived
            if not owed:
                self.finish()
        return True

    def _release(self) -> None:
        for start in (WAIT, BACKUP, STATE):
            drop_range_lock(self._fd, start=start)

    def _read(self) -> int:
        data = os.pread(self._fd, 1, 0)
        return data[0] if data else 0

    def _write(self, byte: int) -> None:
        files.pwrite_all(self._fd, bytes((byte,)), 0, path="request flags")
