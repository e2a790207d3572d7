"""An NBD server on asyncio: fixed newstyle, structured replies, several clients at once.

Each connection has one task that reads requests and up to 16 that answer them, so replies leave out
of order. Payloads under way are bounded per connection. A client that sends nonsense gets an error
where the protocol allows one and is dropped where the stream cannot be followed any more.
"""

import asyncio
import errno
import os
import socket
import ssl
import stat
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from holdfast.block.nbd_export import Export, Status
from holdfast.block.nbd_handshake import Goodbye, Handshake, Session
from holdfast.block.nbd_protocol import (
    EXTENT,
    HOLE,
    PAYLOAD_BYTES_MAX,
    REQUEST,
    Chunk,
    Command,
    CommandFlag,
    NbdError,
    Request,
    chunk_header,
    error_chunk,
    parse_request,
    simple_reply,
    wire_errno,
)
from holdfast.block.node import BlockNode, Buffer, Extent, check_range
from holdfast.errors import BadRequest, Busy, HoldfastError
from holdfast.host import files
from holdfast.units import MIB

HANDSHAKE_S: Final = 10
CONNECTIONS_MAX: Final = 64
REQUESTS_MAX: Final = 16
BYTES_MAX: Final = 64 * MIB  # of payload under way in one connection
_BUFFER_BYTES: Final = 4 * MIB
_ALLOWED: Final = {
    Command.READ: CommandFlag.FUA | CommandFlag.DF,
    Command.WRITE: CommandFlag.FUA,
    Command.FLUSH: CommandFlag.FUA,
    Command.TRIM: CommandFlag.FUA,
    Command.CACHE: CommandFlag.FUA,
    Command.WRITE_ZEROES: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
    Command.BLOCK_STATUS: CommandFlag.FUA | CommandFlag.REQ_ONE,
}
_CHANGES: Final = (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)


