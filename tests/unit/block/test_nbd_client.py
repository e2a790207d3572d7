"""The NBD client against servers that lie, cut short, or answer out of order."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_protocol import NbdError, Option, Reply, option_reply
from holdfast.block.nbd_uri import NbdAddress
from holdfast.errors import BadRequest
from holdfast.units import MIB

GREETING = b"NBDMAGICIHAVEOPT\x00\x03"
INFO = struct.pack(">HQH", 0, MIB, 0x0DED)
SIZES = struct.pack(">HIII", 3, 1, 4096, 32 * MIB)
CONTEXT = struct.pack(">I", 7) + b"base:allocation"
HANDSHAKE = (
    GREETING
    + option_reply(Option.STRUCTURED_REPLY, Reply.ACK)
    + option_reply(Option.SET_META_CONTEXT, Reply.META_CONTEXT, CONTEXT)
    + option_reply(Option.SET_META_CONTEXT, Reply.ACK)
    + option_reply(Option.GO, Reply.INFO, INFO)
    + option_reply(Option.GO, Reply.INFO, SIZES)
    + option_reply(Option.GO, Reply.ACK)
)


@contextmanager
def _says(tmp_path: Path, answer: bytes | Callable[[socket.socket], None]) -> Iterator[NbdAddress]:
    """A server that says something, whatever it is asked."""
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)

    def serve() -> None:
        connection, _address = listener.accept()
        with suppress(ConnectionError), connection:
            if isinstance(answer, bytes):
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            else:
                answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield NbdAddress(export="d", socket_path=path)
    finally:
        thread.join()
        listener.close()


BAD_HANDSHAKES = {
    "nothing": b"",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n",
    "the old protocol": b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\x00\x00",
    "not fixed newstyle": b"NBDMAGICIHAVEOPT\x00\x00",
    "a reply with another magic": GREETING + b"x" * 20,
    "a reply to another option": GREETING + option_reply(Option.GO, Reply.ACK),
    "a reply of four gigabytes": GREETING + struct.pack(">QIII", 0x3E889045565A9, 8, 3, 0xFFFFFFFF),
    "no size": HANDSHAKE.replace(INFO, SIZES),
    "a size of 2**63": HANDSHAKE.replace(INFO, struct.pack(">HQH", 0, 1 << 63, 1)),
    "an odd block size": HANDSHAKE.replace(SIZES, struct.pack(">HIII", 3, 3, 4096, MIB)),
    "a largest block below the preferred": HANDSHAKE.replace(
        SIZES, struct.pack(">HIII", 3, 1, 4096, 512)
    ),
    "a context without a number": HANDSHAKE.replace(CONTEXT, b"\0" * len(CONTEXT[:3])),
    "cut in the middle": HANDSHAKE[:-9],
}


@pytest.mark.parametrize("answer", BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES.keys())
def test_bad_handshakes_are_one_clear_error(answer: bytes, tmp_path: Path) -> None:
    with _says(tmp_path, answer) as address, pytest.raises(NbdError, match=r"NBD|option"):
        NbdClient.connect(address)


def _chunk(kind: int, payload: bytes, *, cookie: int = 1, flags: int = 1) -> bytes:
    return struct.pack(">IHHQI", 0x668E33EF, flags, kind, cookie, len(payload)) + payload


BAD_ANSWERS = {
    "another magic": b"\x12\x34\x56\x78" + bytes(16),
    "a cookie never sent": _chunk(0, b"", cookie=99),
    "a simple reply": struct.pack(">IIQ", 0x67446698, 0, 1) + bytes(8),
    "nothing at all": _chunk(0, b""),
    "too little data": _chunk(1, struct.pack(">Q", 0) + b"1234"),
    "too much data": _chunk(1, struct.pack(">Q", 0) + bytes(9)),
    "data for another place": _chunk(1, struct.pack(">Q", 4096) + bytes(8)),
    "data without an offset": _chunk(1, b"123"),
    "the same data twice": _chunk(1, struct.pack(">Q", 0) + b"1234", flags=0)
    + _chunk(1, struct.pack(">Q", 0) + b"1234"),
    "a hole of four gigabytes": _chunk(2, struct.pack(">QI", 0, 0xFFFFFFFF)),
    "a hole with more bytes": _chunk(2, struct.pack(">QI", 0, 8) + b"1"),
    "an empty hole": _chunk(2, struct.pack(">QI", 0, 0)),
    "a chunk of four gigabytes": struct.pack(">IHHQI", 0x668E33EF, 1, 1, 1, 0xFFFFFFFF)
    + struct.pack(">Q", 0),
    "an error that is too short": _chunk(0x8001, b"123"),
    "block status": _chunk(5, struct.pack(">III", 7, 8, 0)),
    "an unknown chunk": _chunk(77, b"12345678"),
    "cut in the middle": _chunk(1, struct.pack(">Q", 0) + bytes(8))[:-3],
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_bad_answers_to_a_read_are_one_clear_error(answer: bytes, tmp_path: Path) -> None:
    with _says(tmp_path, HANDSHAKE + answer) as address:
        client = NbdClient.connect(address)
        with pytest.raises(NbdError, match="NBD"):
            client.read(0, 8)
        client.close()


BAD_STATUS = {
    "nothing": _chunk(0, b""),
    "no extents": _chunk(5, struct.pack(">I", 7)),
    "half an extent": _chunk(5, struct.pack(">II", 7, 8)),
    "an extent of no length": _chunk(5, struct.pack(">III", 7, 0, 0)),
    "another context": _chunk(5, struct.pack(">III", 8, 8, 0)),
    "a status of four gigabytes": struct.pack(">IHHQI", 0x668E33EF, 1, 5, 1, 0xFFFFFFFC),
}


@pytest.mark.parametrize("answer", BAD_STATUS.values(), ids=BAD_STATUS.keys())
def test_bad_block_status_is_one_clear_error(answer: bytes, tmp_path: Path) -> None:
    with _says(tmp_path, HANDSHAKE + answer) as address:
        client = NbdClient.connect(address)
        with pytest.raises(NbdError, match="NBD"):
            list(client.extents(0, MIB))
        client.close()


def test_pieces_and_replies_may_come_in_any_order(tmp_path: Path) -> None:
    def backwards(connection: socket.socket) -> None:
        connection.sendall(HANDSHAKE)
        asked = b""
        while asked.count(b"\x25\x60\x95\x13") < 2:
            asked += connection.recv(65536)
        for cookie, start, fill in ((2, MIB, b"B"), (1, 0, b"A")):
            for part in (MIB - 8, 0):
                size = 8 if part else MIB - 8
                payload = struct.pack(">Q", start + part) + fill * size
                connection.sendall(_chunk(1, payload, cookie=cookie, flags=0))
            connection.sendall(_chunk(0, b"", cookie=cookie))
        while connection.recv(65536):
            pass

    with _says(tmp_path, backwards) as address:
        client = NbdClient.connect(address)
        assert client.read(0, 2 * MIB) == b"A" * MIB + b"B" * MIB
        client.close()


def test_status_is_asked_again_until_all_is_covered_and_cut_at_the_end(tmp_path: Path) -> None:
    first = _chunk(5, struct.pack(">III", 7, 4096, 3))
    second = _chunk(5, struct.pack(">III", 7, 10 * MIB, 0), cookie=2)
    with _says(tmp_path, HANDSHAKE + first + second) as address:
        client = NbdClient.connect(address)
        extents = [(e.offset, e.length, e.is_zero) for e in client.extents(0, MIB)]
        assert extents == [(0, 4096, True), (4096, MIB - 4096, False)]
        client.close()


def test_no_server_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NbdError, match="no NBD server answers"):
        NbdClient.connect(NbdAddress(socket_path=str(tmp_path / "none")))


def test_addresses_are_read_and_nonsense_refused() -> None:
    address = NbdAddress.parse("nbd+unix:///disk%200?socket=/run/x.sock")
    assert (address.export, address.socket_path) == ("disk 0", "/run/x.sock")
    address = NbdAddress.parse("nbds://host/e?tls-certificates=/etc/tls")
    assert (address.host, address.port, address.uses_tls) == ("host", 10809, True)
    for wrong in ("http://x/", "nbd+unix:///x", "nbd://h:99999/", "nbd://h/?socket=/x", "nbd"):
        with pytest.raises(BadRequest):
            NbdAddress.parse(wrong)
