"""Integers of VCDIFF: base 128, most significant group first, bit 7 set on all bytes but the last.

Source: RFC 3284, section 2.
"""

from typing import Final

from holdfast.errors import DamagedData

BYTES_MAX: Final = 10
_MORE: Final = 0x80  # bit of a byte that is not the last
WHAT: Final = "VCDIFF delta"


def encode(value: int) -> bytes:
    """`value`, not negative, in as few bytes as it takes."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | _MORE)
    return bytes(reversed(groups))


def decode(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The integer that starts at `at`, and where the next byte stands.

    Raises:
        DamagedData: it does not end in `data`, or is longer than 10 bytes.
    """
    value = 0
    for position in range(at, min(at + BYTES_MAX, len(data))):
        byte = data[position]
        value = value << 7 | byte & 0x7F
        if byte < _MORE:
            return value, position + 1
    reason = "cut short" if len(data) - at < BYTES_MAX else "an integer of more than 10 bytes"
    raise DamagedData(WHAT, reason)
