"""One directory tree into a backup session, as a split or a unified archive."""

import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.archive.change_detection import ChangeDetection
from holdfast.archive.file_content import HEADER_BYTES, ByteSink
from holdfast.archive.previous_tree import PreviousTree
from holdfast.archive.split_tree import SplitTree
from holdfast.archive.tree_frames import Frame
from holdfast.archive.tree_reading import Progress, TreeReading
from holdfast.archive.tree_summary import TreeSummary
from holdfast.archive.walk import Event, open_root
from holdfast.archive.walk_ring import Contents
from holdfast.archive.walk_rules import WalkRules
from holdfast.datastore.base_snapshot import BaseSnapshot
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.dynamic_index import DynamicIndex
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.segments import Segment
from holdfast.datastore.session import BackupSession
from holdfast.datastore.store import Datastore
from holdfast.datastore.stream_writer import KnownChunk
from holdfast.errors import DamagedData
from holdfast.units import KIB, MIB

if TYPE_CHECKING:  # loaded by those who have patterns, or who write unified archives
    from holdfast.archive.catalog import CatalogWriter
    from holdfast.archive.patterns import PatternList

CATALOG_NAME: Final = "catalog.pcat1.didx"
CATALOG_CHUNK_MEAN: Final = 512 * KIB
# The previous metadata is compared in memory; beyond this size every file counts as changed.
PREVIOUS_BYTES_MAX: Final = 2048 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSource:
    """One tree to back up.

    Attributes:
        name: of the archive, such as `root.pxar`.
        root: the directory.
        events: its walk, by TreeWalk or WalkProcess with the same rules.
        rules: of the walk.
        contents: asks the walk for contents, if it can give them.
    """

    name: str
    root: bytes
    events: Iterable[list[Event]]
    rules: WalkRules
    contents: Contents | None = None

    @property
    def stem(self) -> str:
        return self.name.removesuffix(".pxar")

    @property
    def patterns(self) -> "PatternList":
        from holdfast.archive.patterns import PatternList, parse_arguments

        return PatternList(parse_arguments(self.rules.patterns))

    @property
    def prelude(self) -> bytes | None:
        """What the archive keeps of the patterns."""
        if not self.rules.patterns:
            return None
        from holdfast.archive.patterns import prelude

        return prelude(self.patterns)


def load_previous(
    store: Datastore, base: BaseSnapshot, stem: str, key: EncryptionKey | None
) -> PreviousTree | None:
    """The split archive of the base, for comparison; None when it has none or it is too large.

    Raises:
        DamagedData: its metadata cannot be read from the store.
    """
    meta, payload = base.index(f"{stem}.mpxar.didx"), base.index(f"{stem}.ppxar.didx")
    if not isinstance(meta, DynamicIndex) or not isinstance(payload, DynamicIndex):
        return None
    if not 0 < meta.size_bytes <= PREVIOUS_BYTES_MAX:
        return None
    with StreamReader(meta, ChunkReader(ChunkStore.of(store), key)) as reader:
        data = mmap.mmap(-1, meta.size_bytes)  # its slices are bytes: no second copy of it all
        at = 0
        for piece in reader.pieces():
            data[at : at + len(piece)] = piece
            at += len(piece)
    return PreviousTree(data, payload)


