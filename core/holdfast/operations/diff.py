"""What changed between two snapshots: files of archives, chunks of images, blobs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from holdfast.archive.compare import Change, Comparison, Contents
from holdfast.archive.open import Archive, ArchiveKind, OpenSnapshot
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Entry
from holdfast.datastore.index import Index
from holdfast.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRequest:
    """What to compare.

    Attributes:
        archive: only this one; None for all.
        contents: whether to believe times or read every content.
    """

    archive: str | None = None
    contents: Contents = Contents.TRUST_TIMES


class DiffLine(NamedTuple):
    """One thing that differs.

    Attributes:
        archive: where.
        path: inside the archive; empty for its root, an image or a blob.
        change: how.
        size_a: before; None when it was not there.
        size_b: after; None when it is not there.
        changed_bytes: of an image, how much lies in other chunks; None for everything else.
    """

    archive: str
    path: bytes
    change: Change
    size_a: int | None
    size_b: int | None
    changed_bytes: int | None = None


def diff(before: OpenSnapshot, after: OpenSnapshot, request: DiffRequest) -> Iterator[DiffLine]:
    """All differences, archive by archive in the order of names.

    Archives whose checksums are the same are not read.

    Raises:
        NotFound: neither snapshot has the archive asked for.
        DamagedData: one of them cannot be read.
    """
    old = {archive.name: archive for archive in before.archives()}
    new = {archive.name: archive for archive in after.archives()}
    names = sorted(old.keys() | new.keys())
    if request.archive is not None:
        wanted = {_name_in(one, request.archive) for one in (before, after)} - {None}
        if not wanted:
            raise NotFound(f"neither snapshot has an archive {request.archive!r}")
        names = [name for name in names if name in wanted]
    for name in names:
        yield from _archive_lines(before, after, old.get(name), new.get(name), request.contents)


def _name_in(snapshot: OpenSnapshot, name: str) -> str | None:
    try:
        return snapshot.find(name).name
    except NotFound:
        return None


def _archive_lines(
    before: OpenSnapshot,
    after: OpenSnapshot,
    old: Archive | None,
    new: Archive | None,
    contents: Contents,
) -> Iterator[DiffLine]:
    if old is None or new is None:
        present = new or old
        assert present is not None
        change = Change.ADDED if old is None else Change.REMOVED
        size_a = old.size if old is not None else None
        size_b = new.size if new is not None else None
        yield DiffLine(present.name, b"", change, size_a, size_b)
        return
    if [(file.size, file.csum) for file in old.files] == [
        (file.size, file.csum) for file in new.files
    ]:
        return
    if old.kind is not new.kind:
        yield DiffLine(old.name, b"", Change.MODIFIED, old.size, new.size)
    elif old.kind is ArchiveKind.TREE:
        yield from _tree_lines(before, after, old.name, contents)
    elif old.kind is ArchiveKind.BLOB:
        if before.blob(old.name) != after.blob(new.name):
            yield DiffLine(old.name, b"", Change.MODIFIED, old.size, new.size)
    elif old.kind is ArchiveKind.IMAGE:
        index_a, index_b = before.stream(old.name).index, after.stream(new.name).index
        changed = _changed_bytes(index_a, index_b)
        yield DiffLine(old.name, b"", Change.MODIFIED, old.size, new.size, changed)


def _changed_bytes(old: Index, new: Index) -> int:
    """Bytes of the newer image that lie in chunks other than before."""
    shared = min(old.chunk_count, new.chunk_count)
    total = 0
    for number in range(new.chunk_count):
        if number >= shared or old.digest_at(number) != new.digest_at(number):
            start, end = new.range_at(number)
            total += end - start
    return total


def _tree_lines(
    before: OpenSnapshot, after: OpenSnapshot, name: str, contents: Contents
) -> Iterator[DiffLine]:
    old, new = before.tree(name), after.tree(name)

    def same_chunks(left: Entry, right: Entry) -> bool:
        return old.extents(left) == new.extents(right)

    comparison = Comparison(old.accessor, new.accessor, same_chunks=same_chunks, contents=contents)
    for difference in comparison.differences():
        yield DiffLine(
            name,
            difference.path,
            difference.change,
            _size(difference.before),
            _size(difference.after),
        )


def _size(entry: Entry | None) -> int | None:
    """Of files; zero for everything that has no content."""
    if entry is None:
        return None
    return entry.size if entry.kind is Kind.FILE else 0
