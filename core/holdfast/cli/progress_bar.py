"""Progress on stderr: one line that replaces itself on a terminal, sparse lines elsewhere.

backup   [#######.............]  37 %  2.1 GiB of 5.6 GiB  412 MiB/s  0:09 min left  etc/ssl/certs
"""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from holdfast.cli import plain_text
from holdfast.operations.progress import RateEstimate

if TYPE_CHECKING:
    from holdfast.cli.console import Console
    from holdfast.jobs.task_progress import TaskProgress

_REDRAW_S: Final = 0.2
_LINE_FIRST_S: Final = 10.0  # without a terminal: the first line after this long, then seldom
_LINE_EVERY_S: Final = 60.0
_BAR_CELLS: Final = 20
_WIDTH_MIN: Final = 40


class ConsoleProgress:
    """Shows one operation; safe to call from threads.

    Attributes:
        warnings: what warn() was told, in order.
    """

    def __init__(
        self,
        console: "Console",
        *,
        clock: Callable[[], float] = time.monotonic,
        journal: "TaskProgress | None" = None,
    ) -> None:
        self.warnings: list[str] = []
        self._journal = journal
        self._console = console
        self._clock = clock
        self._lock = threading.Lock()
        self._is_shown = not console.is_quiet
        self._on_terminal = console.has_status_line
        self._interval_s = _REDRAW_S if self._on_terminal else _LINE_FIRST_S
        self._due_s = clock() + self._interval_s
        self._phase = ""
        self._item = ""
        self._begin("")

    def _begin(self, name: str) -> None:
        self._phase = name
        self._items = self._bytes = 0
        self._items_total: int | None = None
        self._bytes_total: int | None = None
        self._rate = RateEstimate()
        self._rate.sample(self._clock(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            if self._is_shown and self._on_terminal:
                self._console.status_line("")
            self._is_shown = False
            self._due_s = float("inf")

    def phase(self, name: str) -> None:
        if self._journal is not None:
            self._journal.phase(name)
        with self._lock:
            self._begin(name)
            if self._is_shown and not self._on_terminal and self._console.verbosity:
                self._console.detail(f"{name} ...")
        self._refresh()

    def total(self, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        if self._journal is not None:
            self._journal.total(items, bytes)
        with self._lock:
            self._items_total = items if items is not None else self._items_total
            self._bytes_total = bytes if bytes is not None else self._bytes_total

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        with self._lock:
            self._items += items
            self._bytes += bytes
        self._refresh()
        if self._journal is not None:
            self._journal.advance(items, bytes)

    def item(self, name: str) -> None:
        self._item = name
        self._refresh()
        if self._journal is not None:
            self._journal.item(name)

    def watch_new_bytes(self, count: Callable[[], int]) -> None:
        if self._journal is not None:
            self._journal.watch_new_bytes(count)

    def warn(self, message: str) -> None:
        with self._lock:
            self.warnings.append(message)
            self._console.warning(message)

    def _refresh(self) -> None:
        if not self._is_shown or self._clock() < self._due_s:
            return
        with self._lock:
            now_s = self._clock()
            if now_s < self._due_s:  # another thread was faster
                return
            self._rate.sample(now_s, self._bytes or self._items)
            if self._on_terminal:
                self._console.status_line(self._line())
            else:
                self._console.remark(self._line())
                self._interval_s = _LINE_EVERY_S
            self._due_s = now_s + self._interval_s

    def _line(self) -> str:
        width = _terminal_width() if self._on_terminal else None
        line = status_text(
            phase=self._phase,
            items=(self._items, self._items_total),
            octets=(self._bytes, self._bytes_total),
            rate=self._rate,
        )
        item = plain_text.harmless(self._item)
        if width is None:
            return f"{line}  {item}".rstrip()
        line = line[:width]
        room = width - len(line) - 2
        if room < len(item):
            item = f"...{item[len(item) - room + 3 :]}" if room > _BAR_CELLS else ""
        return f"{line}  {item}".rstrip()


def status_text(
    *,
    phase: str,
    items: tuple[int, int | None],
    octets: tuple[int, int | None],
    rate: RateEstimate,
) -> str:
    """One line: phase, bar and share if the total is known, amounts, speed, time left.

    Args:
        phase: what is being done.
        items: done and in all.
        octets: bytes done and in all.
        rate: fed with bytes, or with items while no bytes are counted.
    """
    counts_bytes = bool(octets[0] or octets[1])
    done, total = octets if counts_bytes else items
    parts = [phase.ljust(8)] if phase else []
    if total:
        share = min(1.0, done / total)
        full = int(share * _BAR_CELLS)
        parts.append(f"[{'#' * full}{'.' * (_BAR_CELLS - full)}] {int(share * 100):3d} %")
    if counts_bytes:
        amount = plain_text.size_text(done)
        parts.append(f"{amount} of {plain_text.size_text(total)}" if total else amount)
    if items[0]:
        parts.append(f"{items[0]:,} of {items[1]:,}" if items[1] else f"{items[0]:,}")
    if per_second := rate.per_second:
        speed = plain_text.size_text(per_second) if counts_bytes else f"{per_second:,.0f}"
        parts.append(f"{speed}/s")
    if total:
        left_s = rate.left_s(total)
        parts.append("time left unknown" if left_s is None else f"{_left_text(left_s)} left")
    return "  ".join(parts)


def _left_text(left_s: float) -> str:
    return plain_text.span_text(max(1, round(left_s)) if left_s < 10 else left_s).replace(".0", "")  # noqa: PLR2004


def _terminal_width() -> int:
    try:
        return max(_WIDTH_MIN, os.get_terminal_size(2).columns - 1)
    except OSError:
        return 79
