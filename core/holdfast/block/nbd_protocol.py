"""Network Block Device: numbers, messages and their bytes. All integers are big-endian.

Handshake (fixed newstyle)
    server  8 "NBDMAGIC"  8 "IHAVEOPT"  2 flags          client  4 flags
    option  8 "IHAVEOPT"  4 option  4 length  data
    reply   8 0x3e889045565a9  4 option  4 type  4 length  data
Transmission
    request           4 0x25609513  2 flags  2 type  8 cookie  8 offset  4 length  [data]
    simple reply      4 0x67446698  4 error  8 cookie  [data]
    structured reply  4 0x668e33ef  2 flags  2 type  8 cookie  4 length  payload

Source: the NBD protocol document, doc/proto.md of the NetworkBlockDevice project.
"""

import errno
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from holdfast.errors import HoldfastError
from holdfast.units import KIB, MIB

NBD_MAGIC: Final = b"NBDMAGIC"
OPTION_MAGIC: Final = b"IHAVEOPT"
OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9
REQUEST_MAGIC: Final = 0x25609513
SIMPLE_MAGIC: Final = 0x67446698
STRUCTURED_MAGIC: Final = 0x668E33EF

GREETING: Final = struct.Struct(">8s8sH")
CLIENT_FLAGS: Final = struct.Struct(">I")
OPTION: Final = struct.Struct(">8sII")
OPTION_REPLY: Final = struct.Struct(">QIII")
REQUEST: Final = struct.Struct(">IHHQQI")
SIMPLE: Final = struct.Struct(">IIQ")
STRUCTURED: Final = struct.Struct(">IHHQI")
EXPORT_INFO: Final = struct.Struct(">HQH")
BLOCK_SIZES: Final = struct.Struct(">HIII")
EXTENT: Final = struct.Struct(">II")
HOLE: Final = struct.Struct(">QI")

NAME_BYTES_MAX: Final = 4096
OPTION_BYTES_MAX: Final = 64 * KIB
PAYLOAD_BYTES_MAX: Final = 32 * MIB
EXTENTS_MAX: Final = 131_072
ERROR_TEXT_BYTES_MAX: Final = 4096
REPLY_ERROR: Final = 1 << 31
CHUNK_ERROR: Final = 1 << 15
DONE: Final = 1
NO_ZEROES_PADDING: Final = 124

BASE_ALLOCATION: Final = "base:allocation"
DIRTY_PREFIX: Final = "qemu:dirty-bitmap:"
STATE_HOLE_ZERO: Final = 3
STATE_ZERO: Final = 2

FIXED_NEWSTYLE: Final = 1
NO_ZEROES: Final = 2


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_POLICY = 0x80000002
    ERR_INVALID = 0x80000003
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006
    ERR_SHUTDOWN = 0x80000007
    ERR_TOO_BIG = 0x80000009


class Info(IntEnum):
    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    HAS_FLAGS = 1
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8
    FAST_ZERO = 16


class Chunk(IntEnum):
    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


class NbdError(HoldfastError):
    """The other side broke the protocol, refused, or went away."""

    kind = "nbd"


_ERRNOS: Final = frozenset(
    (
        errno.EPERM,
        errno.EIO,
        errno.ENOMEM,
        errno.EINVAL,
        errno.ENOSPC,
        errno.EOVERFLOW,
        errno.ENOTSUP,
        errno.ESHUTDOWN,
    )
)


def wire_errno(error: OSError) -> int:
    """The number a client is told: one of the protocol's eight, EINVAL for all others."""
    number = errno.ENOSPC if error.errno in (errno.EDQUOT, errno.EFBIG) else error.errno
    return number if number in _ERRNOS else errno.EINVAL


@dataclass(frozen=True, slots=True)
class Request:
    """One command of a client; `kind` may be no Command at all."""

    flags: int
    kind: int
    cookie: int
    offset: int
    length: int

    def encode(self) -> bytes:
        return REQUEST.pack(
            REQUEST_MAGIC, self.flags, self.kind, self.cookie, self.offset, self.length
        )


def parse_request(data: bytes) -> Request:
    """NbdError when the magic is wrong: the stream cannot be followed any more."""
    magic, flags, kind, cookie, offset, length = REQUEST.unpack(data)
    if magic != REQUEST_MAGIC:
        raise NbdError(f"NBD peer sent the magic {magic:#x} instead of a request")
    return Request(flags, kind, cookie, offset, length)


def option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def option_request(option: int, data: bytes = b"") -> bytes:
    return OPTION.pack(OPTION_MAGIC, option, len(data)) + data


def simple_reply(cookie: int, error: int = 0) -> bytes:
    return SIMPLE.pack(SIMPLE_MAGIC, error, cookie)


def chunk_header(cookie: int, kind: int, length: int, *, done: bool) -> bytes:
    return STRUCTURED.pack(STRUCTURED_MAGIC, DONE if done else 0, kind, cookie, length)


def error_chunk(cookie: int, number: int, text: str) -> bytes:
    message = text.encode()[:ERROR_TEXT_BYTES_MAX]
    payload = struct.pack(">IH", number, len(message)) + message
    return chunk_header(cookie, Chunk.ERROR, len(payload), done=True) + payload


def name_bytes(name: str) -> bytes:
    data = name.encode()
    return struct.pack(">I", len(data)) + data


class OptionData:
    """Reads the data of an option; every step raises NbdError when it does not fit."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise NbdError("an NBD option is shorter than it says")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def short(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def text(self) -> str:
        size = self.number()
        if size > NAME_BYTES_MAX:
            raise NbdError(f"an NBD name of {size} bytes is too long")
        return decoded_text(self._take(size))

    def end(self) -> None:
        if self._at != len(self._data):
            raise NbdError("an NBD option has bytes behind its end")

    def rest(self) -> bytes:
        return self._take(len(self._data) - self._at)


def decoded_text(data: bytes) -> str:
    """UTF-8 without NUL (NbdError)."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NbdError("an NBD string is not UTF-8") from error
    if "\0" in text:
        raise NbdError("an NBD string has a NUL in it")
    return text
