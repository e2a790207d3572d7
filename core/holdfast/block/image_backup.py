"""Disk images and block devices into fixed chunks: only what holds data is read.

Stretches that the file system knows as holes are passed over with SEEK_DATA and never read; the
others are read by the upload workers themselves, 4 MiB at a time into buffers that are used again,
so that a chunk is hashed while it is still in the processor's cache. Against a base, chunks that
did not change are recognised by their digests and neither compressed nor stored.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from holdfast.datastore.image_writer import ImageWriter
from holdfast.errors import NotFound, Refused
from holdfast.host import files, gate


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What backing up one image amounted to.

    Attributes:
        size: bytes of the image.
        read_bytes: bytes read from it.
        hole_bytes: bytes passed over because the file system holds nothing there.
        warnings: sentences about what a person should know, such as a change during the reading.
    """

    size: int
    read_bytes: int
    hole_bytes: int
    warnings: tuple[str, ...]


class ImageSource:
    """An image file or block device, open for reading.

    Attributes:
        path: as given.
        size: bytes at the moment of opening.
        is_device: a block device rather than a file.
    """

    def __init__(self, path: str) -> None:
        """Open it (NotFound, Refused: neither file nor block device, HoldfastError)."""
        self.path: Final = path
        try:
            self._fd = files.open_read(path, extra_flags=os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotFound(f"there is no image {path}") from error
        except OSError as error:
            raise files.as_holdfast_error(error, f"opening {path}") from error
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISBLK(info.st_mode):
            os.close(self._fd)
            raise Refused(f"{path} is neither a file nor a block device, so it is no image")
        self.is_device: Final = stat.S_ISBLK(info.st_mode)
        self.size: Final = os.lseek(self._fd, 0, os.SEEK_END)
        self._stamp = self._look()
        self._shortened = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill `target` from `offset`; zeros behind the end of a file that shrank (OSError)."""
        done = 0
        while done < len(target):
            if gate.active is not None:
                gate.active("read", self.path)
            count = os.preadv(self._fd, [target[done:]], offset + done)
            if not count:
                self._shortened.set()
                target[done:] = bytes(len(target) - done)
                return
            done += count

    def chunks_with_data(self, chunk_bytes: int) -> Iterator[int]:
        """Numbers of the chunks that are not wholly in a hole, ascending (OSError)."""
        offset = 0
        while offset < self.size:
            try:
                data_start = os.lseek(self._fd, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                    return
                if error.errno != errno.EINVAL:
                    raise
                data_start = offset  # a device that knows no holes
            number = max(offset, data_start) // chunk_bytes
            if number * chunk_bytes >= self.size:
                return
            yield number
            offset = (number + 1) * chunk_bytes

    def warnings(self) -> tuple[str, ...]:
        """What happened to the file since it was opened."""
        if self._shortened.is_set():
            return (f"{self.path} became shorter while it was read; zeros stand for what is gone",)
        if not self.is_device and self._look() != self._stamp:
            return (f"{self.path} changed while it was read; the copy may mix old and new",)
        return ()

    def _look(self) -> tuple[int, int]:
        info = os.fstat(self._fd)
        return (info.st_size, info.st_mtime_ns)


def back_up_image(
    source: ImageSource,
    writer: ImageWriter,
    *,
    advance: Callable[[int], None] = lambda _count: None,
) -> ImageOutcome:
    """Read `source` into `writer`, which was made for its size, and close both ends' books.

    Args:
        source: what to read.
        writer: where to; closed when this returns.
        advance: told how many bytes were dealt with, as it goes.

    Raises:
        HoldfastError: the image cannot be read, or the store cannot take it.
    """
    chunk_bytes = writer.chunk_bytes
    done = read_bytes = 0
    with files.explained(f"reading {source.path}"):
        for number in source.chunks_with_data(chunk_bytes):
            for skipped in range(done, number):
                writer.put_zero(skipped)
            writer.fetch(number, _Fill(source, number * chunk_bytes))
            read_bytes += writer.length_of(number)
            advance(min((number + 1) * chunk_bytes, source.size) - done * chunk_bytes)
            done = number + 1
        for skipped in range(done, writer.chunk_count):
            writer.put_zero(skipped)
        advance(max(0, source.size - done * chunk_bytes))
    writer.close()
    return ImageOutcome(source.size, read_bytes, source.size - read_bytes, source.warnings())


@dataclass(frozen=True, slots=True)
class _Fill:
    """Reads one chunk's bytes, in a worker's thread."""

    source: ImageSource
    offset: int

    def __call__(self, target: memoryview) -> None:
        with files.explained(f"reading {self.source.path}"):
            self.source.read_into(target, self.offset)
