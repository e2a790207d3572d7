"""Both ends of NBD with bytes that nobody meant: an error or nothing, never a hang or a traceback."""

import random
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

from tests.harness.nbd import MemoryNode, serving_exports

from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_export import Export
from holdfast.block.nbd_protocol import NbdError, Option, Reply, option_reply, option_request
from holdfast.block.nbd_uri import NbdAddress
from holdfast.units import MIB

GREETING = b"NBDMAGICIHAVEOPT\x00\x03"
INFO = struct.pack(">HQH", 0, MIB, 0x0DED)
CONTEXT = struct.pack(">I", 1) + b"base:allocation"
ANSWER = b"".join(
    (
        GREETING,
        option_reply(Option.STRUCTURED_REPLY, Reply.ACK),
        option_reply(Option.SET_META_CONTEXT, Reply.META_CONTEXT, CONTEXT),
        option_reply(Option.SET_META_CONTEXT, Reply.ACK),
        option_reply(Option.GO, Reply.INFO, INFO),
        option_reply(Option.GO, Reply.ACK),
        struct.pack(">IHHQI", 0x668E33EF, 0, 1, 1, 12) + struct.pack(">Q", 0) + b"abcd",
        struct.pack(">IHHQI", 0x668E33EF, 1, 2, 1, 12) + struct.pack(">QI", 4, 4),
        struct.pack(">IHHQI", 0x668E33EF, 1, 5, 2, 12) + struct.pack(">III", 1, MIB, 3),
    )
)
ASKED = b"".join(
    (
        b"\0\0\0\3",
        option_request(Option.STRUCTURED_REPLY),
        option_request(Option.LIST),
        option_request(Option.GO, struct.pack(">I", 1) + b"d" + struct.pack(">HH", 1, 3)),
        struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 5) + b"hello",
        struct.pack(">IHHQQI", 0x25609513, 0, 0, 2, 0, 8),
        struct.pack(">IHHQQI", 0x25609513, 1, 6, 3, 4096, 8192),
        struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0),
    )
)


def _bent(rng: random.Random, data: bytes) -> bytes:
    """One thing wrong with `data`."""
    at = rng.randrange(len(data))
    match rng.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
        case 2:
            return data[:at] + data[at + rng.randrange(1, 9) :]
        case _:
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def test_the_server_outlives_every_client() -> None:
    rng = random.Random(77)
    with serving_exports(Export.of("d", MemoryNode(MIB))) as address:
        for _client in range(300):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(address.socket_path)
                with suppress(ConnectionError):
                    connection.sendall(_bent(rng, ASKED))
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
        with NbdClient.connect(address) as client:
            assert client.size_bytes == MIB


def test_the_client_says_what_is_wrong_with_a_server(tmp_path: Path) -> None:
    rng, wrong = random.Random(78), 0
    for number in range(300):
        path = str(tmp_path / f"s{number}")
        answer = ANSWER if number == 0 else _bent(rng, ANSWER)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            thread = threading.Thread(target=_say, args=(listener, answer))
            thread.start()
            try:
                client = NbdClient.connect(NbdAddress(export="d", socket_path=path), timeout_s=5)
                try:
                    assert len(client.read(0, 8)) == 8
                    assert sum(extent.length for extent in client.extents(0, MIB)) == MIB
                finally:
                    client.close()
            except (NbdError, OSError):
                wrong += 1
            finally:
                thread.join()
    assert 100 < wrong < 300


def _say(listener: socket.socket, answer: bytes) -> None:
    connection, _address = listener.accept()
    with suppress(OSError), connection:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
