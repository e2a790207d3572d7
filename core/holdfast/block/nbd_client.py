"""An NBD client on a plain socket, for threads: requests are pipelined, replies come in any order.

Data is received straight into the caller's buffer without the interpreter lock. Nothing the server
says is believed: lengths, offsets, cookies and counts are checked before anything is allocated, and
a read is complete only when its chunks cover it without gap or overlap.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NoReturn, Self

from holdfast.block.nbd_protocol import (
    BASE_ALLOCATION,
    BLOCK_SIZES,
    CHUNK_ERROR,
    CLIENT_FLAGS,
    DONE,
    EXPORT_INFO,
    EXTENT,
    EXTENTS_MAX,
    FIXED_NEWSTYLE,
    GREETING,
    HOLE,
    NBD_MAGIC,
    NO_ZEROES,
    OPTION_BYTES_MAX,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    PAYLOAD_BYTES_MAX,
    REPLY_ERROR,
    SIMPLE_MAGIC,
    STATE_ZERO,
    STRUCTURED_MAGIC,
    Chunk,
    Command,
    ExportFlag,
    Info,
    NbdError,
    Option,
    OptionData,
    Reply,
    Request,
    decoded_text,
    name_bytes,
    option_request,
)
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.node import Buffer, Extent
from holdfast.units import GIB, KIB, MIB

TIMEOUT_S: Final = 60.0
WINDOW: Final = 8
PIECE_BYTES: Final = 1 * MIB
_STATUS_BYTES_MAX: Final = 1 * GIB
_REPLIES_MAX: Final = 10_000
_SIZE_BYTES_MAX: Final = 1 << 63
_OFFSET: Final = struct.Struct(">Q")
_ERROR: Final = struct.Struct(">IH")
_INFO: Final = struct.Struct(">H")


@dataclass(slots=True, eq=False)
class _Pending:
    """A request that has no complete answer yet."""

    offset: int
    length: int
    view: memoryview | None = None
    pieces: list[tuple[int, int]] = field(default_factory=list)
    status: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    error: OSError | None = None
    is_done: bool = False


class NbdClient:
    """One connection to one export; not for several threads at once.

    Attributes:
        size_bytes: of the export.
        flags: its transmission flags.
        contexts: numbers of the block status contexts the server agreed to, by name.
    """

    def __init__(self, connection: socket.socket, address: NbdAddress) -> None:
        self.address = address
        self.size_bytes = 0
        self.flags = ExportFlag(0)
        self.contexts: dict[str, int] = {}
        self.block_bytes_min = 1
        self.payload_bytes_max = PAYLOAD_BYTES_MAX
        self._socket = connection
        self._cookie = 0
        self._pending: dict[int, _Pending] = {}
        self._structured = False

    @classmethod
    def connect(
        cls,
        address: NbdAddress,
        *,
        contexts: Sequence[str] = (BASE_ALLOCATION,),
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Connect and choose the export.

        Raises:
            NbdError: no server, no such export, or not the protocol.
            BadRequest: TLS certificates cannot be read.
        """
        try:
            connection = _open_socket(address, timeout_s)
        except OSError as error:
            where = address.socket_path or f"{address.host}:{address.port}"
            raise NbdError(
                f"no NBD server answers at {where}: {error.strerror or error}"
            ) from error
        client = cls(connection, address)
        try:
            client._handshake(contexts)
        except BaseException:
            client._socket.close()
            raise
        return client

    # Bytes ---------------------------------------------------------------------------------------

    def _broken(self, what: str) -> NoReturn:
        self._socket.close()
        raise NbdError(f"NBD server does not follow the protocol: {what}")

    def _send(self, *parts: Buffer) -> None:
        try:
            for part in parts:
                self._socket.sendall(part)
        except OSError as error:
            self._socket.close()
            raise NbdError(f"NBD server went away: {error.strerror or error}") from error

    def _receive_into(self, view: memoryview) -> None:
        while view:
            try:
                got = self._socket.recv_into(view)
            except OSError as error:
                self._socket.close()
                raise NbdError(f"NBD server went away: {error.strerror or error}") from error
            if got == 0:
                self._socket.close()
                raise NbdError("NBD server closed the connection in the middle of an answer")
            view = view[got:]

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        self._receive_into(memoryview(data))
        return bytes(data)

    # Handshake -----------------------------------------------------------------------------------

    def _handshake(self, contexts: Sequence[str]) -> None:
        magic, option_magic, flags = GREETING.unpack(self._receive(GREETING.size))
        if magic != NBD_MAGIC:
            self._broken("it does not greet as one")
        if option_magic != OPTION_MAGIC or not flags & FIXED_NEWSTYLE:
            self._broken("it speaks the old protocol without options")
        self._send(CLIENT_FLAGS.pack(flags & (FIXED_NEWSTYLE | NO_ZEROES)))
        if self.address.uses_tls:
            self._start_tls()
        self._structured = self._option(Option.STRUCTURED_REPLY) is not None
        if self._structured and contexts:
            self._choose_contexts(contexts)
        self._go()

    def _start_tls(self) -> None:
        if self._option(Option.STARTTLS) is None:
            self._broken("it has no TLS")
        name = None if self.address.socket_path else self.address.host
        try:
            self._socket = self.address.tls_context().wrap_socket(
                self._socket, server_hostname=name
            )
        except OSError as error:
            raise NbdError(f"TLS with the NBD server failed: {error}") from error

    def _option(self, option: Option, data: bytes = b"") -> list[tuple[int, bytes]] | None:
        """Replies before the final ACK; None when the option is not supported (NbdError)."""
        self._send(option_request(option, data))
        replies: list[tuple[int, bytes]] = []
        for _number in range(_REPLIES_MAX):
            head = OPTION_REPLY.unpack(self._receive(OPTION_REPLY.size))
            magic, answered, kind, length = head
            if magic != OPTION_REPLY_MAGIC or answered != option:
                self._broken("an option reply has the wrong magic or option")
            if length > OPTION_BYTES_MAX:
                self._broken(f"an option reply of {length} bytes")
            payload = self._receive(length)
            if kind == Reply.ACK:
                return replies
            if kind == Reply.ERR_UNSUP and option in (Option.STRUCTURED_REPLY, Option.STARTTLS):
                return None
            if kind & REPLY_ERROR:
                text = payload.decode(errors="replace") or f"error {kind:#x}"
                if kind == Reply.ERR_UNKNOWN:
                    text = text or f"no export {self.address.export!r}"
                raise NbdError(f"NBD server refused {option.name}: {text}")
            replies.append((kind, payload))
        return self._broken("replies to an option without end")

    def _choose_contexts(self, contexts: Sequence[str]) -> None:
        query = name_bytes(self.address.export) + struct.pack(">I", len(contexts))
        query += b"".join(name_bytes(context) for context in contexts)
        for kind, payload in self._option(Option.SET_META_CONTEXT, query) or ():
            if kind != Reply.META_CONTEXT:
                self._broken(f"reply type {kind} to SET_META_CONTEXT")
            fields = OptionData(payload)
            number, name = fields.number(), decoded_text(fields.rest())
            if name in contexts:
                self.contexts[name] = number

    def _go(self) -> None:
        wanted = struct.pack(">HH", 1, Info.BLOCK_SIZE)
        has_size = False
        for kind, payload in (
            self._option(Option.GO, name_bytes(self.address.export) + wanted) or ()
        ):
            if kind != Reply.INFO or len(payload) < _INFO.size:
                self._broken(f"reply type {kind} to GO")
            info = int(_INFO.unpack_from(payload)[0])
            if info == Info.EXPORT:
                if len(payload) != EXPORT_INFO.size:
                    self._broken("an export information of the wrong size")
                _info, self.size_bytes, flags = EXPORT_INFO.unpack(payload)
                self.flags, has_size = ExportFlag(flags & 0xFFF), True
            elif info == Info.BLOCK_SIZE:
                self._block_sizes(payload)
        if not has_size or self.size_bytes >= _SIZE_BYTES_MAX:
            self._broken("it does not tell a believable size")

    def _block_sizes(self, payload: bytes) -> None:
        if len(payload) != BLOCK_SIZES.size:
            self._broken("block sizes of the wrong size")
        _info, minimum, preferred, maximum = BLOCK_SIZES.unpack(payload)
        is_power = minimum.bit_count() == 1 and minimum <= 64 * KIB
        if not is_power or maximum < preferred or maximum < minimum:
            self._broken(f"block sizes {minimum}, {preferred}, {maximum}")
        self.block_bytes_min = minimum
        self.payload_bytes_max = min(maximum, PAYLOAD_BYTES_MAX)

    # Requests ------------------------------------------------------------------------------------

    def _request(
        self, kind: Command, pending: _Pending, *, flags: int = 0, data: Buffer = b""
    ) -> _Pending:
        while len(self._pending) >= WINDOW:
            self._take_reply()
        self._cookie += 1
        request = Request(flags, kind, self._cookie, pending.offset, pending.length)
        self._pending[self._cookie] = pending
        self._send(request.encode())
        if len(data):
            self._send(data)
        return pending

    def _finish(self, pending: _Pending) -> None:
        while not pending.is_done:
            self._take_reply()
        if pending.error is not None:
            raise pending.error

    def _take_reply(self) -> None:
        head = self._receive(16)
        magic = int.from_bytes(head[:4], "big")
        if magic == SIMPLE_MAGIC:
            error, cookie = struct.unpack(">IQ", head[4:])
            pending = self._pending.get(cookie)
            if pending is None:
                self._broken(f"an answer to a question never asked ({cookie})")
            self._simple(pending, error)
            is_last = True
        elif magic == STRUCTURED_MAGIC and self._structured:
            flags, kind, cookie = struct.unpack(">HHQ", head[4:])
            pending = self._pending.get(cookie)
            if pending is None:
                self._broken(f"an answer to a question never asked ({cookie})")
            (length,) = struct.unpack(">I", self._receive(4))
            self._chunk(pending, kind, length)
            is_last = bool(flags & DONE)
        else:
            self._broken(f"a reply begins with {magic:#x}")
        if is_last:
            del self._pending[cookie]
            pending.is_done = True
            self._check_complete(pending)

    def _simple(self, pending: _Pending, error: int) -> None:
        if error:
            pending.error = OSError(error, os.strerror(error))
        elif pending.view is not None:
            if self._structured:
                self._broken("a simple reply to a read")
            self._receive_into(pending.view)
            pending.pieces.append((pending.offset, pending.offset + pending.length))

    def _chunk(self, pending: _Pending, kind: int, length: int) -> None:
        if kind & CHUNK_ERROR:
            self._error_chunk(pending, length)
        elif kind == Chunk.NONE and length == 0:
            pass
        elif kind == Chunk.OFFSET_DATA and pending.view is not None:
            if length <= _OFFSET.size:
                self._broken(f"a data chunk of {length} bytes")
            (offset,) = _OFFSET.unpack(self._receive(_OFFSET.size))
            self._receive_into(self._place(pending, offset, length - _OFFSET.size))
        elif kind == Chunk.OFFSET_HOLE and pending.view is not None and length == HOLE.size:
            offset, size = HOLE.unpack(self._receive(HOLE.size))
            view = self._place(pending, offset, size)
            view[:] = bytes(size)
        elif kind == Chunk.BLOCK_STATUS and pending.view is None:
            self._status_chunk(pending, length)
        else:
            self._broken(f"a chunk of type {kind} and {length} bytes")

    def _place(self, pending: _Pending, offset: int, size: int) -> memoryview:
        start = offset - pending.offset
        if size <= 0 or start < 0 or start + size > pending.length or pending.view is None:
            self._broken(f"data for {offset} that was not asked for")
        pending.pieces.append((offset, offset + size))
        return pending.view[start : start + size]

    def _error_chunk(self, pending: _Pending, length: int) -> None:
        if not _ERROR.size <= length <= OPTION_BYTES_MAX:
            self._broken(f"an error of {length} bytes")
        data = self._receive(length)
        number, size = _ERROR.unpack_from(data)
        text = data[_ERROR.size : _ERROR.size + size].decode(errors="replace")
        if pending.error is None:
            pending.error = OSError(number, text or os.strerror(number))

    def _status_chunk(self, pending: _Pending, length: int) -> None:
        count, rest = divmod(length - 4, EXTENT.size)
        if rest or not 0 < count <= 8 * EXTENTS_MAX:
            self._broken(f"a block status of {length} bytes")
        data = self._receive(length)
        (context,) = struct.unpack_from(">I", data)
        if context not in self.contexts.values() or context in pending.status:
            self._broken(f"block status for context {context}")
        pending.status[context] = list(EXTENT.iter_unpack(memoryview(data)[4:]))

    def _check_complete(self, pending: _Pending) -> None:
        if pending.view is None or pending.error is not None:
            return
        at = pending.offset
        for start, end in sorted(pending.pieces):
            if start != at:
                self._broken("the pieces of a read do not fit together")
            at = end
        if at != pending.offset + pending.length:
            self._broken("a read came back short")

    # What callers use ----------------------------------------------------------------------------

    def read_into(self, offset: int, view: memoryview, *, piece_bytes: int = PIECE_BYTES) -> None:
        """Fill `view` from `offset`, several requests at a time (NbdError, OSError)."""
        piece = min(piece_bytes, self.payload_bytes_max)
        sent = []
        for start in range(0, len(view), piece):
            part = view[start : start + piece]
            pending = _Pending(offset + start, len(part), part)
            sent.append(self._request(Command.READ, pending))
        self._finish_all(sent)

    def _finish_all(self, sent: list[_Pending]) -> None:
        failed = None
        for pending in sent:
            try:
                self._finish(pending)
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of `data`, several requests at a time (NbdError, OSError)."""
        view = memoryview(data).cast("B")
        piece = min(PIECE_BYTES, self.payload_bytes_max)
        sent = []
        for start in range(0, len(view), piece):
            part = view[start : start + piece]
            pending = _Pending(offset + start, len(part))
            sent.append(self._request(Command.WRITE, pending, data=part))
        self._finish_all(sent)

    def _simple_request(self, kind: Command, offset: int, length: int, flags: int = 0) -> None:
        self._finish(self._request(kind, _Pending(offset, length), flags=flags))

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range zero; by writing zeros when the server has no command for it."""
        step = 1 * GIB if self.flags & ExportFlag.SEND_WRITE_ZEROES else PIECE_BYTES
        for start in range(offset, offset + length, step):
            size = min(step, offset + length - start)
            if self.flags & ExportFlag.SEND_WRITE_ZEROES:
                self._simple_request(Command.WRITE_ZEROES, start, size)
            else:
                self.write(start, bytes(size))

    def trim(self, offset: int, length: int) -> None:
        if self.flags & ExportFlag.SEND_TRIM:
            self._simple_request(Command.TRIM, offset, length)

    def flush(self) -> None:
        if self.flags & ExportFlag.SEND_FLUSH:
            self._simple_request(Command.FLUSH, 0, 0)

    def status(self, context: str, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """(offset, length, flags) of a context that was agreed on, without gaps.

        Raises:
            NbdError: the server does not have the context, or answers nonsense.
            OSError: it refuses.
        """
        number = self.contexts.get(context)
        if number is None:
            raise NbdError(f"the NBD server does not offer {context}")
        end = offset + length
        while offset < end:
            size = min(_STATUS_BYTES_MAX, end - offset)
            pending = self._request(Command.BLOCK_STATUS, _Pending(offset, size))
            self._finish(pending)
            covered = offset
            for extent, flags in pending.status.get(number, ()):
                take = min(extent, end - covered)
                if take > 0:
                    yield covered, take, flags
                    covered += take
            if covered == offset:
                self._broken("a block status that covers nothing")
            offset = covered

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Where the export is known to be zero; all data when the server cannot tell."""
        if BASE_ALLOCATION not in self.contexts:
            yield Extent(offset, length, is_zero=False)
            return
        for start, size, flags in self.status(BASE_ALLOCATION, offset, length):
            yield Extent(start, size, bool(flags & STATE_ZERO))

    def close(self) -> None:
        """Say goodbye; errors do not matter any more."""
        with suppress(OSError, NbdError):
            self._send(Request(0, Command.DISC, 0, 0, 0).encode())
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _open_socket(address: NbdAddress, timeout_s: float) -> socket.socket:
    if not address.socket_path:
        connection = socket.create_connection((address.host, address.port), timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout_s)
        connection.connect(address.socket_path)
    except BaseException:
        connection.close()
        raise
    return connection
