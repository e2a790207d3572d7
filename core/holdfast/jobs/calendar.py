"""Calendar events: when a schedule such as `mon..fri 22:30` comes round again.

    event    = keyword | [weekdays] [date] [time] ["UTC"]     at least one part; no time = 00:00:00
    keyword  = minutely hourly daily weekly monthly quarterly semiannually semi-annually
               yearly annually
    weekdays = day-or-range {"," day-or-range}                 mon..fri, fri..mon wraps, any case
    date     = [YEAR "-"] MONTH "-" DAY
    time     = [HOUR ":"] MINUTE [":" SECOND]                  a lone number is a minute
    field    = "*" | "*/step" | item {"," item}                item = n | a..b | n/step | a..b/step

Source: Proxmox Backup, "Calendar events" (a subset of systemd.time). All parts must match.

Where the clock is changed: a time that a day skips is taken at the same distance from midnight
(02:30 becomes 03:30), so a nightly job runs once; a time that a day has twice counts the first
time only, unless the hour is left open, since `*:0/30` means every half hour that passes.
"""

import calendar
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Self
from zoneinfo import ZoneInfo

from holdfast.errors import BadRequest

YEAR_END: Final = 2200
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_KEYWORDS: Final = {
    "minutely": "*:*:0",
    "hourly": "*:0",
    "daily": "0:0",
    "weekly": "mon 0:0",
    "monthly": "*-1 0:0",
    "quarterly": "1,4,7,10-1 0:0",
    "semiannually": "1,7-1 0:0",
    "semi-annually": "1,7-1 0:0",
    "yearly": "1-1 0:0",
    "annually": "1-1 0:0",
}
_ITEM: Final = re.compile(r"(\d{1,4})(?:\.\.(\d{1,4}))?(?:/(\d{1,4}))?")
_NEAR: Final = timedelta(hours=3)  # no clock was ever changed by more, within one zone
_TEXT_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class _Field:
    """The values one part may have; `is_open` when it was not restricted at all."""

    values: tuple[int, ...]
    is_open: bool

    @classmethod
    def any_of(cls, low: int, end: int) -> Self:
        return cls(tuple(range(low, end)), is_open=True)

    @classmethod
    def only(cls, value: int) -> Self:
        return cls((value,), is_open=False)

    @classmethod
    def parse(cls, text: str, *, low: int, end: int) -> Self:
        """Read one field; values are low..end-1, and 0 is allowed though it may never match."""
        if text == "*":
            return cls.any_of(low, end)
        values: set[int] = set()
        for item in text.split(","):
            values.update(_item(item, low=low, end=end))
        return cls(tuple(sorted(values)), is_open=False)

    def __contains__(self, value: int) -> bool:
        return value in self.values


