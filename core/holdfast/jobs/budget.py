"""A limit in bytes per second that all workers of a host share.

The file holds one number: the moment (nanoseconds of the monotonic clock, which all processes of a
host have in common) until which the allowance is spent, 8 bytes little-endian. Whoever wants n
bytes moves it by n / rate under a lock and waits until the old moment has come. So the sum of all
workers keeps to the rate, and a worker alone has all of it. A value from before a reboot or from a
clock far ahead is thrown away.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from holdfast.errors import BadRequest
from holdfast.host import files
from holdfast.units import KIB

_NS: Final = 1_000_000_000
_AHEAD_S_MAX: Final = 60
_BURST_S: Final = 0.1
_SHARE_S: Final = 0.05  # a caller goes to the file once per so many seconds' worth of bytes


class SharedBudget:
    """One open budget; threads of a process may share it."""

    def __init__(
        self,
        path: str,
        bytes_per_second: int,
        *,
        wait: Callable[[float], None] | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Open the budget in `path` (OSError)."""
        if bytes_per_second < KIB:
            raise BadRequest("a limit below 1 KiB per second would never let anything end")
        self._rate = bytes_per_second
        self._share = max(1, int(bytes_per_second * _SHARE_S))
        self._wait = wait or threading.Event().wait
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._unsettled = 0
        self._fd = files.open_update(path, mode=0o644)

    def take(self, amount: int) -> None:
        """Return when `amount` more bytes are allowed."""
        with self._lock:
            self._unsettled += amount
            if self._unsettled < self._share:
                return
            wanted, self._unsettled = self._unsettled, 0
            pause_s = self._reserve(wanted)
        if pause_s > 0:
            self._wait(pause_s)

    def _reserve(self, amount: int) -> float:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            now = self._now_ns()
            spent_until = int.from_bytes(os.pread(self._fd, 8, 0), "little")
            if spent_until > now + _AHEAD_S_MAX * _NS:
                spent_until = now
            start = max(spent_until, now - int(_BURST_S * _NS))
            end = start + amount * _NS // self._rate
            files.pwrite_all(self._fd, end.to_bytes(8, "little"), 0, path="budget")
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return (end - now) / _NS

    def close(self) -> None:
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
