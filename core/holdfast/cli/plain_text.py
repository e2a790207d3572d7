"""Text for a terminal: names made harmless, sizes and spans for people, columns.

A file name is any bytes without `/` and NUL. Printed as it is, it could move the cursor, change the
window's title or reverse the direction of writing, so whatever is not plainly visible is written as
an escape.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from holdfast import shown
from holdfast.units import DAY, HOUR, KIB, MINUTE

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_THREE_DIGITS: Final = 100
harmless: Final = shown.harmless


def size_text(size: float) -> str:
    """`1.5 GiB`: at most three digits that matter."""
    step = 0
    value = float(size)
    while abs(value) >= KIB and step < len(_UNITS) - 1:
        value /= KIB
        step += 1
    if step == 0:
        return f"{int(value)} B"
    return f"{value:.{0 if abs(value) >= _THREE_DIGITS else 1}f} {_UNITS[step]}"


def span_text(seconds: float) -> str:
    """`0.3 s`, `42 s`, `3:07 min`, `2:05 h`, `3 d 4 h`."""
    if seconds < 10:  # noqa: PLR2004  # below that, tenths are of interest
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE}:{whole % MINUTE:02d} min"
    if whole < DAY:
        return f"{whole // HOUR}:{whole % HOUR // MINUTE:02d} h"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def columns(rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines with aligned cells, two blanks between; columns named in `right` end flush."""
    table = [list(row) for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
