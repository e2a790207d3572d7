"""Archives written from real directories into memory, with everything the real streams can do."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from holdfast.archive.content_cursor import ContentCursor
from holdfast.archive.previous_tree import PreviousTree
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder
from holdfast.archive.pxar.format import Kind
from holdfast.archive.restore import TreeRestore
from holdfast.archive.restore_rules import RestoreOutcome, RestoreRules
from holdfast.archive.split_tree import QUEUE_MAX, SplitTree
from holdfast.archive.tree_reading import TreeReading
from holdfast.archive.tree_summary import TreeSummary
from holdfast.archive.unified_tree import UnifiedTree
from holdfast.archive.walk import TreeWalk
from holdfast.archive.walk_process import WalkProcess
from holdfast.archive.walk_rules import WalkRules
from holdfast.datastore.segments import Segment


class MemoryStream:
    """A sink and a source; keeps which stretches were suggested as cuts."""

    def __init__(self, data: bytes = b"", *, room: int = 4096) -> None:
        self.data = bytearray(data)
        self.suggestions: list[int] = []
        self._segment = memoryview(bytearray(room))

    @property
    def position(self) -> int:
        return len(self.data)

    @property
    def size(self) -> int:
        return len(self.data)

    def room(self) -> memoryview:
        return self._segment

    def commit(self, count: int) -> None:
        self.data += self._segment[:count]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def suggest(self) -> None:
        self.suggestions.append(self.position)

    def suggest_all(self, positions: Sequence[int]) -> None:
        self.suggestions += positions

    def adopt(self, segment: Segment, start: int, count: int) -> None:
        self.data += segment.view[start : start + count]
        segment.release()

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def view_at(self, offset: int, length: int) -> memoryview:
        return memoryview(bytes(self.data[offset : offset + min(length, 60_001)]))

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        yield memoryview(bytes(self.data[start:end]))


@dataclass
class MemoryIndex:
    """Chunks of a stream by their ends."""

    data: bytes
    ends: list[int]

    @property
    def size_bytes(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def chunk_count(self) -> int:
        return len(self.ends)

    def range_at(self, number: int) -> tuple[int, int]:
        return (self.ends[number - 1] if number else 0), self.ends[number]

    def find(self, offset: int) -> int:
        return next(number for number, end in enumerate(self.ends) if end > offset)

    def digest_at(self, number: int) -> bytes:
        return number.to_bytes(32, "big")

    @classmethod
    def every(cls, data: bytes, chunk_bytes: int) -> "MemoryIndex":
        ends = list(range(chunk_bytes, len(data), chunk_bytes))
        return cls(data, [*ends, len(data)] if data else [])


@dataclass
class Listener:
    """Takes progress and keeps what was said."""

    warnings: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    bytes_read: int = 0

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        del items
        self.bytes_read += bytes

    def item(self, name: str) -> None:
        self.items.append(name)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@dataclass
class SplitArchive:
    """One pass of SplitTree over a directory."""

    meta: MemoryStream
    payload: MemoryStream
    summary: TreeSummary
    warnings: list[str]
    injected: list[list[int]]

    def as_previous(self, *, chunk_bytes: int = 1000) -> PreviousTree:
        data = bytes(self.payload.data)
        return PreviousTree(bytes(self.meta.data), MemoryIndex.every(data, chunk_bytes))


def walking(root: bytes, rules: WalkRules) -> WalkProcess:
    """A process that walks."""
    walk = WalkProcess()
    walk.begin(root, rules)
    return walk


def write_split(
    root: str,
    *,
    previous: PreviousTree | None = None,
    rules: WalkRules | None = None,
    prelude: bytes | None = None,
    queue_max: int = QUEUE_MAX,
    room: int = 4096,
    with_contents: bool = False,
) -> SplitArchive:
    """Write it; `with_contents` has another process walk, and read small files on the way."""
    meta, payload = MemoryStream(), MemoryStream(room=room)
    injected: list[list[int]] = []

    def inject(numbers: Sequence[int]) -> None:
        assert previous is not None
        index = previous.payload
        assert isinstance(index, MemoryIndex)
        injected.append(list(numbers))
        for number in numbers:
            start, end = index.range_at(number)
            payload.write(index.data[start:end])

    listener = Listener()
    reading = TreeReading(listener, [])
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    walk = walking(os.fsencode(root), rules or WalkRules()) if with_contents else None
    try:
        tree = SplitTree(
            meta,
            payload,
            root_fd,
            reading,
            prelude=prelude,
            previous=previous,
            inject=inject,
            queue_max=queue_max,
            contents=None if walk is None else walk.contents,
        )
        if walk is None:
            tree.consume(TreeWalk(os.fsencode(root), rules or WalkRules()).batches())
        else:
            walk.contents.want()
            with walk:
                tree.consume(walk.batches())
        tree.close()
    finally:
        os.close(root_fd)
    return SplitArchive(meta, payload, tree.summary, listener.warnings, injected)


def restore(
    archive: SplitArchive, target: str, rules: RestoreRules | None = None
) -> RestoreOutcome:
    """Restore what `write_split` wrote."""
    return restore_streams(archive.meta, archive.payload, target, rules)


def restore_streams(
    meta: MemoryStream,
    payload: MemoryStream | None,
    target: str,
    rules: RestoreRules | None = None,
) -> RestoreOutcome:
    """Restore an archive that is in memory into an existing directory."""
    decoder = Decoder(meta, payload)
    accessor = Accessor(meta, payload)
    contents = ContentCursor(payload if payload is not None else meta, is_split=decoder.is_split)
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return TreeRestore(
            decoder,
            contents,
            resolve_link=accessor.resolve_hardlink,
            target_fd=fd,
            rules=rules or RestoreRules(),
            progress=Listener(),
        ).run()
    finally:
        os.close(fd)


class NoCatalog:
    """Takes the names of a unified archive and forgets them."""

    def begin_directory(self, name: bytes) -> None:
        pass

    def end_directory(self) -> None:
        pass

    def file(self, name: bytes, size: int, mtime_s: int) -> None:
        pass

    def other(self, name: bytes, kind: Kind) -> None:
        pass


def write_unified(root: str) -> MemoryStream:
    """One pass of UnifiedTree over a directory."""
    stream = MemoryStream()
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = UnifiedTree(stream, NoCatalog(), root_fd, TreeReading(Listener(), []))
        tree.consume(TreeWalk(os.fsencode(root), WalkRules()).batches())
    finally:
        os.close(root_fd)
    return stream
