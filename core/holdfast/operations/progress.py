"""How an operation says what it is doing, without knowing who listens.

An operation calls these from any thread, often: each call must stay cheap. What is shown, how often
and where is the listener's affair (a terminal, a task's journal, a test).
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from holdfast.datastore.observer import Nobody, Observer

Progress = Observer


@runtime_checkable
class NewBytesProgress(Protocol):
    """A Progress that also wants to know how much of what was read the store did not have."""

    def watch_new_bytes(self, count: Callable[[], int]) -> None:
        """`count` gives the new bytes so far, of this whole run; cheap, from any thread."""
        ...


NullProgress = Nobody


class RateEstimate:
    """Speed as an exponentially weighted mean, and the time that is left by it.

    Old samples fade with the time constant `fade_s`, so a burst from a cache does not promise an end
    that never comes. Until `trust_s` seconds are measured there is no estimate: unknown is better
    than wrong.
    """

    def __init__(self, *, fade_s: float = 15.0, trust_s: float = 2.0) -> None:
        self._fade_s = fade_s
        self._trust_s = trust_s
        self._weighted_done = 0.0
        self._weighted_s = 0.0
        self._measured_s = 0.0
        self._last: tuple[float, int] | None = None

    def sample(self, now_s: float, done: int) -> None:
        """At `now_s` (any steady clock) `done` units were complete in all."""
        if self._last is None or done < self._last[1]:
            self._last = (now_s, done)
            self._weighted_done = self._weighted_s = self._measured_s = 0.0
            return
        span_s = now_s - self._last[0]
        if span_s <= 0:
            return
        keep = 0.5 ** (span_s / self._fade_s)
        self._weighted_done = self._weighted_done * keep + (done - self._last[1])
        self._weighted_s = self._weighted_s * keep + span_s
        self._measured_s += span_s
        self._last = (now_s, done)

    @property
    def per_second(self) -> float | None:
        """Units per second; None before the first two samples."""
        return self._weighted_done / self._weighted_s if self._weighted_s > 0 else None

    def left_s(self, total: int | None) -> float | None:
        """Seconds until `total` is reached; None when nothing honest can be said."""
        rate = self.per_second
        if total is None or self._last is None or self._measured_s < self._trust_s or not rate:
            return None
        return max(0.0, (total - self._last[1]) / rate)
