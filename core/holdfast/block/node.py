"""Block nodes: something with a size that can be read and written at any offset.

Everything that an NBD export, a copy-before-write filter or a backup job works on is a node. Errors
are OSErrors with the number a guest should see. Node methods may run at the same time; whoever
needs an order between overlapping requests keeps it.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, Self, TypeVar

from holdfast.errors import BadRequest
from holdfast.host import files

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

_THREADS: Final = 8
_DIRECT_BYTES_MAX: Final = 128 << 10
_LOOK_BYTES_MAX: Final = 1 << 20
_QUICK_S: Final = 0.005
_WARY_S: Final = 1.0


class Access(Enum):
    """What may be done to a node."""

    READ_ONLY = os.O_RDONLY
    READ_WRITE = os.O_RDWR


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a node that is known to read as zero, or has to be read."""

    offset: int
    length: int
    is_zero: bool

    @property
    def end(self) -> int:
        return self.offset + self.length


class ReadNode(Protocol):
    """What can be read."""

    @property
    def size_bytes(self) -> int: ...

    async def read(self, offset: int, length: int) -> Buffer:
        """Exactly `length` bytes (OSError)."""
        ...

    async def extents(self, offset: int, length: int) -> Sequence[Extent]:
        """Extents that cover the range without gaps, ascending (OSError)."""
        ...


class BlockNode(ReadNode, Protocol):
    """What can be written, too."""

    async def write(self, offset: int, data: Buffer) -> None: ...

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Make the range read as zero, giving space back where that is possible (OSError)."""
        ...

    async def discard(self, offset: int, length: int) -> None:
        """The range is not needed any more; it reads as zero afterwards (OSError)."""
        ...

    async def flush(self) -> None:
        """What was written before survives a power loss (OSError)."""
        ...


def check_range(size_bytes: int, offset: int, length: int) -> None:
    """OSError EINVAL when the range does not lie within the node."""
    if offset < 0 or length < 0 or offset + length > size_bytes:
        raise OSError(
            errno.EINVAL,
            f"operation past EOF; From: {offset}, Len: {length}, Size: {size_bytes}",
        )


class FileNode:
    """A raw image: a regular file or a block device.

    Small requests mostly meet the page cache and take microseconds, while handing one to a thread
    and back costs a hundred and, beside busy threads, milliseconds. They are carried out at once; when
    one was slow all go to threads for a second.
    """

    def __init__(self, fd: int, path: str, size_bytes: int) -> None:
        self.fd = fd
        self.path = path
        self._size = size_bytes
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="image")
        self._wary_until = 0.0

    @classmethod
    def open(cls, path: str, access: Access) -> Self:
        """Open an existing image (BadRequest when it is no file or device; OSError)."""
        fd = os.open(path, access.value | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            os.close(fd)
            raise BadRequest(f"{path} is neither a file nor a block device") from error
        return cls(fd, path, size)

    @property
    def size_bytes(self) -> int:
        return self._size

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        os.close(self.fd)

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def _at_once(self, work: Callable[..., T], *args: object) -> T:
        clock = asyncio.get_running_loop().time
        started = clock()
        if started < self._wary_until:
            return await self._run(work, *args)
        try:
            return work(*args)
        finally:
            if clock() - started > _QUICK_S:
                self._wary_until = clock() + _WARY_S

    async def read(self, offset: int, length: int) -> Buffer:
        check_range(self._size, offset, length)
        if length <= _DIRECT_BYTES_MAX:  # in the page cache more often than not: no thread needed
            data = bytearray(length)
            try:
                if os.preadv(self.fd, [data], offset, os.RWF_NOWAIT) == length:
                    return data
            except OSError:
                pass
        return await self._run(self.read_now, offset, length)

    def read_now(self, offset: int, length: int) -> bytearray:
        """Like read, in the caller's own thread."""
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return data

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset`, in the caller's own thread (OSError)."""
        while view:
            got = os.preadv(self.fd, [view], offset)
            if got == 0:
                raise OSError(errno.EIO, f"{self.path} ends before its size")
            view, offset = view[got:], offset + got

    async def write(self, offset: int, data: Buffer) -> None:
        check_range(self._size, offset, len(data))
        quickly = self._at_once if len(data) <= _DIRECT_BYTES_MAX else self._run
        await quickly(self._pwrite, offset, data)

    def _pwrite(self, offset: int, data: Buffer) -> None:
        files.pwrite_all(self.fd, data, offset, path=self.path)

    async def write_zeroes(self, offset: int, length: int) -> None:
        check_range(self._size, offset, length)
        if length:
            await self._run(files.punch_hole, self.fd, offset, length)

    async def discard(self, offset: int, length: int) -> None:
        await self.write_zeroes(offset, length)

    async def flush(self) -> None:
        await self._run(files.flush_data, self.fd)

    async def extents(self, offset: int, length: int) -> Sequence[Extent]:
        check_range(self._size, offset, length)
        if length <= _LOOK_BYTES_MAX:
            return await self._at_once(self.extents_now, offset, length)
        return await self._run(self.extents_now, offset, length)

    def extents_now(self, offset: int, length: int) -> list[Extent]:
        """Holes of a file are zero; what cannot be told is data (OSError)."""
        found: list[Extent] = []
        end = offset + length
        while offset < end:
            data = self._seek(offset, os.SEEK_DATA, end)
            if data > offset:
                found.append(Extent(offset, data - offset, is_zero=True))
                offset = data
                continue
            hole = self._seek(offset, os.SEEK_HOLE, end)
            hole = hole if hole > offset else end
            found.append(Extent(offset, hole - offset, is_zero=False))
            offset = hole
        return found

    def _seek(self, offset: int, whence: int, end: int) -> int:
        try:
            return min(os.lseek(self.fd, offset, whence), end)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole from here on
                return end if whence == os.SEEK_DATA else offset
            if error.errno == errno.EINVAL:  # devices and some file systems cannot tell
                return offset if whence == os.SEEK_DATA else end
            raise
