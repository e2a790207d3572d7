"""Where the files of a base backup come from: the server's own directory, or a copy it streams.

On the server's host the files are read where they lie, between pg_backup_start and pg_backup_stop of
one session, which has to stay open. From elsewhere pg_basebackup brings a copy into a scratch
directory first, over the replication protocol; what is stored is the same. The third way is the
server's own incremental backup, see pg_native.py.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from holdfast.errors import DamagedData, HoldfastError, NotFound, Refused, TemporaryFailure
from holdfast.host import files
from holdfast.postgres.backup_record import Position
from holdfast.postgres.control_file import ControlFile, read_control
from holdfast.postgres.pages import PAGE_BYTES
from holdfast.postgres.recovery import LABEL_NAME, map_of
from holdfast.postgres.server import QueryFailed, Row, Server, literal
from holdfast.postgres.wal_names import parse_lsn
from holdfast.shown import printable
from holdfast.units import KIB

_NEW_NAMES: Final = 150_000  # pg_backup_start was pg_start_backup before
_SAID_BYTES: Final = 4 * KIB
_TAIL_BYTES: Final = 64 * KIB
_LABEL_BYTES_MAX: Final = 64 * KIB
NOW: Final = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
_START: Final = re.compile(rb"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) ", re.MULTILINE)
_TIMELINE: Final = re.compile(rb"^START TIMELINE: (\d+)$", re.MULTILINE)
_END: Final = re.compile(rb'"End-LSN": "([0-9A-F]+/[0-9A-F]+)"')


class Way(StrEnum):
    """How the files come here."""

    LOCAL = "local"
    STREAM = "stream"
    NATIVE = "native"


class Ended(NamedTuple):
    """How a base backup ended: where, and what its files have to say."""

    stop: Position
    label: bytes
    tablespace_map: bytes


class Source(Protocol):
    """Files of a cluster between the beginning and the end of a base backup.

    Attributes:
        data: the directory to read; good after `begin`.
        control: what its control file says; good after `begin`.
        method: how lists call it.
    """

    method: str

    @property
    def data(self) -> str: ...

    @property
    def control(self) -> ControlFile: ...

    def begin(self, label: str) -> Position: ...

    def place(self, oid: int, location: str) -> str:
        """Where to read a tablespace."""
        ...

    def end(self, start: Position) -> Ended: ...


def checked_control(directory: str, facts: Row) -> ControlFile:
    """The control file, which proves that a directory is the server's (Refused, OSError)."""
    control = read_control(directory)
    if str(control.system_identifier) != facts["system_identifier"]:
        raise Refused(
            f"{directory} on this machine is of another cluster than the server that answers",
            hint="back up on the host the server runs on, or with --stream",
        )
    if control.block_bytes != PAGE_BYTES:
        raise Refused(f"this server has pages of {control.block_bytes} bytes; only 8192 are known")
    return control


