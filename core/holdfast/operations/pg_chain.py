"""The files of a base backup, put together from it and the backups below it.

A differential holds the blocks that changed; everything else is read from its parent, and from that
one's parent, at the same place. Blocks that a newer backup replaced are never read.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from holdfast.archive.open import OpenSnapshot, Tree
from holdfast.archive.pxar.items import Entry
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, NotFound
from holdfast.ids import SnapshotId, name_to_epoch
from holdfast.postgres.backup_record import (
    BLOCK_MAP,
    CONTROL_BLOB,
    FILE_LIST,
    RECORD_BLOB,
    BackupRecord,
)
from holdfast.postgres.byte_source import ByteSource
from holdfast.postgres.data_directory import DELTA_SUFFIX, TABLESPACES
from holdfast.postgres.file_list import DIGEST_BYTES, Form, ListedFile, read_list
from holdfast.postgres.vcdiff.apply import PatchedFile
from holdfast.shown import printable

_SPACE_PARTS = 2


def read_record(snapshot: OpenSnapshot) -> BackupRecord:
    """What a base backup says of itself (NotFound: it is none; DamagedData)."""
    try:
        return BackupRecord.decode(snapshot.blob(RECORD_BLOB))
    except NotFound:
        raise NotFound(f"{snapshot.snapshot} is no base backup of a PostgreSQL cluster") from None


class BlockMap:
    """The recorded block digests of a base backup."""

    def __init__(self, snapshot: OpenSnapshot) -> None:
        self._stream = snapshot.stream(BLOCK_MAP)

    def digests(self, line: ListedFile) -> bytes:
        """Those of one file, empty for one without pages (DamagedData)."""
        if line.digest_at is None:
            return b""
        length = line.blocks * DIGEST_BYTES
        if line.digest_at + length > self._stream.size:
            raise DamagedData(printable(line.path), "its digests lie behind the block map's end")
        return self._stream.read_at(line.digest_at, length)


class StoredContent:
    """The stored bytes of one file of an archive, read at any offset."""

    def __init__(self, tree: Tree, entry: Entry) -> None:
        self.size = entry.size
        self._stream: StreamReader = tree.streams[-1]
        self._start = entry.payload + (16 if len(tree.streams) > 1 else 0)

    def read_into(self, offset: int, target: memoryview, /) -> int:
        count = min(len(target), max(self.size - offset, 0))
        return self._stream.read_into(self._start + offset, target[:count])

    def pieces(self) -> Iterator[memoryview]:
        """All of it in order, without a copy; every piece checked against its chunk's digest."""
        at, end = self._start, self._start + self.size
        while at < end:
            piece = self._stream.view_at(at, end - at)
            if not piece:
                raise DamagedData("archive", "a content ends behind the end of its stream")
            yield piece
            at += len(piece)


class _Layer:
    """One backup of the chain, open."""

    def __init__(self, snapshot: OpenSnapshot) -> None:
        self.snapshot = snapshot
        self.record = read_record(snapshot)
        self._trees: dict[str, Tree] = {}
        self._files: dict[bytes, ListedFile] | None = None
        self._archives = {b"%d" % space.oid: space.archive for space in self.record.tablespaces}

    def lines(self) -> Iterator[ListedFile]:
        stream = self.snapshot.stream(FILE_LIST)
        return read_list(stream.pieces())

    def line(self, path: bytes) -> ListedFile | None:
        """The entry of a file, for layers that are not the newest."""
        if self._files is None:
            self._files = {
                line.path: line for line in self.lines() if line.form is not Form.DIRECTORY
            }
        return self._files.get(path)

    def stored(self, line: ListedFile) -> StoredContent:
        """The content as it lies in the archive (DamagedData)."""
        stem, path = "base", line.path
        parts = line.path.split(b"/", _SPACE_PARTS)
        if parts[0] == TABLESPACES and len(parts) > 1 and parts[1] in self._archives:
            stem, path = self._archives[parts[1]], parts[_SPACE_PARTS]
        if line.form is Form.DELTA:
            path += DELTA_SUFFIX
        tree = self._trees.get(stem)
        if tree is None:
            tree = self._trees[stem] = self.snapshot.tree(f"{stem}.pxar")
        entry = tree.accessor.lookup(path)
        if entry is None:
            raise DamagedData(
                str(self.snapshot.snapshot), f"{printable(path)} is listed but not stored"
            )
        return StoredContent(tree, entry)


