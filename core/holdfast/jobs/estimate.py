"""When a task will be done: two streams, bytes the store knows already and bytes that are new.

A known byte costs one reading and hashing; a new one costs compressing and writing as well. So one
mean speed is wrong whenever the share of new bytes changes on the way. The model is

    seconds = cost_known * known bytes + cost_new * new bytes

fitted to recent samples by least squares whose memory fades (half-life `fade_s`), with the costs
kept from below zero. For what is left the recent share of new bytes is assumed. There is no answer
until enough was measured, nor while successive answers contradict each other: unknown is better
than wrong. A gap between samples (a paused task, a suspended machine) does not count.
"""

from typing import Final

_GAP_S_MAX: Final = 10.0
_TRUST_S: Final = 3.0
_TRUST_SAMPLES: Final = 6
_CONTRADICTION: Final = 0.5  # of the answer: how far the moment of the end may be off
_FINISH_S: Final = 0.5


class TwoStreamEstimate:
    """Feed with cumulative amounts; ask for the rate and the seconds that are left."""

    def __init__(self, *, fade_s: float = 20.0) -> None:
        self._fade_s = fade_s
        self.restart()

    def restart(self) -> None:
        """Forget everything: another phase begins."""
        self._last: tuple[float, int, int] | None = None
        self._kk = self._kn = self._nn = self._kt = self._nt = 0.0
        self._known = self._new = self._span = 0.0
        self._measured_s = 0.0
        self._samples = 0
        self._end_s: float | None = None
        self._doubt = 1.0

    def sample(self, now_s: float, done: int, new: int = 0) -> None:
        """At `now_s` (a steady clock) `done` units were complete in all, `new` of them new."""
        if self._last is None or done < self._last[1]:
            self.restart()
            self._last = (now_s, done, new)
            return
        before_s, done_before, new_before = self._last
        span = now_s - before_s
        if span <= 0:
            return
        self._last = (now_s, done, new)
        if span > _GAP_S_MAX and done == done_before:
            return
        added_new = float(min(max(new - new_before, 0), done - done_before))
        added_known = done - done_before - added_new
        keep = 0.5 ** (span / self._fade_s)
        self._kk = self._kk * keep + added_known * added_known
        self._kn = self._kn * keep + added_known * added_new
        self._nn = self._nn * keep + added_new * added_new
        self._kt = self._kt * keep + added_known * span
        self._nt = self._nt * keep + added_new * span
        self._known = self._known * keep + added_known
        self._new = self._new * keep + added_new
        self._span = self._span * keep + span
        self._measured_s += span
        self._samples += 1

    @property
    def per_second(self) -> float | None:
        """Units per second of late; None before two samples."""
        return (self._known + self._new) / self._span if self._span > 0 else None

    def costs(self) -> tuple[float, float]:
        """Seconds per known and per new unit, both at least zero."""
        mean = self._span / max(self._known + self._new, 1e-9)
        determinant = self._kk * self._nn - self._kn * self._kn
        if determinant <= 1e-3 * self._kk * self._nn or determinant <= 0:
            return mean, mean  # one stream only, or both always in the same proportion
        known = (self._kt * self._nn - self._nt * self._kn) / determinant
        new = (self._nt * self._kk - self._kt * self._kn) / determinant
        if known < 0:
            return 0.0, self._nt / self._nn
        if new < 0:
            return self._kt / self._kk, 0.0
        return known, new

    def left_s(self, total: int | None, *, new_left: int | None = None) -> float | None:
        """Seconds until `total`; None when nothing honest can be said.

        Args:
            total: units in all.
            new_left: of what is left, how much is new, when the caller knows; otherwise the share
                of late goes on.
        """
        if total is None or self._last is None:
            return None
        now_s, done, _new = self._last
        moved = self._known + self._new
        if moved <= 0 or self._measured_s < _TRUST_S or self._samples < _TRUST_SAMPLES:
            return None
        left = max(0, total - done)
        cost_known, cost_new = self.costs()
        new = left * self._new / moved if new_left is None else float(min(new_left, left))
        answer = (left - new) * cost_known + new * cost_new
        return self._agreed(now_s, answer)

    def _agreed(self, now_s: float, answer: float) -> float | None:
        """Smooth the moment of the end; None while the moments jump about."""
        end_s = now_s + answer
        if self._end_s is None:
            self._end_s = end_s
            return None
        off = abs(end_s - self._end_s) / max(answer, _TRUST_S)
        self._doubt = 0.8 * self._doubt + 0.2 * min(off, 2.0)
        self._end_s += 0.3 * (end_s - self._end_s)
        if self._doubt > _CONTRADICTION:
            return None
        return max(0.0, self._end_s - now_s) if answer > _FINISH_S else answer