def _item(text: str, *, low: int, end: int) -> range:
    if text.startswith("*/"):
        text = f"{low}{text[1:]}"
        if text.endswith("/0"):
            raise BadRequest("a step of 0 from the start never ends")
    match = _ITEM.fullmatch(text)
    if match is None:
        raise BadRequest(f"{text!r} is no number, range or step")
    first, last, step = (int(part) if part else None for part in match.groups())
    assert first is not None
    stop = last if last is not None else (end - 1 if step else first)
    if first >= end or stop >= end:
        raise BadRequest(f"{text!r} is beyond {end - 1}")
    if first > stop:
        raise BadRequest(f"{text!r} ends before it begins")
    return (
        range(first, stop + 1, step or 1)
        if step != 0 or last is not None
        else range(first, first + 1)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarEvent:
    """A parsed schedule; `text` is what the person wrote."""

    text: str
    weekdays: frozenset[int]
    years: _Field
    months: _Field
    days: _Field
    hours: _Field
    minutes: _Field
    seconds: _Field
    is_utc: bool

    @classmethod
    def parse(cls, text: str) -> "CalendarEvent":
        """Read an event; BadRequest says what is wrong with it."""
        if len(text) > _TEXT_MAX:
            raise BadRequest("a schedule is one short line")
        try:
            return _parse(text)
        except BadRequest as error:
            raise BadRequest(
                f"{text!r} is no schedule: {error.message}",
                hint="write it like daily, mon..fri 22:30, *-*-1 03:00 or *:0/30",
            ) from error

    def next_after(self, moment_s: float, zone: tzinfo | None = None) -> int | None:
        """The first second after `moment_s` at which the event comes round; None for never.

        Args:
            moment_s: seconds since 1970.
            zone: of the server's clock, unless the event says UTC; default: this machine's.
        """
        where = UTC if self.is_utc else zone or local_zone()
        moment = datetime.fromtimestamp(int(moment_s // 1), UTC)
        start = moment.astimezone(where).replace(tzinfo=None)
        if _clock_changes_near(moment, where):
            start -= _NEAR
        best: datetime | None = None
        for naive in self._naive_after(start):
            for when in self._real_times(naive, where):
                if when > moment and (best is None or when < best):
                    best = when
            if best is None:
                continue
            first = naive.replace(tzinfo=where).astimezone(UTC)
            if first > best + _NEAR or not _clock_changes_near(best, where):
                break
        return None if best is None else int(best.timestamp())

    def _real_times(self, naive: datetime, where: tzinfo) -> Iterator[datetime]:
        first = naive.replace(tzinfo=where).astimezone(UTC)
        yield first
        if self.hours.is_open:
            second = naive.replace(tzinfo=where, fold=1)
            again = second.astimezone(UTC)
            if again > first and again.astimezone(where).replace(tzinfo=None) == naive:
                yield again

    def _naive_after(self, start: datetime) -> Iterator[datetime]:
        """All matching wall-clock times after `start`, ascending, as if no clock ever changed."""
        for year in self.years.values:
            if year < max(start.year, 1):
                continue
            for month in self.months.values:
                if (year, month) < (start.year, start.month) or not month >= 1:
                    continue
                yield from self._in_month(year, month, start)

    def _in_month(self, year: int, month: int, start: datetime) -> Iterator[datetime]:
        length = calendar.monthrange(year, month)[1]
        for day in self.days.values:
            if not 1 <= day <= length or calendar.weekday(year, month, day) not in self.weekdays:
                continue
            if (year, month, day) < (start.year, start.month, start.day):
                continue
            yield from self._in_day(datetime(year, month, day), start)  # noqa: DTZ001  # wall clock

    def _in_day(self, day: datetime, start: datetime) -> Iterator[datetime]:
        for hour in self.hours.values:
            if day + timedelta(hours=hour + 1) <= start:
                continue
            for minute in self.minutes.values:
                if day + timedelta(hours=hour, minutes=minute + 1) <= start:
                    continue
                for second in self.seconds.values:
                    when = day.replace(hour=hour, minute=minute, second=second)
                    if when > start:
                        yield when


def _parse(text: str) -> CalendarEvent:
    words = text.split()
    is_utc = bool(words) and words[-1] == "UTC"
    if is_utc:
        words.pop()
    if len(words) == 1 and words[0] in _KEYWORDS:
        words = _KEYWORDS[words[0]].split()
    if not words:
        raise BadRequest("it is empty")
    weekdays = frozenset(range(7))
    date = time = None
    if words and words[0][0].isalpha():
        weekdays = _weekdays(words.pop(0))
    if words and "-" in words[0]:
        date = words.pop(0)
    if words:
        time = words.pop(0)
    if words:
        raise BadRequest(f"{words[0]!r} is one part too many")
    years, months, days = _date(date)
    hours, minutes, seconds = _time(time)
    return CalendarEvent(
        text=text,
        weekdays=weekdays,
        years=years,
        months=months,
        days=days,
        hours=hours,
        minutes=minutes,
        seconds=seconds,
        is_utc=is_utc,
    )


def _weekday(text: str) -> int:
    for number, name in enumerate(_WEEKDAYS):
        if text.lower() in (name, name[:3]):
            return number
    raise BadRequest(f"{text!r} is no day of the week and no keyword")


def _weekdays(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dots, last = part.partition("..")
        begin = _weekday(first)
        end = _weekday(last) if dots else begin
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)


def _date(text: str | None) -> tuple[_Field, _Field, _Field]:
    parts = text.split("-") if text else ["*", "*", "*"]
    if len(parts) == 2:  # noqa: PLR2004  # month and day
        parts.insert(0, "*")
    if len(parts) != 3:  # noqa: PLR2004  # year, month and day
        raise BadRequest(f"{text!r} is no date")
    year, month, day = parts
    return (
        _Field.parse(year, low=0, end=YEAR_END),
        _Field.parse(month, low=1, end=13),
        _Field.parse(day, low=1, end=32),
    )


def _time(text: str | None) -> tuple[_Field, _Field, _Field]:
    if text is None:
        return _Field.only(0), _Field.only(0), _Field.only(0)
    parts = text.split(":")
    if len(parts) == 1:
        parts.insert(0, "*")
    if len(parts) == 2:  # noqa: PLR2004  # hour and minute
        parts.append("0")
    if len(parts) != 3:  # noqa: PLR2004  # hour, minute and second
        raise BadRequest(f"{text!r} is no time of day")
    hour, minute, second = parts
    return (
        _Field.parse(hour, low=0, end=24),
        _Field.parse(minute, low=0, end=60),
        _Field.parse(second, low=0, end=60),
    )


def _clock_changes_near(moment: datetime, where: tzinfo) -> bool:
    before = (moment - _NEAR).astimezone(where).utcoffset()
    return before != (moment + _NEAR).astimezone(where).utcoffset()


@lru_cache(maxsize=1)
def local_zone() -> tzinfo:
    """The zone of this machine's clock, with its changes of the clock; UTC when it has none."""
    name = os.environ.get("TZ", "").removeprefix(":")
    try:
        if name:
            return ZoneInfo(name)
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ValueError):
        return UTC


def spread_s(name: str, due_s: int, delay_s_max: int) -> int:
    """Seconds in 0..delay_s_max by which job `name` is late for `due_s`: random, yet repeatable.

    The same job and event give the same delay in every process, so a restart neither runs a job
    twice nor lets it wait for a second draw.
    """
    if delay_s_max <= 0:
        return 0
    return zlib.crc32(f"{name}\0{due_s}".encode()) % (delay_s_max + 1)
