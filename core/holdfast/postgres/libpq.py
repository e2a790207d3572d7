"""The few calls of PostgreSQL's client library that psql cannot make: replication with COPY.

libpq comes with psql and knows passwords, services, sockets and TLS as psql does. No call here
blocks for long: answers are awaited outside of the library, so that a signal is noticed.
Source: PostgreSQL manual, libpq, Asynchronous Command Processing and COPY.
"""

import ctypes
import select
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_void_p
from dataclasses import dataclass
from typing import Any, Final

from holdfast.errors import NotFound, TemporaryFailure
from holdfast.postgres.server import failure, one_line
from holdfast.units import KIB, MIB

_LIBRARY: Final = "libpq.so.5"
_CONNECTED: Final = 0
_COMMAND_OK, _TUPLES_OK, _COPY_OUT, _COPY_IN = 1, 2, 3, 4
_MESSAGE_BYTES_MAX: Final = 16 * MIB  # servers send tens of kilobytes
_PUT_BYTES: Final = 64 * KIB
_NOTICE = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)
_CALLS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "PQconnectdbParams": (c_void_p, (POINTER(c_char_p), POINTER(c_char_p), c_int)),
    "PQstatus": (c_int, (c_void_p,)),
    "PQerrorMessage": (c_char_p, (c_void_p,)),
    "PQfinish": (None, (c_void_p,)),
    "PQsocket": (c_int, (c_void_p,)),
    "PQsetNoticeProcessor": (c_void_p, (c_void_p, _NOTICE, c_void_p)),
    "PQsendQuery": (c_int, (c_void_p, c_char_p)),
    "PQconsumeInput": (c_int, (c_void_p,)),
    "PQisBusy": (c_int, (c_void_p,)),
    "PQgetResult": (c_void_p, (c_void_p,)),
    "PQresultStatus": (c_int, (c_void_p,)),
    "PQresultErrorField": (c_char_p, (c_void_p, c_int)),
    "PQntuples": (c_int, (c_void_p,)),
    "PQnfields": (c_int, (c_void_p,)),
    "PQgetvalue": (c_char_p, (c_void_p, c_int, c_int)),
    "PQclear": (None, (c_void_p,)),
    "PQgetCopyData": (c_int, (c_void_p, POINTER(c_void_p), c_int)),
    "PQfreemem": (None, (c_void_p,)),
    "PQputCopyData": (c_int, (c_void_p, c_char_p, c_int)),
    "PQputCopyEnd": (c_int, (c_void_p, c_char_p)),
}


_IGNORED: Final = _NOTICE(lambda _argument, _message: None)  # else it goes to standard error


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise NotFound(
            "libpq is not installed, without which no replication connection can be made",
            hint="install the PostgreSQL client programs",
        ) from None
    for name, (result, arguments) in _CALLS.items():
        call = getattr(library, name)
        call.restype, call.argtypes = result, arguments
    return library


@dataclass(frozen=True, slots=True)
class Answer:
    """One result of a command: rows of text, or the beginning of a COPY."""

    rows: tuple[tuple[str, ...], ...] = ()
    is_copy_out: bool = False
    is_copy_in: bool = False


