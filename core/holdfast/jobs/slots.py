"""At most N workers at once; the rest queue.

One file per thing that is limited (`host`, `store-NAME`), empty for ever, with lock ranges:
    byte 0 .. N-1   one slot each, held by a worker for its whole life
    byte 2^20       the turnstile: whoever waits for a slot stands in it, the others behind

The kernel frees the slots of a killed worker. Only the one in the turnstile looks for free slots,
so those who came later do not overtake it. A smaller N in another process's configuration makes
that process look at fewer slots; nothing has to be changed in step.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode, drop_range_lock, is_range_locked, try_range_lock
from holdfast.jobs.journal import make_directories

_TURNSTILE: Final = 1 << 20
_LOOK_S: Final = 0.1
SLOTS_MAX: Final = 1 << 10


class Slot(AbstractContextManager["Slot"]):
    """A place among the workers of one thing; leaving the block gives it back."""

    def __init__(self, directory: str, name: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """Open the slots called `name` (OSError)."""
        make_directories(directory)
        self.name = name
        self._clock = clock
        self._fd = files.open_update(os.path.join(directory, name), mode=0o644)

    def try_take(self, count: int) -> bool:
        """Take one of `count` slots if one is free and nobody waits already."""
        if is_range_locked(self._fd, start=_TURNSTILE):
            return False
        return self._take_free(count)

    def take(self, count: int, on_wait: Callable[[], None]) -> None:
        """Take one of `count` slots, waiting for it; `on_wait` is called once if that takes time."""
        if self.try_take(count):
            return
        on_wait()
        while not try_range_lock(self._fd, LockMode.EXCLUSIVE, start=_TURNSTILE):
            self._clock.wait(_LOOK_S)
        while not self._take_free(count):
            self._clock.wait(_LOOK_S)
        drop_range_lock(self._fd, start=_TURNSTILE)

    def taken(self, count: int) -> int:
        """How many slots others hold at this moment."""
        return sum(is_range_locked(self._fd, start=number) for number in range(count))

    def _take_free(self, count: int) -> bool:
        return any(
            try_range_lock(self._fd, LockMode.EXCLUSIVE, start=number)
            for number in range(min(count, SLOTS_MAX))
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