class BaseChain:
    """A base backup and all it builds on; close it, or use it in a `with`.

    Attributes:
        record: of the newest backup, the one that is meant.
    """

    def __init__(
        self,
        store: Datastore,
        snapshot: SnapshotId,
        key: EncryptionKey | None = None,
        *,
        read_ahead: int = 0,
    ) -> None:
        """Open every backup of the chain.

        Raises:
            NotFound: the snapshot, or one below it, is not there or no base backup.
            DamagedData, KeyProblem: see OpenSnapshot.
        """
        self.snapshot = snapshot
        self._map: BlockMap | None = None
        with ExitStack() as stack:
            top = stack.enter_context(OpenSnapshot(store, snapshot, key, read_ahead=read_ahead))
            self._layers = [_Layer(top)]
            self.record = self._layers[0].record
            for name in reversed(self.record.chain):
                below = SnapshotId(snapshot.group, name_to_epoch(name))
                try:
                    opened = stack.enter_context(
                        OpenSnapshot(store, below, key, read_ahead=read_ahead)
                    )
                    self._layers.append(_Layer(opened))
                except NotFound:
                    raise NotFound(
                        f"{snapshot} builds on {below}, which is not in the store any more",
                        hint="restore from an older full backup",
                    ) from None
            self._stack = stack.pop_all()

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
        self._stack.close()

    @property
    def top(self) -> OpenSnapshot:
        """The newest backup itself."""
        return self._layers[0].snapshot

    def lines(self) -> Iterator[ListedFile]:
        """The list of the newest backup, directories before what is in them (DamagedData)."""
        return self._layers[0].lines()

    def control(self) -> bytes:
        """The bytes of `global/pg_control`."""
        return self.top.blob(CONTROL_BLOB)

    def digests(self, line: ListedFile) -> bytes:
        """Recorded digests of a file of the newest backup (DamagedData)."""
        if self._map is None:
            self._map = BlockMap(self.top)
        return self._map.digests(line)

    def content(self, line: ListedFile) -> ByteSource:
        """A file of the newest backup as it was in the cluster (DamagedData)."""
        return self._content(line, 0)

    def stored(self, line: ListedFile) -> StoredContent:
        """A file of the newest backup as it is stored: perhaps a delta (DamagedData)."""
        return self._layers[0].stored(line)

    def _content(self, line: ListedFile, number: int) -> ByteSource:
        stored = self._layers[number].stored(line)
        if line.form is Form.WHOLE:
            if stored.size != line.size:
                raise DamagedData(printable(line.path), "it is not as long as it was")
            return stored
        below = number + 1
        before = self._layers[below].line(line.path) if below < len(self._layers) else None
        if before is None:
            raise DamagedData(
                printable(line.path), "it is stored as a delta, and nothing lies below it"
            )
        return PatchedFile(self._content(before, below), stored, line.size)


def recorded_owner(
    store: Datastore, snapshot: SnapshotId, key: EncryptionKey | None
) -> tuple[int, int]:
    """Uid and gid that the data directory had (DamagedData, NotFound)."""
    with OpenSnapshot(store, snapshot, key) as opened:
        read_record(opened)
        metadata = opened.tree("base.pxar").accessor.root.metadata
        if metadata is None:
            raise DamagedData(str(snapshot), "its root is no directory")
        return metadata.stat.uid, metadata.stat.gid
