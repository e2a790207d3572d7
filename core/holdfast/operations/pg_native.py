"""The server's own base backups, full or incremental, brought into a scratch directory.

For an incremental one (PostgreSQL 17 and later) the server is told which files the backup before
has, and sends of those only the blocks that its WAL summaries name, as `INCREMENTAL.NAME`. It is
told of files with pages alone, since everything else is sent whole in any case, and not of
visibility maps: summaries do not record when a bit of theirs is cleared.
"""

import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Final

from holdfast.errors import DamagedData, Refused, TemporaryFailure
from holdfast.host import files
from holdfast.operations.pg_source import Ended, ReceivedSource, Sender
from holdfast.operations.pg_tree import Parent
from holdfast.postgres.backup_manifest import check_received, manifest_of
from holdfast.postgres.backup_record import BackupRecord, Position
from holdfast.postgres.base_backup_stream import Place, hold_wal, stream, upload_manifest
from holdfast.postgres.data_directory import VISIBILITY_FORK, relation_name
from holdfast.postgres.libpq import ReplicationConnection
from holdfast.postgres.recovery import LABEL_NAME, MAP_NAME
from holdfast.postgres.server import QueryFailed, Row, Server
from holdfast.postgres.tar_stream import Member, MemberKind
from holdfast.shown import printable
from holdfast.units import KIB, MIB

OLDEST_FULL: Final = 150_000
OLDEST_INCREMENTAL: Final = 170_000
_NOT_AS_THINGS_STAND: Final = "55000"
_INCREMENTAL_LINES: Final = re.compile(rb"^INCREMENTAL FROM (?:LSN|TLI): [^\n]*\n", re.MULTILINE)
_TEXT_BYTES_MAX: Final = 256 * KIB
_LINE_BYTES_MAX: Final = 1 * MIB
_TRAVERSABLE: Final = 0o700
_READABLE: Final = 0o600
_NANO: Final = 1_000_000_000


def native_refusal(facts: Row, server: Server, parent: BackupRecord | None) -> str | None:
    """Why the server cannot send such a backup, and what to do; None when it can."""
    version = facts["version"]
    if version < OLDEST_FULL:
        return f"PostgreSQL {version // 10_000} is too old for --native: use --stream"
    if parent is None:
        return None
    if version < OLDEST_INCREMENTAL:
        major = version // 10_000
        return f"PostgreSQL {major} makes no incremental backups itself: leave --native out"
    if not server.row("SELECT current_setting('summarize_wal')::bool AS is_on")["is_on"]:
        return (
            "the server writes no WAL summaries: set summarize_wal = on there,"
            " then take a full backup first"
        )
    return None


