"""Which files does a chunk carry? Snapshots and byte ranges come from the indexes, paths from the
archives' listings, as far as these can still be read.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import HEADER_BYTES, Kind
from holdfast.archive.pxar.items import Entry
from holdfast.datastore.affected import ChunkUse, uses_of
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, HoldfastError
from holdfast.ids import SnapshotId
from holdfast.operations.progress import Progress

Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AffectedRequest:
    """Which chunk, and the key for encrypted listings."""

    store: Datastore
    digest: bytes
    key: EncryptionKey | None = None


@dataclass(frozen=True, slots=True)
class AffectedArchive:
    """One archive that the chunk is part of.

    Attributes:
        archive: name without the index suffix.
        paths: files and directories that have bytes in it, in the archive's order; empty for what
            holds no files, such as an image.
        ranges: bytes of the archive, first and one behind the last.
        gap: why paths may be missing; None when they are complete.
    """

    snapshot: SnapshotId
    archive: str
    paths: tuple[bytes, ...]
    ranges: tuple[Range, ...]
    gap: str | None = None


def affected(request: AffectedRequest, progress: Progress) -> list[AffectedArchive]:
    """Every archive of the store that refers to the chunk (HoldfastError)."""
    progress.phase("search")
    uses = list(uses_of(request.store, request.digest, observer=progress))
    progress.phase("list files")
    progress.total(items=len(uses))
    found = []
    for use in uses:
        progress.item(f"{use.snapshot} {use.filename}")
        found.append(_with_paths(request, use))
        progress.advance(items=1)
    return found


def _with_paths(request: AffectedRequest, use: ChunkUse) -> AffectedArchive:
    name = use.filename.rpartition(".")[0]
    paths: tuple[bytes, ...] = ()
    gap = None
    try:
        listing = _listing(request, use.snapshot, name)
        if listing is not None:
            extent = _content if name.endswith(".ppxar") else _extent
            search = _Search(listing, use.ranges, extent)
            paths, gap = search.paths(), search.gap
    except HoldfastError as error:
        gap = error.message
    return AffectedArchive(use.snapshot, name, paths, use.ranges, gap)


def _listing(request: AffectedRequest, snapshot: SnapshotId, name: str) -> Accessor | None:
    """The names of an archive's files, without opening any content; None for what has no files."""
    stem, _dot, kind = name.rpartition(".")
    if kind not in ("pxar", "mpxar", "ppxar"):
        return None
    listed = f"{stem}.mpxar" if kind == "ppxar" else name
    index = request.store.open_index(snapshot, f"{listed}.didx", key=request.key)
    chunks = ChunkReader(ChunkStore(request.store.base), request.key)
    source = _WithHoles(StreamReader(index, chunks))
    try:
        return Accessor(source, what=listed)
    except DamagedData as error:
        raise DamagedData(listed, source.fault or error.reason) from error


class _WithHoles:
    """A stream in which chunks that cannot be read are zeros: what is around them can be.

    Attributes:
        fault: what is wrong with the first of them.
    """

    def __init__(self, reader: StreamReader) -> None:
        self.size: Final = reader.size
        self.fault: str | None = None
        self._reader = reader

    def read_at(self, offset: int, length: int) -> bytes:
        try:
            return self._reader.read_at(offset, length)
        except DamagedData:
            return b"".join(self._patched(offset, min(offset + length, self.size)))

    def view_at(self, offset: int, length: int) -> memoryview:
        """Contents, which nobody reads for a listing."""
        return self._reader.view_at(offset, length)

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        """The same."""
        return self._reader.pieces(start, end)

    def _patched(self, offset: int, stop: int) -> Iterator[bytes]:
        index = self._reader.index
        while offset < stop:
            end = min(stop, index.range_at(index.find(offset))[1])
            try:
                yield self._reader.read_at(offset, end - offset)
            except DamagedData as error:
                self.fault = self.fault or error.message
                yield bytes(end - offset)
            offset = end


def _extent(entry: Entry) -> Range:
    """Bytes of the stream of entries: of a directory, what stands before its children."""
    return entry.start, entry.body if entry.kind is Kind.DIRECTORY else entry.end


def _content(entry: Entry) -> Range:
    """Bytes of the stream of contents; none for what has no content."""
    if entry.kind is not Kind.FILE or entry.payload < 0:
        return 0, 0
    return entry.payload, entry.payload + HEADER_BYTES + entry.size


class _Search:
    """Walks an archive for entries that overlap some ranges.

    A directory that cannot be listed counts as hit, since what it holds is unknown.

    Attributes:
        gap: the first reason why something could not be listed.
    """

    def __init__(
        self, listing: Accessor, ranges: Sequence[Range], extent: Callable[[Entry], Range]
    ) -> None:
        self.gap: str | None = None
        self._listing = listing
        self._ends = [end for _start, end in ranges]
        self._starts = [start for start, _end in ranges]
        self._extent = extent

    def paths(self) -> tuple[bytes, ...]:
        """In the archive's order, hard links to what is hit included."""
        found: list[bytes] = []
        hit_starts: set[int] = set()
        todo = [(b"", self._listing.root)]
        while todo:
            path, entry = todo.pop()
            is_hit = self._is_hit(entry)
            if entry.kind is Kind.HARDLINK:
                is_hit |= entry.start - entry.distance in hit_starts
            if entry.kind is Kind.DIRECTORY:
                try:
                    children = self._listing.children_in_archive_order(entry)
                except DamagedData as error:
                    self.gap = self.gap or error.message
                    is_hit, children = True, []
                prefix = path + b"/" if path else b""
                todo += [(prefix + child.name, child) for child in reversed(children)]
            if is_hit:
                hit_starts.add(entry.start)
                found.append(path or b".")
        return tuple(found)

    def _is_hit(self, entry: Entry) -> bool:
        start, end = self._extent(entry)
        at = bisect_right(self._ends, start)  # the first range that ends behind the start
        return end > start and at < len(self._ends) and self._starts[at] < end