class ReplicationConnection:
    """One connection to the server's replication protocol; close it.

    Args:
        connection: a libpq connection string or URI; empty for what the environment says.

    Raises:
        NotFound: libpq is not installed.
        TemporaryFailure: the server does not answer, or not to this role.
    """

    def __init__(self, connection: str = "") -> None:
        self._pq = _library()
        words = {
            "dbname": connection,
            "replication": "true",
            "client_encoding": "UTF8",
            "fallback_application_name": "holdfast",
        }
        names = (c_char_p * (len(words) + 1))(*(name.encode() for name in words))
        values = (c_char_p * (len(words) + 1))(
            *(value.encode("utf-8", "surrogateescape") for value in words.values())
        )
        self._connection: int | None = self._pq.PQconnectdbParams(names, values, 1)
        if self._pq.PQstatus(self._connection) != _CONNECTED:
            said = self._said()
            self.close()
            raise TemporaryFailure(
                f"no replication connection to the server: {said}",
                hint="the role needs REPLICATION, and pg_hba.conf a line for replication",
            )
        self._pq.PQsetNoticeProcessor(self._connection, _IGNORED, None)

    def close(self) -> None:
        """End the session, and with it whatever it was doing."""
        if self._connection is not None:
            self._pq.PQfinish(self._connection)
            self._connection = None

    def send(self, command: str) -> None:
        """Begin a command (TemporaryFailure)."""
        self._check(self._pq.PQsendQuery(self._connection, command.encode()))

    def execute(self, command: str) -> None:
        """A command whose answers do not matter (see answer)."""
        self.send(command)
        while self.answer() is not None:
            pass

    def answer(self) -> Answer | None:
        """The next answer to the command, None behind the last one.

        Raises:
            QueryFailed: the server refused.
            TemporaryFailure: the connection was lost.
        """
        while self._pq.PQisBusy(self._connection):
            self._await_input()
        result = self._pq.PQgetResult(self._connection)
        if not result:
            return None
        try:
            return self._read(result)
        finally:
            self._pq.PQclear(result)

    def copied(self) -> Iterator[bytes]:
        """The messages of a COPY from the server (TemporaryFailure); then ask for an answer."""
        buffer = c_void_p()
        while True:
            length = self._pq.PQgetCopyData(self._connection, byref(buffer), 1)
            if length > _MESSAGE_BYTES_MAX:
                self._pq.PQfreemem(buffer)
                raise TemporaryFailure("the server sent a message larger than any server sends")
            if length > 0:
                try:
                    data = ctypes.string_at(buffer, length)
                finally:
                    self._pq.PQfreemem(buffer)
                yield data
            elif length == 0:
                self._await_input()
            elif length == -1:
                return
            else:
                raise self._lost()

    def put(self, data: bytes) -> None:
        """All there is to a COPY to the server (TemporaryFailure); then ask for an answer."""
        for at in range(0, len(data), _PUT_BYTES):
            piece = data[at : at + _PUT_BYTES]
            self._check(self._pq.PQputCopyData(self._connection, piece, len(piece)))
        self._check(self._pq.PQputCopyEnd(self._connection, None))

    def _read(self, result: int) -> Answer:
        status = self._pq.PQresultStatus(result)
        if status == _TUPLES_OK:
            value: Callable[..., bytes | None] = self._pq.PQgetvalue
            columns = range(self._pq.PQnfields(result))
            rows = range(self._pq.PQntuples(result))
            return Answer(
                tuple(
                    tuple(
                        (value(result, row, column) or b"").decode("utf-8", "surrogateescape")
                        for column in columns
                    )
                    for row in rows
                )
            )
        if status in (_COMMAND_OK, _COPY_OUT, _COPY_IN):
            return Answer(is_copy_out=status == _COPY_OUT, is_copy_in=status == _COPY_IN)
        state = self._pq.PQresultErrorField(result, ord("C"))
        if state is None:
            raise self._lost()
        message: bytes = self._pq.PQresultErrorField(result, ord("M")) or b""
        raise failure(message.decode("utf-8", "surrogateescape"), state.decode())

    def _await_input(self) -> None:
        socket = self._pq.PQsocket(self._connection)
        if socket < 0:
            raise self._lost()
        waiting = select.poll()
        waiting.register(socket, select.POLLIN)
        waiting.poll()
        self._check(self._pq.PQconsumeInput(self._connection))

    def _check(self, is_done: int) -> None:
        if is_done != 1:
            raise self._lost()

    def _lost(self) -> TemporaryFailure:
        return TemporaryFailure(f"the connection to the server was lost: {self._said()}")

    def _said(self) -> str:
        text: bytes = self._pq.PQerrorMessage(self._connection) or b""
        return one_line(text.decode("utf-8", "surrogateescape"))
