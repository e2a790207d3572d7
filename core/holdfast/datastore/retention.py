"""Which snapshots of one group a retention policy keeps. Pure: no clock, no disk.

Passes run from the finest rule to the coarsest: last, hourly, daily, weekly, monthly, yearly. Each
keeps the newest snapshot of up to n periods that no earlier pass covered; a snapshot that loses to
a newer one of the same period inside a pass is gone for good, one that merely lay beyond the quota
may be kept by a coarser pass. Protected snapshots are kept, use up no quota and cover no period.
Unfinished ones take no part: the very newest of the group may still be running and stays.

Periods are those of the local time zone; weeks are ISO-8601 weeks of ISO years.
Source: Proxmox Backup Server, "Maintenance: Pruning". Story: docs/algorithms/prune.md
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Final

from holdfast.errors import BadRequest
from holdfast.ids import epoch_to_name


class Mark(StrEnum):
    """What happens to a snapshot, in the words Proxmox shows."""

    KEEP = "keep"
    KEEP_PARTIAL = "keep-partial"
    PROTECTED = "protected"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How many snapshots of each kind to keep; None or 0 means the rule is not used."""

    keep_last: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            count = getattr(self, field.name)
            if count is not None and count < 0:
                option = field.name.replace("_", "-")
                raise BadRequest(f"{option} wants a number that is not negative, not {count}")

    @property
    def keeps_everything(self) -> bool:
        """No rule is given: nothing is ever removed."""
        return not any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What the choice depends on.

    Attributes:
        time_s: when the snapshot was taken, seconds since 1970.
        is_finished: it has a manifest.
        is_protected: somebody marked it to stay.
    """

    time_s: int
    is_finished: bool = True
    is_protected: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice for one snapshot, and why."""

    candidate: Candidate
    mark: Mark
    reason: str

    @property
    def keeps(self) -> bool:
        return self.mark is not Mark.REMOVE


_Period = Callable[[datetime], str]


def _iso_week(moment: datetime) -> str:
    year, week, _day = moment.isocalendar()
    return f"{year:04}-W{week:02}"


_PASSES: Final[tuple[tuple[str, _Period], ...]] = (
    ("hourly", lambda moment: f"{moment:%Y-%m-%d %H}h"),
    ("daily", lambda moment: f"{moment:%Y-%m-%d}"),
    ("weekly", _iso_week),
    ("monthly", lambda moment: f"{moment:%Y-%m}"),
    ("yearly", lambda moment: f"{moment:%Y}"),
)


def decide(
    candidates: Iterable[Candidate], policy: RetentionPolicy, *, zone: tzinfo | None = None
) -> list[Decision]:
    """The decision for every snapshot of one group, newest first.

    Args:
        candidates: all snapshots of the group in any order; times are distinct.
        policy: how many to keep.
        zone: whose days and weeks count; None is the machine's own time zone.
    """
    newest_first = sorted(candidates, key=lambda candidate: -candidate.time_s)
    if policy.keeps_everything:
        return [
            Decision(candidate, _untouched_mark(candidate), "no retention rule is given")
            for candidate in newest_first
        ]
    choice = _Choice(newest_first)
    choice.mark_unfinished()
    if policy.keep_last:
        choice.keep_periods("last", policy.keep_last, epoch_to_name)
    for rule, period in _PASSES:
        count: int | None = getattr(policy, f"keep_{rule}")
        if count:
            choice.keep_periods(rule, count, _in_zone(period, zone))
    return choice.decisions()


def _untouched_mark(candidate: Candidate) -> Mark:
    return Mark.PROTECTED if candidate.is_protected else Mark.KEEP


def _in_zone(period: _Period, zone: tzinfo | None) -> Callable[[int], str]:
    return lambda time_s: period(_local(time_s, zone))


def _local(time_s: int, zone: tzinfo | None) -> datetime:
    moment = datetime.fromtimestamp(time_s, UTC)
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError, OSError):  # the first and last day of the calendar
        return moment


class _Choice:
    """The marks while the passes run."""

    def __init__(self, newest_first: Sequence[Candidate]) -> None:
        self._candidates = newest_first
        self._marks: dict[int, tuple[Mark, str]] = {}

    def mark_unfinished(self) -> None:
        for position, candidate in enumerate(self._candidates):
            if candidate.is_finished:
                continue
            self._marks[candidate.time_s] = (
                (Mark.KEEP_PARTIAL, "unfinished, but the newest: it may still be running")
                if position == 0
                else (Mark.REMOVE, "unfinished, and newer ones exist")
            )

    def keep_periods(self, rule: str, count: int, period_of: Callable[[int], str]) -> None:
        """One pass: keep the newest of `count` periods that nothing kept so far covers."""
        covered = {
            period_of(candidate.time_s)
            for candidate in self._candidates
            if self._marks.get(candidate.time_s, (None,))[0] is Mark.KEEP
        }
        new: set[str] = set()
        for candidate in self._candidates:
            if candidate.time_s in self._marks:
                continue
            if candidate.is_protected:
                self._marks[candidate.time_s] = (Mark.PROTECTED, "")
                continue
            period = period_of(candidate.time_s)
            if period in covered:
                continue
            if period in new:
                reason = f"{rule}: a newer snapshot stands for {period}"
                self._marks[candidate.time_s] = (Mark.REMOVE, reason)
                continue
            if len(new) >= count:
                break
            new.add(period)
            reason = f"{rule} {len(new)} of {count}" + ("" if rule == "last" else f": {period}")
            self._marks[candidate.time_s] = (Mark.KEEP, reason)

    def decisions(self) -> list[Decision]:
        return [self._decision(candidate) for candidate in self._candidates]

    def _decision(self, candidate: Candidate) -> Decision:
        if candidate.is_protected:
            return Decision(candidate, Mark.PROTECTED, "protected")
        mark, reason = self._marks.get(candidate.time_s, (Mark.REMOVE, "no rule keeps it"))
        return Decision(candidate, mark, reason)
