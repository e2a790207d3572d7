"""Names of WAL files, and the arithmetic of positions (LSN), segments and timelines.

A name is checked before anything else is done with it: `%p` and `%f` come from outside.

    TTTTTTTTHHHHHHHHLLLLLLLL                   segment: timeline, then its number in two halves
    TTTTTTTTHHHHHHHHLLLLLLLL.partial           the last, unfinished segment of a timeline
    TTTTTTTTHHHHHHHHLLLLLLLL.OOOOOOOO.backup   a base backup began at that offset in the segment
    TTTTTTTT.history                           how that timeline came about

All digits are upper-case hexadecimal. A segment number is LSN // segment size; the low half of the
name runs to 2^32 // segment size - 1. Numbers are compared, never names: across timelines the
order of names means nothing.

Start-up of `wal push` is counted in milliseconds, so this module imports next to nothing.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

from holdfast.errors import BadRequest

FIRST_TIMELINE: Final = 1  # the only one without a history file
SEGMENT_BYTES_MIN: Final = 1 << 20
SEGMENT_BYTES_MAX: Final = 1 << 30
SEGMENT_BYTES_DEFAULT: Final = 1 << 24
_HIGH: Final = 1 << 32
_NAME: Final = re.compile(
    r"(?P<tli>[0-9A-F]{8})(?:(?P<high>[0-9A-F]{8})(?P<low>[0-9A-F]{8})"
    r"(?P<suffix>\.partial|\.(?P<offset>[0-9A-F]{8})\.backup)?|(?P<history>\.history))"
)
_LSN: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


class WalKind(Enum):
    """What a file of the WAL archive is."""

    SEGMENT = "segment"
    PARTIAL = "partial"
    BACKUP = "backup"
    HISTORY = "history"


class WalName(NamedTuple):
    """A checked name, taken apart.

    Attributes:
        text: the name itself.
        kind: what it names.
        timeline: its number.
        high: first half of the segment's number, 0 for a history file.
        low: second half, below 2^32 / segment size.
    """

    text: str
    kind: WalKind
    timeline: int
    high: int
    low: int

    def segment(self, segment_bytes: int) -> int:
        """The number of the segment on its timeline."""
        return self.high * (_HIGH // segment_bytes) + self.low

    @property
    def segment_name(self) -> str:
        """The name without `.partial` or `.backup`."""
        return self.text[:24]


def parse_wal_name(text: str) -> WalName:
    """Check and take apart the name of a WAL file (BadRequest when it is none)."""
    match = _NAME.fullmatch(text)
    if match is None or match["tli"] == "00000000":
        raise BadRequest(f"{text[:80]!r} is not the name of a WAL file")
    if match["history"]:
        return WalName(text, WalKind.HISTORY, int(match["tli"], 16), 0, 0)
    kind = WalKind.SEGMENT
    if match["offset"]:
        kind = WalKind.BACKUP
    elif match["suffix"]:
        kind = WalKind.PARTIAL
    return WalName(text, kind, *(int(match[part], 16) for part in ("tli", "high", "low")))


def is_segment_size(size: int) -> bool:
    """Whether a server can have WAL segments of `size` bytes."""
    return SEGMENT_BYTES_MIN <= size <= SEGMENT_BYTES_MAX and size.bit_count() == 1


def segment_name(timeline: int, segment: int, segment_bytes: int) -> str:
    """The name of segment number `segment` of a timeline."""
    high, low = divmod(segment, _HIGH // segment_bytes)
    return f"{timeline:08X}{high:08X}{low:08X}"


def segment_of(lsn: int, segment_bytes: int) -> int:
    """The number of the segment that holds the byte at `lsn`."""
    return lsn // segment_bytes


def last_segment_before(lsn: int, segment_bytes: int) -> int:
    """The number of the last segment needed to have everything before `lsn`."""
    return max(lsn - 1, 0) // segment_bytes


def history_name(timeline: int) -> str:
    """The name of the file that says where a timeline came from; timeline 1 has none."""
    return f"{timeline:08X}.history"


def parse_lsn(text: str) -> int:
    """The number of an LSN such as `0/3000060` (BadRequest)."""
    match = _LSN.fullmatch(text)
    if match is None:
        raise BadRequest(f"{text[:40]!r} is no LSN; write it like 0/3000060")
    return int(match[1], 16) << 32 | int(match[2], 16)


def format_lsn(lsn: int) -> str:
    """An LSN as PostgreSQL writes it, such as `0/3000060`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
