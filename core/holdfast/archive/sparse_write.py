"""Write content into a new file and leave holes where it is zero."""

import os
from collections.abc import Iterator
from typing import Final

from holdfast.host import gate
from holdfast.host.files import write_all
from holdfast.units import KIB

BLOCK_BYTES: Final = 4 * KIB
_ZEROES: Final = bytes(BLOCK_BYTES)


def write_sparse(fd: int, pieces: Iterator[memoryview], *, path: object) -> int:
    """Write `pieces` from the file's start; bytes of content (OSError).

    Blocks of 4 KiB that are zero are not written; the file has its full length all the same.
    """
    at = 0
    ends_in_hole = False
    for piece in pieces:
        rest = piece
        odd = -at % BLOCK_BYTES
        if odd and len(piece) >= BLOCK_BYTES:  # holes begin where blocks of the file begin
            _write(fd, piece[:odd], path)
            at += odd
            rest = piece[odd:]
        if len(rest) < BLOCK_BYTES or not _may_hold_zero_blocks(rest):
            if rest:
                _write(fd, rest, path)
                at += len(rest)
                ends_in_hole = False
            continue
        for start, end, is_zero in _runs(rest):
            if is_zero:
                os.lseek(fd, at + end, os.SEEK_SET)
            else:
                _write(fd, rest[start:end], path)
            ends_in_hole = is_zero
        at += len(rest)
    if ends_in_hole:
        os.ftruncate(fd, at)
    return at


def _write(fd: int, piece: memoryview, path: object) -> None:
    if gate.active is None:
        done = os.write(fd, piece)
        if done == len(piece):
            return
        piece = piece[done:]
    write_all(fd, (piece,), path=path)


def _may_hold_zero_blocks(piece: memoryview) -> bool:
    """Whether some block of the piece begins with a zero byte."""
    return 0 in piece[::BLOCK_BYTES].tobytes()


def _runs(piece: memoryview) -> Iterator[tuple[int, int, bool]]:
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
