"""Write content into a new file and leave holes where it is zero."""

import os
from collections.abc import Iterator

from holdfast.chunking.zero_runs import BLOCK_BYTES, may_hold_zero_blocks, runs
from holdfast.host import gate
from holdfast.host.files import WRITE_BEHIND_BYTES, write_all, write_behind


def write_sparse(fd: int, pieces: Iterator[memoryview], *, path: object) -> int:
    """Write `pieces` from the file's start; bytes of content (OSError).

    Blocks of 4 KiB that are zero are not written; the file has its full length all the same.
    """
    at = behind = 0
    ends_in_hole = False
    for piece in pieces:
        if at - behind >= WRITE_BEHIND_BYTES:
            write_behind(fd, at)
            behind = at
        rest = piece
        odd = -at % BLOCK_BYTES
        if odd and len(piece) >= BLOCK_BYTES:  # holes begin where blocks of the file begin
            _write(fd, piece[:odd], path)
            at += odd
            rest = piece[odd:]
        if len(rest) < BLOCK_BYTES or not may_hold_zero_blocks(rest):
            if rest:
                _write(fd, rest, path)
                at += len(rest)
                ends_in_hole = False
            continue
        for start, end, is_zero in runs(rest):
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
