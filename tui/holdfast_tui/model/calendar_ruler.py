"""The next 24 hours as a ruler: which jobs start in which hour; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from holdfast.units import DAY
from holdfast_tui.model.jobs import Job

HOURS: Final = 24
LETTERS: Final = {"backup": "b", "verify": "v", "prune": "p", "gc": "g", "command": "c"}
WEEK_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the ruler: its label, and the letters of the jobs that start in it."""

    label: str
    letters: str


def ruler(jobs: Iterable[Job], now_s: float, *, utc: bool) -> list[Hour]:
    """From the hour that runs now on."""
    zone = UTC if utc else None
    start = datetime.fromtimestamp(now_s, zone).replace(minute=0, second=0, microsecond=0)
    begin_s = start.timestamp()
    found: list[list[str]] = [[] for _hour in range(HOURS)]
    for job in jobs:
        for moment in job.upcoming:
            at = int((moment - begin_s) // 3600)
            if 0 <= at < HOURS:
                found[at].append(LETTERS.get(job.settings.kind.value, "?"))
    return [
        Hour(f"{start + timedelta(hours=at):%H}", "".join(letters))
        for at, letters in enumerate(found)
    ]


def crowded(jobs: Iterable[Job], now_s: float) -> list[str]:
    """Jobs of one store that start in the same quarter of an hour within a day: `a and b at 02:00`."""
    seen: dict[tuple[str, int], str] = {}
    found = []
    for job in jobs:
        for moment in job.upcoming:
            if not 0 <= moment - now_s < DAY:
                continue
            slot = (job.settings.store or "", moment // 900)
            other = seen.setdefault(slot, job.name)
            if other != job.name:
                when = datetime.fromtimestamp(moment).strftime("%H:%M")  # noqa: DTZ006
                found.append(f"{other} and {job.name} at {when}")
    return found


def week(jobs: Iterable[Job], now_s: float, *, utc: bool) -> list[tuple[str, list[str]]]:
    """The next seven days: `Thu 26`, and each start as `21:00 nightly-web`, in order."""
    zone = UTC if utc else None
    today = datetime.fromtimestamp(now_s, zone).date()
    days: list[tuple[str, list[tuple[int, str]]]] = [
        (f"{today + timedelta(days=at):%a %d}", []) for at in range(WEEK_DAYS)
    ]
    for job in jobs:
        for moment in job.upcoming:
            when = datetime.fromtimestamp(moment, zone)
            at = (when.date() - today).days
            if 0 <= at < WEEK_DAYS:
                days[at][1].append((moment, f"{when:%H:%M} {job.name}"))
    return [(name, [text for _moment, text in sorted(starts)]) for name, starts in days]
