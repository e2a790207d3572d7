"""Sizes, counts, moments and spans as short text that keeps its width."""

from datetime import UTC, datetime
from typing import Final

from holdfast.units import DAY, HOUR, KIB, MINUTE

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SHORT_UNITS: Final = ("", "K", "M", "G", "T", "P", "E")
_WEEK: Final = 7 * DAY
_AGES: Final = (
    (90, 1, "s"),
    (90 * MINUTE, MINUTE, "min"),
    (36 * HOUR, HOUR, "h"),
    (10 * _WEEK, DAY, "d"),
    (365 * DAY, _WEEK, "w"),
)
_THREE_DIGITS: Final = 100


def size(amount: float | None) -> str:
    """`1.2 GiB`, `412 B`, `-` for unknown."""
    if amount is None:
        return "-"
    value, step = _scaled(amount)
    return f"{_digits(value, step)} {_UNITS[step]}"


def size_short(amount: float | None) -> str:
    """`1.2G`, `412`, `-`: for narrow columns."""
    if amount is None:
        return "-"
    value, step = _scaled(amount)
    return f"{_digits(value, step)}{_SHORT_UNITS[step]}"


def _scaled(amount: float) -> tuple[float, int]:
    value, step = float(amount), 0
    while abs(value) >= 999.5 and step < len(_UNITS) - 1:  # noqa: PLR2004  # four digits are too many
        value /= KIB
        step += 1
    return value, step


def _digits(value: float, step: int) -> str:
    if step == 0 or abs(value) >= 99.95:  # noqa: PLR2004  # three digits that matter
        return f"{value:.0f}"
    return f"{value:.1f}"


def rate(per_second: float | None, unit: str = "bytes") -> str:
    """`118 MiB/s`, `12 /s`, empty for unknown."""
    if not per_second:
        return ""
    return f"{size(per_second)}/s" if unit == "bytes" else f"{per_second:,.0f} /s"


def count(number: int | None) -> str:
    """`1,204`; `-` for unknown."""
    return "-" if number is None else f"{number:,}"


def percent(fraction: float | None) -> str:
    """`41%`, right-aligned in four cells; blank for unknown."""
    return "    " if fraction is None else f"{int(100 * fraction):3d}%"


def factor(value: float | None) -> str:
    """`14.2x`."""
    if value is None:
        return "-"
    return f"{value:.0f}x" if value >= _THREE_DIGITS else f"{value:.1f}x"


def moment(epoch_s: float | None, *, utc: bool = False) -> str:
    """`2026-01-14 02:00` of the local zone; `-` for never."""
    return _at(epoch_s, "%Y-%m-%d %H:%M", utc=utc)


def moment_seconds(epoch_s: float | None, *, utc: bool = False) -> str:
    """`2026-01-14 02:00:05`."""
    return _at(epoch_s, "%Y-%m-%d %H:%M:%S", utc=utc)


def clock(epoch_s: float, now_s: float, *, utc: bool = False) -> str:
    """As short as it stays clear: `09:28:57` today, `01-13 22:01` this year, else the date."""
    here, now = _time(epoch_s, utc=utc), _time(now_s, utc=utc)
    if here.date() == now.date():
        return f"{here:%H:%M:%S}"
    if abs(epoch_s - now_s) < 300 * DAY:
        return f"{here:%m-%d %H:%M}"
    return f"{here:%Y-%m-%d}"


def _at(epoch_s: float | None, pattern: str, *, utc: bool) -> str:
    if not epoch_s:
        return "-"
    return _time(epoch_s, utc=utc).strftime(pattern)


def _time(epoch_s: float, *, utc: bool) -> datetime:
    try:
        return datetime.fromtimestamp(epoch_s, UTC if utc else None)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


def age(seconds: float | None) -> str:
    """`5 s`, `12 min`, `7 h`, `3 d`, `9 w`, `2.5 y`: one unit, since columns are narrow."""
    if seconds is None:
        return "-"
    span_s = max(0.0, seconds)
    for limit, unit, word in _AGES:
        if span_s < limit:
            return f"{span_s / unit:.0f} {word}"
    return f"{span_s / (365 * DAY):.1f} y"


def span(seconds: float | None) -> str:
    """How long something took or will take: `00:42`, `12:40`, `3:07:12`, `2 d 4 h`."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < HOUR:
        return f"{whole // MINUTE:02d}:{whole % MINUTE:02d}"
    if whole < DAY:
        return f"{whole // HOUR}:{whole % HOUR // MINUTE:02d}:{whole % MINUTE:02d}"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def eta(seconds: float | None) -> str:
    """Like span, rounded so that a quiet line stays quiet; empty for unknown."""
    if seconds is None:
        return ""
    step = 1 if seconds < 20 else 5 if seconds < 2 * MINUTE else 10 if seconds < HOUR else MINUTE  # noqa: PLR2004
    return span(round(seconds / step) * step)


def plural(number: int, word: str) -> str:
    """`1 snapshot`, `1,204 snapshots`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