class NativeSource(ReceivedSource):
    """What the server sends over a replication connection, as files.

    Args:
        sender: what sends, and where to.
        parent: the backup before, for an incremental one: what it is and has.
        warn: takes a sentence.
        on_file: takes the path of each file that comes.
    """

    method = "native"

    def __init__(
        self,
        sender: Sender,
        *,
        parent: tuple[BackupRecord, Parent] | None,
        warn: Callable[[str], None],
        on_file: Callable[[str], None],
    ) -> None:
        super().__init__(sender)
        self._parent = parent
        self._warn = warn
        self._on_file = on_file
        self._stop: Place | None = None
        self._trees: list[ReceivedTree] = []
        self._received: dict[bytes, tuple[int, str]] = {}

    def begin(self, label: str) -> Position:
        """Have everything sent.

        Raises:
            Refused: the server cannot make an incremental backup since the parent.
            QueryFailed, TemporaryFailure, DamagedData: see `stream`.
            NotFound: libpq is not installed.
            HoldfastError: the scratch directory cannot be written.
        """
        manifest = None if self._parent is None else uploaded_manifest(*self._parent)
        connection = ReplicationConnection(self._sender.connection)
        try:
            try:
                hold_wal(connection)
            except QueryFailed as error:
                self._warn(
                    f"no temporary replication slot, so WAL may be gone before it is sent: {error}"
                )
            if manifest is not None:
                upload_manifest(connection, manifest)
            with files.explained(f"writing below {self._sender.scratch}"):
                start = self._receive(connection, label, is_incremental=manifest is not None)
        except QueryFailed as error:
            if manifest is None or error.sqlstate != _NOT_AS_THINGS_STAND:
                raise
            raise Refused(
                f"the server can make nothing incremental since the parent; {error.message}",
                hint="take a full backup, without --incremental, --differential or --relative-to",
            ) from error
        finally:
            connection.close()
            for tree in self._trees:
                tree.close()
        self._check_control()
        return Position(lsn=start.lsn, timeline=start.timeline, time=self._now())

    def _receive(
        self, connection: ReplicationConnection, label: str, *, is_incremental: bool
    ) -> Place:
        """All that the server sends, held against its manifest; where the backup starts."""
        with tempfile.TemporaryFile(dir=self._sender.scratch) as manifest:
            start, self._stop = stream(
                connection,
                label,
                self._receiver,
                fast=self._sender.fast,
                is_incremental=is_incremental,
                take_manifest=manifest.write,
            )
            manifest.seek(0)
            check_received(iter(partial(manifest.readline, _LINE_BYTES_MAX), b""), self._received)
        return start

    def end(self, start: Position) -> Ended:
        """What was sent ended here (DamagedData, HoldfastError, TemporaryFailure)."""
        if self._stop is None:
            raise AssertionError("nothing was streamed yet")
        if self._stop.timeline != start.timeline:
            raise TemporaryFailure("the timeline changed while the backup was taken; take it again")
        stop = Position(lsn=self._stop.lsn, timeline=start.timeline, time=self._now())
        label = _INCREMENTAL_LINES.sub(b"", self._text(LABEL_NAME, size_max=_TEXT_BYTES_MAX))
        spaces = self._text(MAP_NAME, size_max=_TEXT_BYTES_MAX) if self._sender.spaces else b""
        return Ended(stop, label, spaces)

    def _receiver(self, oid: int | None) -> "ReceivedTree":
        if oid is not None and oid not in self._sender.spaces:
            raise TemporaryFailure(
                "a tablespace was made while the backup began; take the backup again"
            )
        root, prefix = self.data, b""
        if oid is not None:
            root, prefix = self.place(oid, ""), b"pg_tblspc/%d/" % oid
        self._trees.append(ReceivedTree(root, self._received, prefix, self._on_file))
        return self._trees[-1]


def uploaded_manifest(record: BackupRecord, parent: Parent) -> bytes:
    """What the server is told of the backup before."""
    lines = (line for path, line in parent.files.items() if _is_told(path, parent))
    return manifest_of(record, lines, ())


def _is_told(path: bytes, parent: Parent) -> bool:
    relation = relation_name(path)
    return relation is not None and relation.fork != VISIBILITY_FORK and parent.is_delta(path, 0)


class ReceivedTree:
    """Writes the members of one archive below a new directory.

    Args:
        root: the directory; its parent is there.
        received: gets size and SHA-256 of every file by path.
        prefix: what paths of a tablespace begin with.
        on_file: takes the path of each file that begins.
    """

    def __init__(
        self,
        root: str,
        received: dict[bytes, tuple[int, str]],
        prefix: bytes = b"",
        on_file: Callable[[str], None] = lambda _path: None,
    ) -> None:
        self._received = received
        self._prefix = prefix
        self._on_file = on_file
        self._member: Member | None = None
        self._hasher = sha256()
        self._root = os.fsencode(root)
        self._file: int = -1
        files.make_directory(root, mode=_TRAVERSABLE)

    def begin(self, member: Member) -> None:
        """A file or directory; links to tablespaces are known otherwise (OSError, DamagedData)."""
        if not member.path or member.kind is MemberKind.LINK:
            return
        path = os.path.join(self._root, member.path)
        try:
            if member.kind is MemberKind.DIRECTORY:
                files.make_directory(os.fsdecode(path), mode=member.mode | _TRAVERSABLE)
                return
            self._on_file(printable(member.path))
            self._file = files.create(os.fsdecode(path), mode=member.mode | _READABLE)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            raise DamagedData(
                "the archive that the server sent",
                f"{printable(member.path)} comes twice, or before its directory",
            ) from None
        self._member, self._hasher = member, sha256()

    def content(self, piece: memoryview) -> None:
        files.write_all(self._file, (piece,), path=self._root)
        self._hasher.update(piece)

    def end(self) -> None:
        if (member := self._member) is not None:
            os.utime(self._file, ns=(member.mtime_s * _NANO, member.mtime_s * _NANO))
            path = self._prefix + member.path
            self._received[path] = member.size, self._hasher.hexdigest()
        self.close()

    def close(self) -> None:
        """Let go of a file that did not end."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