def back_up_split(
    session: BackupSession,
    source: TreeSource,
    detection: ChangeDetection,
    progress: Progress,
    warnings: list[str],
) -> TreeSummary:
    """Write NAME.mpxar and NAME.ppxar into the session.

    Args:
        session: where to.
        source: what.
        detection: METADATA or DATA.
        progress: who wants to know.
        warnings: takes a sentence for everything that is not stored as it should be.

    Raises:
        HoldfastError: the store cannot take it, or the root cannot be read.
    """
    settings = session.settings
    previous = None
    comes_along = source.contents is not None and source.contents.is_wanted
    if detection is ChangeDetection.METADATA and session.base is not None and not comes_along:
        try:
            previous = load_previous(session.store, session.base, source.stem, settings.content_key)
        except DamagedData as error:
            message = f"the snapshot before cannot be compared with, all files are read: {error}"
            warnings.append(message)
            progress.warn(message)
    prelude = source.prelude
    payload = session.stream(f"{source.stem}.ppxar.didx")
    meta = session.stream(f"{source.stem}.mpxar.didx")

    def inject(numbers: Sequence[int]) -> None:
        if previous is None:
            raise AssertionError("nothing to reuse")
        index = previous.payload
        chunks = []
        for number in numbers:
            start, end = index.range_at(number)
            chunks.append(KnownChunk(index.digest_at(number), end - start))
        payload.inject(chunks)

    root_fd = open_root(source.root)
    tree = SplitTree(
        meta,
        payload,
        root_fd,
        TreeReading(progress, warnings),
        prelude=prelude,
        previous=previous,
        inject=inject,
        contents=source.contents,
    )
    if previous is None and source.contents is not None:
        source.contents.want()
    try:
        tree.consume(source.events)
        tree.close()
    finally:
        tree.release()
        os.close(root_fd)
    summary = tree.summary
    payload.end()
    meta.end()
    summary.size_bytes = payload.close().size_bytes + meta.close().size_bytes
    if source.contents is not None:
        source.contents.close()
    return summary


def back_up_unified(
    session: BackupSession,
    source: TreeSource,
    names: "CatalogWriter",
    progress: Progress,
    warnings: list[str],
) -> TreeSummary:
    """Write NAME.pxar into the session, its names into the catalog (see back_up_split)."""
    from holdfast.archive.unified_tree import UnifiedTree

    stream = session.stream(f"{source.stem}.pxar.didx")
    root_fd = open_root(source.root)
    tree = UnifiedTree(
        stream,
        names,
        root_fd,
        TreeReading(progress, warnings),
        patterns_text=source.patterns.text,
        owner=(os.geteuid(), os.getegid()),
    )
    names.begin_directory(f"{source.stem}.pxar.didx".encode())
    try:
        tree.consume(source.events)
    finally:
        tree.release()
        os.close(root_fd)
    names.end_directory()
    tree.summary.size_bytes = stream.close().size_bytes
    return tree.summary


class _Counted:
    """A stream that keeps nothing but its length."""

    def __init__(self) -> None:
        self.position = 0
        self._room = memoryview(bytearray(64 * KIB))

    def room(self) -> memoryview:
        return self._room

    def commit(self, count: int, /) -> None:
        self.position += count

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self.position += len(data)

    def suggest(self) -> None:
        pass

    def suggest_all(self, _positions: Sequence[int]) -> None:
        pass

    def adopt(self, segment: Segment, _start: int, count: int) -> None:
        segment.release()
        self.position += count


class _Skimming(TreeReading):
    """Takes the walk's word for every file and reads none."""

    def open_described(self, _frame: Frame, event: Event) -> tuple[int, Event]:
        return -1, event

    def open_unchanged(self, _frame: Frame, _event: Event) -> int:
        return -1

    def copy(
        self, _fd: int, event: Event, _frame: Frame, sink: ByteSink, prefix: bytes = b""
    ) -> bool:
        sink.commit(len(prefix) + HEADER_BYTES + event[3])
        return True

    def copy_exactly(self, fd: int, event: Event, frame: Frame, sink: ByteSink) -> bool:
        return self.copy(fd, event, frame, sink)


def preview_tree(
    source: TreeSource, previous: PreviousTree | None, progress: Progress, warnings: list[str]
) -> TreeSummary:
    """Walk and compare like a backup in metadata mode, but read no file and store nothing.

    Sizes are those before deduplication and compression.
    """
    meta, payload = _Counted(), _Counted()

    def inject(numbers: Sequence[int]) -> None:
        if previous is None:
            raise AssertionError("nothing to reuse")
        for number in numbers:
            start, end = previous.payload.range_at(number)
            payload.commit(end - start)

    root_fd = open_root(source.root)
    try:
        tree = SplitTree(
            meta,
            payload,
            root_fd,
            _Skimming(progress, warnings),
            previous=previous,
            inject=inject,
        )
        tree.consume(source.events)
        tree.close()
    finally:
        os.close(root_fd)
    tree.summary.size_bytes = meta.position + payload.position
    return tree.summary
