"""Finds the blocks of zeros in a piece of data, which need not be written to be read back."""

from collections.abc import Iterator
from typing import Final

from holdfast.units import KIB

BLOCK_BYTES: Final = 4 * KIB
_ZEROES: Final = bytes(BLOCK_BYTES)


def may_hold_zero_blocks(piece: memoryview) -> bool:
    """Whether some block of the piece begins with a zero byte."""
    return 0 in piece[::BLOCK_BYTES].tobytes()


def runs(piece: memoryview) -> Iterator[tuple[int, int, bool]]:
    """(start, end, is zero), neighbours of one sort joined; a shorter last block is data."""
    size = len(piece)
    begin, was_zero = 0, False
    for at in range(0, size, BLOCK_BYTES):
        is_zero = piece[at] == 0 and piece[at : at + BLOCK_BYTES].tobytes() == _ZEROES
        if is_zero != was_zero:
            if at > begin:
                yield begin, at, was_zero
            begin, was_zero = at, is_zero
    yield begin, size, was_zero
