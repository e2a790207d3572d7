"""A differential and all it builds on as one new full backup, without asking the server.

The new snapshot is what a full backup taken at that moment would have been: same label, same WAL,
content checked against the recorded digests while it is read. What did not change deduplicates.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from typing import Final

from holdfast.archive.file_content import ByteSink
from holdfast.archive.pxar import format as pxar
from holdfast.archive.split_tree import SplitTree
from holdfast.archive.tree_frames import Frame
from holdfast.archive.tree_reading import TreeReading
from holdfast.archive.walk import BEGIN, END, FILE, Event
from holdfast.datastore.session import (
    DEFAULT_SETTINGS,
    BackupSession,
    SessionSettings,
    SessionSummary,
    free_second,
)
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, Refused
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import SnapshotId
from holdfast.operations.pg_chain import BaseChain, recorded_owner
from holdfast.operations.pg_tree import ClusterTrees
from holdfast.operations.progress import Progress
from holdfast.postgres.backup_record import (
    CONTROL_BLOB,
    RECORD_BLOB,
    UNPROTECTED_KEY,
    BackupRecord,
    BaseKind,
)
from holdfast.postgres.data_directory import TABLESPACES
from holdfast.postgres.file_list import Form, ListedFile, block_digests
from holdfast.shown import printable
from holdfast.units import MIB

_PIECE_BYTES: Final = 1 * MIB
_NANO: Final = 1_000_000_000
_DIRECTORY: Final = 0o040000
_REGULAR: Final = 0o100000
_COPIED: Final = ("wal", "conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """The new full backup."""

    summary: SessionSummary
    record: BackupRecord
    duration_s: float


def combine(
    store: Datastore,
    snapshot: SnapshotId,
    progress: Progress,
    *,
    settings: SessionSettings = DEFAULT_SETTINGS,
    owner: str = "root@pam",
    clock: Clock = SYSTEM_CLOCK,
) -> Combined:
    """Make a full backup of `snapshot` and those below it, as the group's newest snapshot.

    Raises:
        Refused: it is a full backup already.
        NotFound: it, or one below it, is not there or no base backup.
        DamagedData: content is not what was backed up; nothing is made then.
        Busy, NoSpace, KeyProblem, HoldfastError.
    """
    began_s = clock.monotonic_s()
    with BaseChain(store, snapshot, settings.content_key, read_ahead=3) as chain:
        if chain.record.parent is None:
            raise Refused(f"{snapshot} is a full backup already")
        with BackupSession.start(
            store,
            snapshot.group,
            free_second(store, snapshot.group, clock),
            settings=settings,
            owner=owner,
            clock=clock,
        ) as session:
            ids = recorded_owner(store, snapshot, settings.content_key)
            record = _write(session, chain, ids, progress)
            progress.phase("finish")
            about = {**record.summary(), "combined_from": snapshot.time_name}
            summary = session.finish(unprotected={UNPROTECTED_KEY: about})
    return Combined(summary=summary, record=record, duration_s=clock.monotonic_s() - began_s)


def _write(
    session: BackupSession, chain: BaseChain, ids: tuple[int, int], progress: Progress
) -> BackupRecord:
    trees = ClusterTrees(session, progress, [])
    archives = {b"%d" % space.oid: space.archive for space in chain.record.tablespaces}

    def archive_of(line: ListedFile) -> str:
        parts = line.path.split(b"/", 2)
        is_space = parts[0] == TABLESPACES and len(parts) > 1
        return archives.get(parts[1], "base") if is_space else "base"

    for stem, lines in groupby(chain.lines(), archive_of):
        progress.phase(stem)
        reading = _Reading(trees, chain)
        payload = session.stream(f"{stem}.ppxar.didx")
        meta = session.stream(f"{stem}.mpxar.didx")
        root_fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # never read
        try:
            tree = SplitTree(meta, payload, root_fd, reading)
            tree.consume(_events(lines, reading, trees, ids))
            tree.close()
        finally:
            os.close(root_fd)
        payload.close()
        meta.close()
    trees.close()
    _copy_archives(session, chain)
    session.blob(CONTROL_BLOB, chain.control())
    record = replace(
        chain.record,
        kind=BaseKind.FULL,
        parent=None,
        chain=(),
        counters=trees.counters.as_dict(),
    )
    session.blob(RECORD_BLOB, record.encode())
    return record


def _copy_archives(session: BackupSession, chain: BaseChain) -> None:
    """WAL and configuration as they are."""
    names = {file.filename for file in chain.top.manifest.files}
    for stem in _COPIED:
        for part in ("ppxar", "mpxar"):
            name = f"{stem}.{part}.didx"
            if name in names:
                writer = session.stream(name)
                for piece in chain.top.stream(name).pieces():
                    writer.write(piece)
                writer.close()


def _events(
    lines: Iterable[ListedFile], reading: "_Reading", trees: ClusterTrees, ids: tuple[int, int]
) -> Iterator[list[Event]]:
    """The list as a walk's events: every directory ends where the next path leaves it."""
    open_paths: list[bytes] = []
    for line in lines:
        parent = line.path.rpartition(b"/")[0]
        while open_paths and open_paths[-1] != parent:
            open_paths.pop()
            yield [(END,)]
        name = line.path.rpartition(b"/")[2] if open_paths else b""
        if line.form is Form.DIRECTORY:
            head = _head(name, line, _DIRECTORY, ids)
            trees.listed(line)
            open_paths.append(line.path)
            yield [(BEGIN, name, head, 0, 0)]
        elif not open_paths:
            raise DamagedData("the file list of a base backup", "a file outside of a directory")
        else:
            reading.next_line = line
            yield [(FILE, name, _head(name, line, _REGULAR, ids), line.size, None, 0, 0)]
    for _path in open_paths:
        yield [(END,)]


