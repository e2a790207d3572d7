"""NBD servers of ours in a thread, nodes in memory, and other people's servers as processes."""

import asyncio
import errno
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.block.nbd_export import Export
from holdfast.block.nbd_server import NbdServer
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.node import Buffer, Extent, check_range

GRAIN = 4096


class MemoryNode:
    """A node in memory that allocates 4 KiB at a time, as a file system would."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.allocated: set[int] = set()
        self.flushes = 0
        self.fails_at: int | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    async def read(self, offset: int, length: int) -> Buffer:
        check_range(len(self.data), offset, length)
        if self.fails_at is not None and offset <= self.fails_at < offset + length:
            raise OSError(errno.EIO, "the disk is broken")
        return bytes(self.data[offset : offset + length])

    async def extents(self, offset: int, length: int) -> Sequence[Extent]:
        found, end = [], offset + length
        while offset < end:
            is_data = offset // GRAIN in self.allocated
            stop = offset
            while stop < end and (stop // GRAIN in self.allocated) == is_data:
                stop = (stop // GRAIN + 1) * GRAIN
            stop = min(stop, end)
            found.append(Extent(offset, stop - offset, is_zero=not is_data))
            offset = stop
        return found

    async def write(self, offset: int, data: Buffer) -> None:
        check_range(len(self.data), offset, len(data))
        self.data[offset : offset + len(data)] = data
        self.allocated |= set(range(offset // GRAIN, -(-(offset + len(data)) // GRAIN)))

    async def write_zeroes(self, offset: int, length: int) -> None:
        check_range(len(self.data), offset, length)
        self.data[offset : offset + length] = bytes(length)
        self.allocated -= set(range(-(-offset // GRAIN), (offset + length) // GRAIN))

    async def discard(self, offset: int, length: int) -> None:
        await self.write_zeroes(offset, length)

    async def flush(self) -> None:
        self.flushes += 1


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def serving(make: Callable[[], NbdServer]) -> Iterator[str]:
    """A server of ours on a unix socket, whose path comes back."""
    with tempfile.TemporaryDirectory() as directory, event_loop() as loop:
        path = str(Path(directory) / "nbd.sock")

        async def start() -> NbdServer:
            server = make()
            await server.start_unix(path)
            return server

        server = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield path
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()


@contextmanager
def serving_exports(*exports: Export) -> Iterator[NbdAddress]:
    """The address of the first of some exports."""
    with serving(lambda: NbdServer({export.name: export for export in exports})) as path:
        yield NbdAddress(export=exports[0].name, socket_path=path)


@contextmanager
def serving_process(command: Sequence[str], socket_path: Path) -> Iterator[None]:
    """Another program that listens on `socket_path`; ended afterwards."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        for _attempt in range(1000):
            if socket_path.exists():
                break
            if process.poll() is not None:
                _out, errors = process.communicate()
                raise AssertionError(errors.decode())
            threading.Event().wait(0.01)
        yield
    finally:
        process.terminate()
        process.communicate()
