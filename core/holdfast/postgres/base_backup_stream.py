"""The server's own base backup over the replication protocol: the commands and the stream.

UPLOAD_MANIFEST takes the manifest of the backup before; BASE_BACKUP answers with a row where the
backup starts, the rows of the tablespaces, one COPY and a row where it stops. Messages of the COPY:
`n` a new archive follows: its name, NUL, the tablespace's path, NUL; `d` data; `m` the manifest
follows as data; `p` how many bytes are done. Source: PostgreSQL manual, Streaming Replication
Protocol.
"""

import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from holdfast.errors import BadRequest, DamagedData
from holdfast.postgres.libpq import Answer, ReplicationConnection
from holdfast.postgres.server import literal
from holdfast.postgres.tar_stream import Receiver, TarStream
from holdfast.postgres.wal_names import parse_lsn

_WHAT: Final = "the answer of the server"
_TIMELINE_END: Final = 1 << 32
_ARCHIVE: Final = re.compile(rb"(?:base|([1-9][0-9]{0,9}))\.tar\0[^\0]*\0")


class Place(NamedTuple):
    """A place in the WAL."""

    lsn: int
    timeline: int


def hold_wal(connection: ReplicationConnection) -> None:
    """Keep WAL from being recycled until the connection ends (QueryFailed, TemporaryFailure)."""
    name = f"holdfast_{os.getpid()}_{secrets.token_hex(4)}"
    connection.execute(f"CREATE_REPLICATION_SLOT {name} TEMPORARY PHYSICAL RESERVE_WAL")


def upload_manifest(connection: ReplicationConnection, manifest: bytes) -> None:
    """Tell the server what the backup before has (QueryFailed, TemporaryFailure)."""
    connection.send("UPLOAD_MANIFEST")
    answer = connection.answer()
    if answer is None or not answer.is_copy_in:
        raise DamagedData(_WHAT, "it does not want the manifest that it was offered")
    connection.put(manifest)
    while connection.answer() is not None:
        pass


def stream(
    connection: ReplicationConnection,
    label: str,
    receiver_of: Callable[[int | None], Receiver],
    *,
    fast: bool,
    is_incremental: bool,
    take_manifest: Callable[[bytes], object],
) -> tuple[Place, Place]:
    """Take a base backup with its WAL; where it starts and stops.

    Args:
        connection: nothing else goes on there.
        label: a word for it.
        receiver_of: who takes the files of a tablespace, by OID; None is the data directory.
        fast: have the checkpoint made at once.
        is_incremental: relative to the manifest that was uploaded.
        take_manifest: gets the manifest of this backup piece by piece, with SHA-256.

    Raises:
        QueryFailed: the server refused.
        TemporaryFailure: the connection was lost.
        DamagedData: what came is no base backup.
        HoldfastError: what a receiver raises.
    """
    options = [
        f"LABEL {literal(label)}",
        f"CHECKPOINT {literal('fast' if fast else 'spread')}",
        "WAL true",
        "WAIT false",  # for archiving: the WAL comes along
        "MANIFEST 'yes'",
        "MANIFEST_CHECKSUMS 'SHA256'",
        "TABLESPACE_MAP true",
    ]
    if is_incremental:
        options.append("INCREMENTAL true")
    connection.send(f"BASE_BACKUP ({', '.join(options)})")
    start = _place(connection.answer())
    spaces = connection.answer()
    copy = connection.answer()
    if spaces is None or copy is None or not copy.is_copy_out:
        raise DamagedData(_WHAT, "no archive follows")
    _receive(connection, receiver_of, take_manifest)
    stop = _place(_next_rows(connection))
    while connection.answer() is not None:
        pass
    return start, stop


def _receive(
    connection: ReplicationConnection,
    receiver_of: Callable[[int | None], Receiver],
    take_manifest: Callable[[bytes], object],
) -> None:
    """Hand the archives of the COPY and the manifest behind them on."""
    archive: TarStream | None = None
    take: Callable[[bytes], object] | None = None
    for message in connection.copied():
        kind = message[:1]
        if kind == b"d" and take is not None:
            take(message[1:])
        elif kind == b"m":
            take = take_manifest
        elif kind == b"n":
            match = _ARCHIVE.fullmatch(message, 1)
            if match is None:
                raise DamagedData(_WHAT, "an archive without a name")
            if archive is not None:
                archive.close()
            archive = TarStream(receiver_of(None if match[1] is None else int(match[1])))
            take = archive.feed
        elif kind != b"p":
            raise DamagedData(_WHAT, "a message that is none")
    if archive is None:
        raise DamagedData(_WHAT, "no archive follows")
    archive.close()


def _next_rows(connection: ReplicationConnection) -> Answer | None:
    """The next answer with rows: a COPY ends with one that has none."""
    while (answer := connection.answer()) is not None:
        if answer.rows:
            return answer
    return None


def _place(answer: Answer | None) -> Place:
    with suppress(ValueError, BadRequest):
        ((lsn, timeline),) = answer.rows if answer is not None else ()
        if 0 < int(timeline) < _TIMELINE_END:
            return Place(parse_lsn(lsn), int(timeline))
    raise DamagedData(_WHAT, "it does not say where the backup lies in the WAL")