def _head(name: bytes, line: ListedFile, kind: int, ids: tuple[int, int]) -> bytes:
    seconds, nanos = divmod(line.mtime_ns, _NANO)
    stat = pxar.Stat(kind | line.mode, 0, *ids, seconds, nanos)
    return (pxar.filename_item(name) if name else b"") + pxar.entry_item(stat)


class _Reading(TreeReading):
    """Takes contents from the chain instead of a disk."""

    next_line: ListedFile

    def __init__(self, trees: ClusterTrees, chain: BaseChain) -> None:
        super().__init__(trees.progress, trees.warnings)
        self._trees = trees
        self._chain = chain
        self._room = memoryview(bytearray(_PIECE_BYTES))

    def open_described(self, _frame: Frame, event: Event) -> tuple[int, Event]:
        return -1, event

    def copy(
        self, _fd: int, event: Event, _frame: Frame, sink: ByteSink, prefix: bytes = b""
    ) -> bool:
        line, trees, chain = self.next_line, self._trees, self._chain
        content = chain.content(line)
        sink.write(prefix + pxar.header(pxar.PAYLOAD, event[3]))
        recorded = chain.digests(line)
        digest_at = None if line.digest_at is None else trees.digest_at
        hasher, found = sha256(), bytearray()
        for at in range(0, line.size, _PIECE_BYTES):
            piece = self._room[: min(_PIECE_BYTES, line.size - at)]
            if content.read_into(at, piece) != len(piece):
                raise DamagedData(printable(line.path), "its content ends too early")
            hasher.update(piece)
            if digest_at is not None:
                found += block_digests(piece)
            sink.write(piece)
            self.copied(len(piece))
        is_same = bytes(found) == recorded and line.sha256 in (None, hasher.hexdigest())
        if not is_same:
            raise DamagedData(printable(line.path), "its content is not what was backed up")
        trees.add_digests(bytes(found))
        trees.listed(
            replace(
                line,
                form=Form.WHOLE,
                sha256=hasher.hexdigest(),
                digest_at=digest_at,
                sent_blocks=0,
            )
        )
        counters = trees.counters
        counters.files += 1
        counters.bytes += line.size
        if digest_at is not None:
            counters.blocks += line.blocks
            counters.sent_blocks += line.blocks
        return True
