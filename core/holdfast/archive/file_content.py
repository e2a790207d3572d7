"""Copy one file's bytes into a stream: exactly as many as announced, whatever the file does.

A PAYLOAD record is a 16-byte header (u64 type, u64 16 + size) and exactly `size` bytes. A file that
grew is cut, one that shrank is filled up with zeroes, and both are told to the caller. Holes are
found with SEEK_HOLE and never read. Small files are read straight into the stream's segment with
one call that asks for one byte too many, which is how growth is noticed without a second look.
"""

import enum
import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from holdfast.archive.pxar import format as pxar
from holdfast.host import gate
from holdfast.units import KIB, MIB

_HEADER: Final = struct.Struct("<QQ")
HEADER_BYTES: Final = _HEADER.size
_SPARSE_BYTES_MIN: Final = 64 * KIB
_ZEROES: Final = bytes(1 * MIB)
_READ_BYTES_MAX: Final = 4 * MIB  # at once, so that workers soon have the first chunk
# Kernels stamp changes with a clock that ticks every 1 to 10 ms. A file changed within the tick in
# which it is read could change again without showing it, and the next backup would miss that.
TICK_NS: Final = 20_000_000


class ByteSink(Protocol):
    """Where a stream's bytes go: memory to fill in place, or finished bytes."""

    @property
    def position(self) -> int: ...

    def room(self) -> memoryview: ...

    def commit(self, count: int, /) -> None: ...

    def write(self, data: bytes | bytearray | memoryview, /) -> object: ...


CopiedBytes = Callable[[int], None]


class Copied(enum.Enum):
    """How the copy of a file's content went."""

    WHOLE = "whole"
    GREW = "grew while it was read; what came later is left out"
    SHRANK = "shrank while it was read; the missing end is stored as zeroes"


NOTHING_WRITTEN: Final = -1


class UnreadableContent(Exception):
    """The disk refused content.

    Attributes:
        error: what the disk said.
        missing: bytes the begun record lacks, or NOTHING_WRITTEN when it was not begun.
    """

    def __init__(self, error: OSError, missing: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.missing = missing


def copy_record(
    fd: int, size: int, sink: ByteSink, *, path: bytes, copied: CopiedBytes, prefix: bytes = b""
) -> Copied:
    """Write `prefix` and a PAYLOAD record of `size` content bytes read from `fd` at its start.

    Args:
        fd: open at its start.
        size: what the record announces and will hold.
        sink: where to.
        path: for the fault gate.
        copied: told of content as it goes.
        prefix: bytes that belong before the record and only stand there if it does.

    Raises:
        UnreadableContent: reading failed; nothing was written if its `missing` is negative.
    """
    skip = len(prefix) + HEADER_BYTES
    need = skip + size
    room = sink.room()
    if need >= len(room):
        return _copy_large(fd, size, sink, path=path, prefix=prefix, copied=copied)
    try:
        if gate.active is not None:
            gate.active("read", path)
        got = os.readv(fd, (room[skip : need + 1],))
        while got < size and (more := os.readv(fd, (room[skip + got : need + 1],))):
            got += more
    except OSError as error:
        raise UnreadableContent(error, NOTHING_WRITTEN) from error
    if prefix:
        room[: len(prefix)] = prefix
    _HEADER.pack_into(room, len(prefix), pxar.PAYLOAD, size + HEADER_BYTES)
    copied(size)
    if got == size:
        sink.commit(need)
        return Copied.WHOLE
    if got < size:
        room[skip + got : need] = bytes(size - got)
    sink.commit(need)
    return Copied.GREW if got > size else Copied.SHRANK


def _copy_large(
    fd: int, size: int, sink: ByteSink, *, path: bytes, prefix: bytes, copied: CopiedBytes
) -> Copied:
    missing = NOTHING_WRITTEN
    outcome = Copied.WHOLE
    try:
        if gate.active is not None:
            gate.active("read", path)
        os.pread(fd, 1, 0)  # a file that cannot be read at all leaves no trace
        sink.write(prefix + _HEADER.pack(pxar.PAYLOAD, size + HEADER_BYTES))
        missing = size
        for start, end, is_hole in _stretches(fd, size):
            at = start
            while at < end:
                room = sink.room()[: min(end - at, _READ_BYTES_MAX)]
                if is_hole or outcome is Copied.SHRANK:
                    count = min(len(room), len(_ZEROES))
                    room[:count] = _ZEROES[:count]
                else:
                    if gate.active is not None:
                        gate.active("read", path)
                    count = os.preadv(fd, (room,), at)
                    if count == 0:
                        outcome = Copied.SHRANK
                        continue
                sink.commit(count)
                at += count
                missing -= count
                copied(count)
        if outcome is Copied.WHOLE and os.pread(fd, 1, size):
            outcome = Copied.GREW
    except OSError as error:
        if missing == 0:
            return outcome
        raise UnreadableContent(error, missing) from error
    return outcome


def _stretches(fd: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """(start, end, is hole) from 0 to `size`; one stretch for files that take all their blocks."""
    if size < _SPARSE_BYTES_MIN or os.fstat(fd).st_blocks * 512 >= size:
        yield 0, size, False
        return
    at = 0
    while at < size:
        try:
            data = min(os.lseek(fd, at, os.SEEK_DATA), size)
            hole = min(os.lseek(fd, data, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data behind `at`, or the file became shorter
                data = hole = size
            else:
                data, hole = at, size
        if data > at:
            yield at, data, True
        if hole > data:
            yield data, hole, False
        at = max(hole, at + 1)


def write_zeroes(sink: ByteSink, count: int) -> None:
    """Fill up a record whose content cannot be read to its announced length."""
    while count:
        step = min(count, len(_ZEROES))
        sink.write(_ZEROES[:step])
        count -= step
