"""A running server, asked through one `psql` that stays connected.

psql comes with every server, knows its passwords, services and sockets, and needs no library here.
The process is held open because a base backup belongs to the session that began it. Rows come back
as JSON, one to a line, so that any text survives; after each statement psql reports whether it
failed through its own variables.
"""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Final, Self

from holdfast.errors import HoldfastError, NotFound, TemporaryFailure
from holdfast.shown import printable

Row = dict[str, Any]

_MARK: Final = "holdfast-says"
_END_S: Final = 10
_SAID_BYTES_MAX: Final = 4096
_WORDS_OF_STATUS: Final = 3
_CONNECTION_CLASSES: Final = ("08", "57P", "53")  # lost, shutting down, out of resources


class QueryFailed(HoldfastError):
    """The server refused a statement.

    Attributes:
        sqlstate: five characters, see the manual's appendix of error codes.
    """

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def literal(text: str) -> str:
    """`text` as an SQL string constant."""
    if "\0" in text:
        raise ValueError("no NUL in SQL")
    return "'" + text.replace("'", "''") + "'"


def one_line(said: str) -> str:
    """What a program said, on one line, harmless for a terminal."""
    return printable(" ".join(said.split()).encode("utf-8", "surrogateescape"))


def failure(said: str, sqlstate: str) -> HoldfastError:
    """What to raise when the server refused: QueryFailed, or TemporaryFailure."""
    message = f"the server refused: {one_line(said)}"
    if sqlstate.startswith(_CONNECTION_CLASSES):
        return TemporaryFailure(message)
    return QueryFailed(message, sqlstate)


class Server:
    """One session; use it in a `with`, which ends it.

    Args:
        connection: a libpq connection string or URI; empty for what the environment says (PGHOST,
            PGPORT, PGUSER, PGSERVICE and so on) and the database `postgres`.

    Raises:
        NotFound: psql is not installed.
        TemporaryFailure: the server does not answer.
    """

    def __init__(self, connection: str = "") -> None:
        program = shutil.which("psql")
        if program is None:
            raise NotFound(
                "psql is not installed, without which a server cannot be asked",
                hint="install the PostgreSQL client programs",
            )
        if not connection and "PGDATABASE" not in os.environ:
            connection = "dbname=postgres"
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close()
        environment = {**os.environ, "PGCLIENTENCODING": "UTF8", "PGAPPNAME": "holdfast"}
        self._psql = subprocess.Popen(
            [program, "-XAtqw", *(["-d", connection] if connection else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        try:
            self.execute("SET standard_conforming_strings = on")
            self.execute("SET statement_timeout = 0")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session; a base backup that it began ends, too."""
        psql = self._psql
        if psql.stdin is not None and not psql.stdin.closed:
            with suppress(OSError):  # it ended before
                psql.stdin.close()
        try:
            psql.wait(_END_S)
        except subprocess.TimeoutExpired:
            psql.kill()
            psql.wait()
        if psql.stdout is not None:
            psql.stdout.close()
        self._errors.close()

    def rows(self, query: str) -> list[Row]:
        """The rows of a SELECT without a semicolon (QueryFailed, TemporaryFailure)."""
        lines = self._ask(f"SELECT row_to_json(q) FROM (\n{query}\n) q")  # noqa: S608  # SQL is ours
        return [json.loads(line) for line in lines if line]

    def row(self, query: str) -> Row:
        """The only row of a SELECT (see rows)."""
        (row,) = self.rows(query)
        return row

    def execute(self, statement: str) -> None:
        """A statement whose rows do not matter (see rows)."""
        self._ask(statement)

    def _ask(self, statement: str) -> list[str]:
        text = (
            f"{statement}\n;\n\\echo {_MARK} :ERROR :SQLSTATE\n"
            f"\\echo :LAST_ERROR_MESSAGE\n\\echo {_MARK}\n"
        )
        stdin, stdout = self._psql.stdin, self._psql.stdout
        if stdin is None or stdout is None:
            raise AssertionError("psql without pipes")
        try:
            stdin.write(text.encode("utf-8", "surrogateescape"))
            stdin.flush()
        except OSError as error:
            raise self._lost() from error
        before: list[str] = []
        after: list[str] = []
        failed, state = False, ""
        lines = before
        while True:
            raw = stdout.readline()
            if not raw:
                raise self._lost()
            line = raw.decode("utf-8", "surrogateescape").rstrip("\n")
            if line == _MARK:
                break
            words = line.split(" ")
            if words[0] == _MARK and len(words) == _WORDS_OF_STATUS:
                failed, state, lines = words[1] == "true", words[2], after
            else:
                lines.append(line)
        if not failed:
            return before
        raise failure(" ".join(after), state)

    def _lost(self) -> TemporaryFailure:
        self._errors.seek(0)
        said = self._errors.read(_SAID_BYTES_MAX).decode("utf-8", "replace")
        text = one_line(said).removeprefix("psql: ").removeprefix("error: ")
        return TemporaryFailure(
            f"no connection to the server: {text or 'psql ended'}",
            hint="check that it runs and that --connection reaches it",
        )
