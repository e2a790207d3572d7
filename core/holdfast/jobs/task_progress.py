"""From an operation's many small reports to a file that changes at most five times a second."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from holdfast.jobs import phase_history, progress_record
from holdfast.jobs.estimate import TwoStreamEstimate
from holdfast.jobs.journal import RunningTask
from holdfast.jobs.progress_record import ProgressRecord
from holdfast.units import GIB, KIB, MIB

PUBLISH_S_MIN: Final = 0.2


class Throttle(Protocol):
    """Something that slows a caller down; see holdfast.jobs.budget."""

    def take(self, amount: int) -> None:
        """Return when `amount` more bytes are allowed."""
        ...


class TaskProgress:
    """Progress of one task (fulfils operations.progress.Progress); safe to call from threads."""

    def __init__(
        self,
        task: RunningTask,
        *,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task = task
        self._reading: Throttle | None = None
        self._writing: Throttle | None = None
        self._steady = steady_clock
        self._lock = threading.Lock()
        self._estimate = TwoStreamEstimate()
        self._item_estimate = TwoStreamEstimate()
        self._history_path = phase_history.path_of(task.journal.state_directory, task.upid)
        self._expected = phase_history.read(self._history_path)
        self._counted: dict[str, int] = {}
        self._record = ProgressRecord()
        self._items = self._bytes = self._new = 0
        self._new_before = 0
        self._new_so_far: Callable[[], int] | None = None
        self._item = ""
        self._phase_began_s = steady_clock()
        self._due_s = 0.0
        self._is_behind = False  # something was reported since the file was written
        self._unsettled_new = 0
        self._over = threading.Event()
        self._publish()
        if steady_clock is time.monotonic:
            threading.Thread(target=self._keep_up, name="progress", daemon=True).start()

    def throttle(self, *, reading: Throttle | None, writing: Throttle | None) -> None:
        """From now on `advance` waits for `reading`, and for `writing` for what was new."""
        self._reading, self._writing = reading, writing

    def phase(self, name: str) -> None:
        with self._lock:
            self._look_at_new()
            self._say_phase()
            self._new_before += self._new
            self._record = ProgressRecord(phase=name)
            self._items = self._bytes = self._new = 0
            self._item = ""
            self._estimate.restart()
            self._item_estimate.restart()
            self._phase_began_s = self._steady()
            self._publish()
        if name:
            self._task.say(name)

    def total(self, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        with self._lock:
            self._record = replace(
                self._record,
                total_items=items if items is not None else self._record.total_items,
                total_bytes=bytes if bytes is not None else self._record.total_bytes,
            )

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        with self._lock:
            self._items += items
            self._bytes += bytes
            self._is_behind = True
            if self._steady() >= self._due_s:
                self._publish()
            added_new, self._unsettled_new = self._unsettled_new, 0
        if bytes and self._reading is not None:
            self._reading.take(bytes)
        if added_new and self._writing is not None:
            self._writing.take(added_new)

    def watch_new_bytes(self, count: Callable[[], int]) -> None:
        """Of what is advanced over, `count` bytes in all were not in the store yet."""
        with self._lock:
            self._new_so_far, self._new_before = count, 0

    def _look_at_new(self) -> int:
        """Ask how much is new by now; the bytes since the last time."""
        if self._new_so_far is None:
            return 0
        before = self._new
        self._new = max(before, self._new_so_far() - self._new_before)
        return self._new - before

    def item(self, name: str) -> None:
        self._item = name
        if self._steady() >= self._due_s:
            with self._lock:
                self._publish()

    def warn(self, message: str) -> None:
        self._task.warn(message)

    def waiting(self, reason: str) -> None:
        """The work has not begun because of `reason`; empty when it goes on."""
        with self._lock:
            self._record = replace(self._record, waiting_for=reason)
            self._publish()

    def close(self) -> None:
        """The work is over; say what the last phase came to."""
        self._over.set()
        with self._lock:
            self._look_at_new()
            self._new_so_far = None
            self._say_phase()
            self._items = self._bytes = self._new = 0
            self._due_s = float("inf")

    def _keep_up(self) -> None:
        """Publish what was reported shortly before a long silence, such as a wait for a limit."""
        while not self._over.wait(2 * PUBLISH_S_MIN):
            with self._lock:
                if self._is_behind and self._steady() >= self._due_s:
                    self._publish()

    def _publish(self) -> None:
        now_s = self._steady()
        self._is_behind = False
        self._unsettled_new += self._look_at_new()
        counts_bytes = bool(self._bytes or self._record.total_bytes)
        done = self._bytes if counts_bytes else self._items
        self._estimate.sample(now_s, done, self._new if counts_bytes else 0)
        total = self._record.total_bytes if counts_bytes else self._record.total_items
        expected = None if total else self._expected.get(self._record.phase)
        if expected is not None and self._items > expected:
            expected = None  # more than last time: nobody knows
        self._item_estimate.sample(now_s, self._items)
        self._record = replace(
            self._record,
            done_bytes=self._bytes,
            done_items=self._items,
            new_bytes=self._new,
            item=self._item,
            rate=self._estimate.per_second,
            expected_items=expected,
            eta_s=self._estimate.left_s(total) if total else self._item_estimate.left_s(expected),
            warnings=self._task.warnings,
            updated=self._task.journal.clock.now_s(),
        )
        self._due_s = now_s + PUBLISH_S_MIN
        with suppress(OSError):  # progress nobody can see must not stop the work
            progress_record.write(self._task.progress_path, self._record)

    def remember(self) -> None:
        """The run was good: the next one may expect as much."""
        if self._counted:
            with suppress(OSError):
                phase_history.write(self._history_path, self._counted)

    def _say_phase(self) -> None:
        if self._items:
            self._counted[self._record.phase] = self._items
        if not (self._items or self._bytes):
            return
        parts = [f"{self._items} items"] if self._items else []
        parts += [_size(self._bytes)] if self._bytes else []
        parts += [f"{_size(self._new)} new"] if self._new else []
        span_s = self._steady() - self._phase_began_s
        name = f"{self._record.phase}: " if self._record.phase else ""
        self._task.say(f"{name}{', '.join(parts)} in {span_s:.1f} s")


def _size(amount: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if amount >= unit:
            return f"{amount / unit:.1f} {name}"
    return f"{amount} B"