class _Connection:
    """A client after its handshake."""

    def __init__(
        self, reader: StreamReader, writer: StreamWriter, export: Export, session: Session
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._export = export
        self._structured = session.has_structured
        is_ours = session.contexts_of == export.name
        self._contexts = session.contexts if is_ours else []
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0

    async def serve(self) -> None:
        """Answer until the client leaves (NbdError, IncompleteReadError, OSError)."""
        try:
            while True:
                request = parse_request(await self._reader.readexactly(REQUEST.size))
                if request.kind == Command.DISC:
                    break
                data = await self._payload(request)
                await self._room(request)
                task = asyncio.ensure_future(self._answer(request, data))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _payload(self, request: Request) -> bytes:
        if request.kind != Command.WRITE:
            return b""
        if request.length > PAYLOAD_BYTES_MAX:
            text = f"len ({request.length}) is larger than max len ({PAYLOAD_BYTES_MAX})"
            self._fail(request, errno.EINVAL, text)
            await self._writer.drain()
            raise NbdError(f"NBD client sent a write that is too long: {text}")
        return await self._reader.readexactly(request.length)

    async def _room(self, request: Request) -> None:
        is_payload = request.kind in (Command.READ, Command.WRITE)
        size = min(request.length, PAYLOAD_BYTES_MAX) if is_payload else 0
        while len(self._tasks) >= REQUESTS_MAX or (self._tasks and self._bytes + size > BYTES_MAX):
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self._bytes += size

    async def _answer(self, request: Request, data: bytes) -> None:
        try:
            await self._carry_out(request, data)
        except OSError as error:
            if isinstance(error, ConnectionError):
                return
            text = error.strerror or str(error)
            self._fail(request, wire_errno(error), text)
        except HoldfastError as error:
            self._fail(request, errno.EIO, error.message)
        except Exception:
            self._fail(request, errno.EIO, "internal error")  # a client must never wait for ever
            raise
        finally:
            if request.kind in (Command.READ, Command.WRITE):
                self._bytes -= min(request.length, PAYLOAD_BYTES_MAX)
        with suppress(ConnectionError):
            await self._writer.drain()

    def _fail(self, request: Request, number: int, text: str) -> None:
        if self._structured:
            self._writer.write(error_chunk(request.cookie, number, text))
        else:
            self._writer.write(simple_reply(request.cookie, number))

    def _check(self, request: Request) -> None:
        if request.kind not in _ALLOWED:
            raise OSError(errno.EINVAL, f"invalid request type ({request.kind}) received")
        command = Command(request.kind)
        if request.flags & ~_ALLOWED[command]:
            raise OSError(errno.EINVAL, f"unsupported flags for command {command.name}")
        if command in _CHANGES and self._export.writer is None:
            raise OSError(errno.EPERM, "Export is read-only")
        if command is Command.READ and request.length > PAYLOAD_BYTES_MAX:
            text = f"len ({request.length}) is larger than max len ({PAYLOAD_BYTES_MAX})"
            raise OSError(errno.EINVAL, text)
        if command is not Command.FLUSH:
            check_range(self._export.node.size_bytes, request.offset, request.length)

    async def _carry_out(self, request: Request, data: bytes) -> None:
        self._check(request)
        if request.kind == Command.READ:
            await self._read(request)
            return
        if request.kind == Command.BLOCK_STATUS:
            await self._block_status(request)
            return
        if request.kind != Command.CACHE and self._export.writer is not None:
            await _change(self._export.writer, request, data)
        self._writer.write(simple_reply(request.cookie))

    async def _read(self, request: Request) -> None:
        node, offset, length = self._export.node, request.offset, request.length
        if not self._structured:
            data = await node.read(offset, length) if length else b""
            self._writer.write(simple_reply(request.cookie))
            self._writer.write(data)
            return
        if not length:
            self._writer.write(chunk_header(request.cookie, Chunk.NONE, 0, done=True))
            return
        if request.flags & CommandFlag.DF:
            extents = [Extent(offset, length, is_zero=False)]
        else:
            extents = _clipped(await node.extents(offset, length), offset, length)
        for extent in extents:
            is_last = extent.end == offset + length
            if extent.is_zero:
                header = chunk_header(request.cookie, Chunk.OFFSET_HOLE, HOLE.size, done=is_last)
                self._writer.write(header + HOLE.pack(extent.offset, extent.length))
                continue
            data = await node.read(extent.offset, extent.length)
            self._data_chunk(request, extent, data, done=is_last)

    def _data_chunk(self, request: Request, extent: Extent, data: Buffer, *, done: bool) -> None:
        length = 8 + extent.length
        header = chunk_header(request.cookie, Chunk.OFFSET_DATA, length, done=done)
        self._writer.write(header + struct.pack(">Q", extent.offset))
        self._writer.write(data)

    async def _block_status(self, request: Request) -> None:
        if not self._contexts:
            raise OSError(errno.EINVAL, "no block status context was chosen")
        if not request.length:
            raise OSError(errno.EINVAL, "need non-zero length")
        numbers = {context: number for number, context in enumerate(self._export.contexts)}
        replies: list[tuple[int, Status]] = []
        for context in self._contexts:
            source = self._export.contexts[context]
            status = await source(request.offset, request.length)
            if request.flags & CommandFlag.REQ_ONE:
                status = status[:1]
            replies.append((numbers[context], status))
        for place, (number, status) in enumerate(replies, 1):
            extents = b"".join(EXTENT.pack(length, flags) for length, flags in status)
            is_last = place == len(replies)
            size = 4 + len(extents)
            header = chunk_header(request.cookie, Chunk.BLOCK_STATUS, size, done=is_last)
            self._writer.write(header + struct.pack(">I", number) + extents)


async def _change(node: BlockNode, request: Request, data: bytes) -> None:
    match request.kind:
        case Command.WRITE:
            await node.write(request.offset, data)
        case Command.WRITE_ZEROES:
            await node.write_zeroes(request.offset, request.length)
        case Command.TRIM:
            await node.discard(request.offset, request.length)
    if request.kind == Command.FLUSH or request.flags & CommandFlag.FUA:
        await node.flush()


def _clipped(extents: Sequence[Extent], offset: int, length: int) -> list[Extent]:
    found: list[Extent] = []
    for extent in extents:
        start, end = max(extent.offset, offset), min(extent.end, offset + length)
        if start < end:
            found.append(Extent(start, end - start, extent.is_zero))
    return found


def make_way(path: str) -> None:
    """Remove the socket a dead server left at `path` (Busy, BadRequest; see start_unix)."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise BadRequest(f"{path} exists and is no socket; name another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise Busy(f"a server listens at {path} already")
    with suppress(FileNotFoundError):
        files.unlink(path)


class NbdServer:
    """Serves exports on a unix socket or on the loopback interface.

    Attributes:
        exports: by name; may change while the server runs.
        tls: when given, clients must speak TLS.
    """

    def __init__(self, exports: Mapping[str, Export], *, tls: ssl.SSLContext | None = None) -> None:
        self.exports = dict(exports)
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._path: str | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start_unix(self, path: str) -> None:
        """Listen on a socket only its owner may use.

        Raises:
            Busy: a server listens there. BadRequest: the path is something else than a socket.
            OSError: the system's own complaint.
        """
        make_way(path)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._client, path, limit=_BUFFER_BYTES)
        finally:
            os.umask(before)
        self._path = path

    async def start_tcp(self, host: str, port: int) -> int:
        """Listen on a port, 0 for any; the port (OSError)."""
        self._server = await asyncio.start_server(self._client, host, port, limit=_BUFFER_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Take no more clients, drop those that are connected, remove the socket."""
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        if self._path is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    async def _client(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._clients.add(task)
        with suppress(OSError, AttributeError):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            handshake = Handshake(reader, writer, self.exports, self.tls)
            async with asyncio.timeout(HANDSHAKE_S):
                export = await handshake.run()
            await _Connection(reader, writer, export, handshake.session).serve()
        except (Goodbye, NbdError, asyncio.IncompleteReadError, OSError):
            pass  # the client left or has to; what it was told stands
        except asyncio.CancelledError:
            if self._server is None or self._server.is_serving():
                raise
        finally:
            self._clients.discard(task)
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
