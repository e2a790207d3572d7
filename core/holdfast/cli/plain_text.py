"""Text for a terminal: names made harmless, sizes and spans for people, columns.

A file name is any bytes without `/` and NUL. Printed as it is, it could move the cursor, change the
window's title or reverse the direction of writing, so whatever is not plainly visible is written as
an escape.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from holdfast.units import DAY, HOUR, KIB, MINUTE

# C0, DEL, C1, soft hyphen, zero-width and bidirectional marks, line and paragraph separators,
# interlinear and tag characters, byte-order mark, the surrogates that stand for invalid UTF-8, and
# the format characters of single scripts
_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]"
)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INVALID_BYTE_FIRST: Final = 0xDC80
_INVALID_BYTE_LAST: Final = 0xDCFF
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_THREE_DIGITS: Final = 100


def harmless(name: str | bytes) -> str:
    r"""`name` with everything that could drive a terminal as `\n`, `\x1b`, `\u202e`."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if text.isascii() and text.isprintable():
        return text
    return _HARMFUL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if _INVALID_BYTE_FIRST <= code <= _INVALID_BYTE_LAST:
        return f"\\x{code & 0xFF:02x}"
    if code <= 0xFF:  # noqa: PLR2004  # one byte
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


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
