"""A server of the replication protocol that says exactly what a test wants, however wrong.

Just enough of PostgreSQL's protocol for a client to connect without a password over a unix socket;
each command that it sends is answered with the next bytes of the script, then the connection ends.
"""

import socket
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PORT = 5432


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message of the server."""
    return kind + struct.pack(">I", len(body) + 4) + body


def rows(*values: Sequence[str]) -> bytes:
    """A result of text columns."""
    width = len(values[0])
    column = b"c\0" + struct.pack(">IhIhih", 0, 0, 25, -1, -1, 0)
    out = message(b"T", struct.pack(">h", width) + column * width)
    for row in values:
        cells = b"".join(struct.pack(">i", len(cell)) + cell.encode() for cell in row)
        out += message(b"D", struct.pack(">h", width) + cells)
    return out + message(b"C", b"SELECT\0")


def copy_out(*pieces: bytes) -> bytes:
    """A COPY to the client."""
    data = b"".join(message(b"d", piece) for piece in pieces)
    return message(b"H", struct.pack(">bh", 0, 0)) + data + message(b"c") + message(b"C", b"COPY\0")


def failed(state: str, text: str) -> bytes:
    """An error, after which the next command may come."""
    return message(b"E", f"SERROR\0C{state}\0M{text}\0\0".encode()) + READY


READY = message(b"Z", b"I")
DONE = message(b"C", b"SELECT\0") + READY


@contextmanager
def scripted_server(*answers: bytes) -> Iterator[str]:
    """A connection string that leads to it, for one connection."""
    with (
        tempfile.TemporaryDirectory(prefix="hfpg-", dir="/tmp") as place,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        listening.bind(str(Path(place) / f".s.PGSQL.{_PORT}"))
        listening.listen(1)
        talking = threading.Thread(target=_talk, args=(listening, answers))
        talking.start()
        try:
            yield f"host={place} user=x dbname=x gssencmode=disable"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            talking.join(30)


def _talk(listening: socket.socket, answers: Sequence[bytes]) -> None:
    with suppress(OSError):
        client, _address = listening.accept()
        with client:
            _read(client, _length(client))
            client.sendall(message(b"R", struct.pack(">I", 0)) + READY)
            for answer in answers:
                _read(client, 1)
                _read(client, _length(client))
                client.sendall(answer)


def _length(client: socket.socket) -> int:
    return int(struct.unpack(">I", _read(client, 4))[0]) - 4


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data