class LocalSource:
    """The data directory of a server on this machine."""

    method = "lowlevel"

    def __init__(
        self,
        server: Server,
        facts: Row,
        *,
        fast: bool,
        holds_wal: bool,
        warn: Callable[[str], None],
    ) -> None:
        """Look at the directory (Refused, NotFound, HoldfastError)."""
        self.data: str = facts["data_directory"]
        self._server = server
        self._is_old = facts["version"] < _NEW_NAMES
        self._fast = fast
        self._holds_wal = holds_wal
        self._warn = warn
        try:
            self.control = checked_control(self.data, facts)
        except FileNotFoundError:
            raise NotFound(
                f"{printable(os.fsencode(self.data))} is not on this machine",
                hint="back up on the host the server runs on, or with --stream",
            ) from None
        except OSError as error:
            what = f"reading the control file of {self.data}"
            raise files.as_holdfast_error(error, what) from error

    def begin(self, label: str) -> Position:
        """Begin in the server's session (QueryFailed, TemporaryFailure)."""
        if self._holds_wal:
            self._hold_wal()
        fast = "true" if self._fast else "false"
        call = f"pg_backup_start({literal(label)}, {fast})"
        if self._is_old:
            call = f"pg_start_backup({literal(label)}, {fast}, false)"
        row = self._server.row(f"SELECT {call}::text AS lsn, {NOW} AS time")
        timeline = read_control(self.data).timeline
        return Position(lsn=parse_lsn(row["lsn"]), timeline=timeline, time=row["time"])

    def _hold_wal(self) -> None:
        """Keep the server from recycling WAL that is still to be read."""
        name = literal(f"holdfast_{os.getpid()}")
        try:
            self._server.row(f"SELECT pg_create_physical_replication_slot({name}, true, true)")
        except QueryFailed as error:
            self._warn(
                f"no temporary replication slot, so WAL may be gone before it is stored: {error}"
            )

    def place(self, _oid: int, location: str) -> str:
        return location

    def end(self, start: Position) -> Ended:
        """End it (QueryFailed, TemporaryFailure).

        The server is not asked to wait for archiving: a wait that is broken off loses the label.
        """
        call = "pg_stop_backup(false, false)" if self._is_old else "pg_backup_stop(false)"
        columns = f"lsn::text, labelfile, coalesce(spcmapfile, '') AS spcmapfile, {NOW} AS time"
        row = self._server.row(f"SELECT {columns} FROM {call}")  # noqa: S608  # words of ours
        stop = Position(lsn=parse_lsn(row["lsn"]), timeline=start.timeline, time=row["time"])
        label = row["labelfile"].encode("utf-8", "surrogateescape")
        if f"START TIMELINE: {start.timeline}\n".encode() not in label:
            raise TemporaryFailure("the timeline changed while the backup was taken; take it again")
        return Ended(stop, label, row["spcmapfile"].encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A server that is to send its cluster, and where to.

    Attributes:
        server: a session, for the time.
        facts: what the server said of itself.
        connection: for libpq.
        scratch: an empty directory with room for what will be sent.
        spaces: where its tablespaces lie, by OID.
        fast: see PgBackupRequest.
    """

    server: Server
    facts: Row
    connection: str
    scratch: str
    spaces: Mapping[int, str]
    fast: bool


class ReceivedSource:
    """A copy that the server sends into a scratch directory; each way to have it sent is a class."""

    def __init__(self, sender: Sender) -> None:
        self.data = os.path.join(sender.scratch, "data")
        self._sender = sender
        self._control: ControlFile | None = None

    @property
    def control(self) -> ControlFile:
        if self._control is None:
            raise AssertionError("nothing was streamed yet")
        return self._control

    def place(self, oid: int, _location: str) -> str:
        return os.path.join(self._sender.scratch, f"tablespace-{oid}")

    def _check_control(self) -> None:
        """Everything came (Refused, HoldfastError)."""
        with files.explained(f"reading {self.data}"):
            self._control = checked_control(self.data, self._sender.facts)

    def _text(self, name: str, *, size_max: int) -> bytes:
        """A small file of the copy (HoldfastError)."""
        path = os.path.join(self.data, name)
        with files.explained(f"reading {path}"):
            return files.read_file(path, size_max=size_max)

    def _now(self) -> str:
        return str(self._sender.server.row(f"SELECT {NOW} AS time")["time"])


class StreamedSource(ReceivedSource):
    """A copy that pg_basebackup brings (NotFound: it is not installed)."""

    method = "stream"

    def __init__(self, sender: Sender) -> None:
        super().__init__(sender)
        program = shutil.which("pg_basebackup")
        if program is None:
            raise NotFound(
                "pg_basebackup is not installed, without which nothing can be streamed",
                hint="install the PostgreSQL client programs",
            )
        self._program = program

    def begin(self, label: str) -> Position:
        """Stream everything (HoldfastError with what pg_basebackup said, DamagedData)."""
        words = [self._program, "-w", "-D", self.data, "-Fp", "-X", "stream", "--no-sync"]
        words += ["-l", label, "-c", "fast" if self._sender.fast else "spread"]
        words += ["-d", self._sender.connection] if self._sender.connection else []
        for oid, location in self._sender.spaces.items():
            before, after = (_escaped(path) for path in (location, self.place(oid, location)))
            words += ["-T", f"{before}={after}"]
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            said = printable(b" ".join(done.stdout[-_SAID_BYTES:].split()))
            raise HoldfastError(f"pg_basebackup ended with {done.returncode}: {said}")
        self._check_control()
        text = self._label()
        start, timeline = _START.search(text), _TIMELINE.search(text)
        if start is None or timeline is None:
            raise DamagedData(LABEL_NAME, "it does not say where the backup began")
        return Position(
            lsn=parse_lsn(start[1].decode()), timeline=int(timeline[1]), time=self._now()
        )

    def end(self, start: Position) -> Ended:
        """What was streamed ended here (DamagedData, HoldfastError)."""
        path = os.path.join(self.data, "backup_manifest")
        with files.explained(f"reading {path}"), open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0))
            found = _END.findall(file.read())
        if not found:
            raise DamagedData(path, "it does not say where the backup ended")
        stop = Position(
            lsn=max(parse_lsn(text.decode()) for text in found),
            timeline=start.timeline,
            time=self._now(),
        )
        spaces = self._sender.spaces
        return Ended(stop, self._label(), map_of(spaces) if spaces else b"")

    def _label(self) -> bytes:
        return self._text(LABEL_NAME, size_max=_LABEL_BYTES_MAX)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace("=", "\\=")


def remove_scratch(path: str) -> None:
    """Remove a scratch directory and all in it, as far as that goes."""
    with suppress(OSError):
        shutil.rmtree(path)
