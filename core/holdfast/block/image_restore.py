"""Fixed chunks back onto a file or a block device.

A new file is made at full size and only data is written, so zeros stay holes, down to 4 KiB. An
existing target (an earlier, interrupted restore; a disk that differs little) is read and compared
chunk by chunk: what has the right digest already is neither fetched from the store nor rewritten.
"""

import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final

from holdfast.chunking.zero_runs import may_hold_zero_blocks, runs
from holdfast.datastore.index import Index
from holdfast.datastore.keys import EncryptionKey, chunk_digest
from holdfast.datastore.reader import ChunkReader
from holdfast.errors import NotFound, Refused
from holdfast.host import files, gate
from holdfast.units import MIB

_WORKERS: Final = 2
_WINDOW: Final = 4
_ZERO_CHUNK_BYTES: Final = 4 * MIB
_CHUNKS_BEHIND: Final = files.WRITE_BEHIND_BYTES // _ZERO_CHUNK_BYTES


class Target(Enum):
    """What to do about a target that exists."""

    NEW = "new"  # it must not exist
    RESUME = "resume"  # keep the chunks that are right already; make it when it is missing
    OVERWRITE = "overwrite"  # write everything without looking; make it when it is missing


class Action(Enum):
    """What happens to one chunk."""

    WRITE = "write"
    ZERO = "zero"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class RestoredImage:
    """What restoring one image amounted to, or would amount to in a dry run.

    Attributes:
        size: bytes of the image.
        written_bytes: bytes fetched from the store and written.
        zero_bytes: bytes that are zeros.
        kept_bytes: bytes that were right already.
    """

    size: int
    written_bytes: int
    zero_bytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class _Destination:
    """An open target; `fd` is None for a file that a dry run does not make."""

    fd: int | None
    path: str
    is_fresh: bool
    is_device: bool
    size: int


def restore_image(
    index: Index,
    chunks: ChunkReader,
    path: str,
    *,
    target: Target = Target.NEW,
    key: EncryptionKey | None = None,
    dry_run: bool = False,
    advance: Callable[[int], None] = lambda _count: None,
) -> RestoredImage:
    """Write the image behind `index` to `path`.

    A restore that fails leaves what it wrote; with Target.RESUME the next one continues there.

    Args:
        index: the image's chunks.
        chunks: where they come from.
        path: a file or block device.
        target: what to do when it exists.
        key: the key of an encrypted image; its chunks' digests depend on it.
        dry_run: write nothing, and say what would be written.
        advance: told how many bytes were dealt with, as it goes.

    Raises:
        Refused: the target exists and should not, is no file or device, or is too small a device.
        DamagedData: a chunk is missing or damaged.
        HoldfastError: the target cannot be read or written.
    """
    with (
        files.explained(f"restoring to {path}"),
        _opened(path, index.size_bytes, target=target, dry_run=dry_run) as destination,
    ):
        placer = _Placer(index, chunks, destination, target=target, key=key, dry_run=dry_run)
        totals = dict.fromkeys(Action, 0)
        for action, size in _in_parallel(placer.place, index.chunk_count):
            totals[action] += size
            advance(size)
        if destination.fd is not None and not dry_run:
            if not destination.is_device:
                files.truncate(destination.fd, index.size_bytes, path=path)
            files.fsync(destination.fd, path=path)
    return RestoredImage(
        size=index.size_bytes,
        written_bytes=totals[Action.WRITE],
        zero_bytes=totals[Action.ZERO],
        kept_bytes=totals[Action.KEEP],
    )


@contextmanager
def _opened(path: str, size: int, *, target: Target, dry_run: bool) -> Iterator[_Destination]:
    try:
        info = os.stat(path)
    except FileNotFoundError:
        info = None
    if info is None and _is_among_devices(path):
        raise NotFound(f"there is no device {path}")
    if info is not None and target is Target.NEW:
        raise Refused(f"{path} exists", hint="resume onto it, or overwrite it")
    fd = _open_target(path, info, dry_run=dry_run)
    try:
        is_device = info is not None and stat.S_ISBLK(info.st_mode)
        there = os.lseek(fd, 0, os.SEEK_END) if fd is not None else 0
        if is_device and there < size:
            raise Refused(f"{path} has {there} bytes, too few for an image of {size}")
        if fd is not None and not is_device and not dry_run and there < size:
            files.truncate(fd, size, path=path)
        yield _Destination(fd, path, info is None, is_device, there)
    finally:
        if fd is not None:
            os.close(fd)


