"""Bytes that can be read at any offset: what deltas are applied to and read from."""

import os
from typing import Protocol

from holdfast.host import gate


class ByteSource(Protocol):
    """Something of known length to read from at random.

    Attributes:
        size: in bytes.
    """

    @property
    def size(self) -> int: ...

    def read_into(self, offset: int, target: memoryview, /) -> int:
        """Fill `target` from `offset`; how many bytes there were, fewer only at the end."""
        ...


class MemorySource:
    """Bytes in memory."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        return len(self._data)

    def read_into(self, offset: int, target: memoryview, /) -> int:
        piece = self._data[offset : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)


class FileSource:
    """An open file, whose length is taken once."""

    def __init__(self, fd: int, size: int | None = None) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size if size is None else size

    @property
    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, target: memoryview, /) -> int:
        if gate.active is not None:
            gate.active("read", self._fd)
        wanted = min(len(target), max(self._size - offset, 0))
        done = 0
        while done < wanted:
            count = os.preadv(self._fd, (target[done:wanted],), offset + done)
            if count == 0:
                break
            done += count
        return done


def read_exactly(source: ByteSource, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`, fewer at the end; check a `length` from outside before."""
    buffer = bytearray(min(length, max(source.size - offset, 0)))
    count = source.read_into(offset, memoryview(buffer))
    return bytes(buffer[:count])
