"""Spans of time on the command line: `90`, `90s`, `30m`, `24h5m`, `7d`."""

import argparse
import re
from typing import Final

from holdfast.units import DAY, HOUR, MINUTE

_PART: Final = re.compile(r"(\d{1,9})([smhdw])")
_UNITS: Final = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def seconds(text: str) -> int:
    """Seconds of a span; for argparse (ArgumentTypeError)."""
    compact = text.replace(" ", "").lower()
    if compact.isascii() and compact.isdigit() and len(compact) <= 9:  # noqa: PLR2004
        return int(compact)
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no span of time; write it like 30m, 24h5m or 7d"
        )
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