def _is_among_devices(path: str) -> bool:
    """Whether a new file there would lie in memory among the devices, a mistyped one's place."""
    parent = os.path.dirname(os.path.abspath(path))
    return os.stat(parent).st_dev == os.stat("/dev").st_dev


def _open_target(path: str, info: os.stat_result | None, *, dry_run: bool) -> int | None:
    if info is None:
        return None if dry_run else files.create(path, mode=0o600)
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISBLK(info.st_mode):
        raise Refused(f"{path} is neither a file nor a block device")
    real = os.path.realpath(path)  # devices are often named through links
    return files.open_read(real) if dry_run else files.open_update(real)


class _Placer:
    """Decides and does what each chunk of the target needs; used by several threads."""

    def __init__(
        self,
        index: Index,
        chunks: ChunkReader,
        destination: _Destination,
        *,
        target: Target,
        key: EncryptionKey | None,
        dry_run: bool,
    ) -> None:
        self._index = index
        self._chunks = chunks
        self._to = destination
        self._key = key
        self._dry_run = dry_run
        self._compares = target is Target.RESUME and not destination.is_fresh
        self._zero_digest = chunk_digest(bytes(_ZERO_CHUNK_BYTES), key)
        self._local = threading.local()

    def place(self, number: int) -> tuple[Action, int]:
        """Bring chunk `number` to the target; what was done to how many bytes."""
        digest = self._index.digest_at(number)
        start, end = self._index.range_at(number)
        size = end - start
        is_zero = digest == self._zero_digest and size == _ZERO_CHUNK_BYTES
        if self._compares and self._is_right(digest, start, size, is_zero=is_zero):
            return Action.KEEP, size
        if is_zero:
            if not self._to.is_fresh and not self._is_hole(start, size):
                self._write(bytes(size), start)
            return Action.ZERO, size
        if not self._dry_run:
            self._write_chunk(self._chunks.read(digest, size), start)
            if not number % _CHUNKS_BEHIND:
                files.write_behind(self._fd(), start)
        return Action.WRITE, size

    def _write_chunk(self, data: bytes, start: int) -> None:
        """Write it; zeros inside stay holes in a file that was just made."""
        view = memoryview(data)
        if not self._to.is_fresh or not may_hold_zero_blocks(view):
            self._write(view, start)
            return
        for begin, end, is_zero in runs(view):
            if not is_zero:
                self._write(view[begin:end], start + begin)

    def _write(self, data: bytes | memoryview, start: int) -> None:
        if self._to.fd is not None and not self._dry_run:
            files.pwrite_all(self._to.fd, data, start, path=self._to.path)

    def _is_right(self, digest: bytes, start: int, size: int, *, is_zero: bool) -> bool:
        if start + size > self._to.size:
            return False
        if is_zero and self._is_hole(start, size):
            return True
        buffer = self._buffer(size)
        done = 0
        while done < size:
            if gate.active is not None:
                gate.active("read", self._to.path)
            count = os.preadv(self._fd(), [buffer[done:]], start + done)
            if not count:
                return False
            done += count
        return chunk_digest(buffer, self._key) == digest

    def _is_hole(self, start: int, size: int) -> bool:
        """Whether the target's file system holds nothing there, so that zeros are read."""
        if self._to.fd is None:
            return True
        if self._to.is_device:
            return False
        if start >= self._to.size:
            return True
        try:
            return os.lseek(self._to.fd, start, os.SEEK_DATA) >= start + size
        except OSError as error:
            return error.errno == errno.ENXIO

    def _fd(self) -> int:
        if self._to.fd is None:
            raise Refused(f"{self._to.path} is not open")
        return self._to.fd

    def _buffer(self, size: int) -> memoryview:
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None or len(buffer) < size:
            buffer = self._local.buffer = bytearray(size)
        return memoryview(buffer)[:size]


def _in_parallel(
    place: Callable[[int], tuple[Action, int]], count: int
) -> Iterator[tuple[Action, int]]:
    """Results of `place` for 0..count-1 in order, a few under way at once."""
    numbers = iter(range(count))
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="restore") as pool:
        waiting: deque[Future[tuple[Action, int]]] = deque(
            pool.submit(place, number) for number in islice(numbers, _WINDOW)
        )
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(place, number) for number in islice(numbers, 1))
        finally:
            for future in waiting:
                future.cancel()
