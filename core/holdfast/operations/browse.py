"""What is inside a snapshot: listings, and the bytes of one file."""

from collections.abc import Iterator
from typing import NamedTuple

from holdfast.archive.open import ArchiveKind, OpenSnapshot, Tree
from holdfast.archive.pxar.format import Kind, Stat
from holdfast.archive.pxar.items import Entry
from holdfast.errors import BadRequest, DamagedData, NotFound
from holdfast.shown import printable

_PIECE_BYTES = 4 << 20


class Listed(NamedTuple):
    """One line of a listing.

    Attributes:
        path: from the root of the archive, without a leading slash; empty for the root.
        entry: as stored.
        stat: of a hard link that of its file; None when the link leads nowhere.
        size: of a file's content, or of what a hard link leads to.
    """

    path: bytes
    entry: Entry
    stat: Stat | None
    size: int


def list_tree(tree: Tree, path: bytes = b"", *, recursive: bool = False) -> Iterator[Listed]:
    """A directory's entries by name, or one entry that is no directory.

    Raises:
        NotFound: the archive has no such path.
        DamagedData: the archive cannot be read there.
    """
    top = entry_at(tree, path)
    clean = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
    accessor = tree.accessor
    if top.kind is not Kind.DIRECTORY:
        yield _listed(tree, clean, top)
    elif recursive:
        for step in accessor.walk(top, clean):
            if not step.leaving and step.path != clean:
                yield _listed(tree, step.path, step.entry)
    else:
        for entry in accessor.children(top):
            yield _listed(tree, clean + b"/" + entry.name if clean else entry.name, entry)


def entry_at(tree: Tree, path: bytes) -> Entry:
    """The entry at `path` (NotFound, BadRequest, DamagedData)."""
    entry = tree.accessor.lookup(path)
    if entry is None:
        raise NotFound(
            f"{tree.archive.name} has no {printable(path)}",
            hint="`holdfast ls` shows what it has",
        )
    return entry


def _listed(tree: Tree, path: bytes, entry: Entry) -> Listed:
    if entry.kind is not Kind.HARDLINK:
        return Listed(path, entry, entry.metadata.stat if entry.metadata else None, entry.size)
    try:
        target = tree.accessor.resolve_hardlink(entry)
    except DamagedData:
        return Listed(path, entry, None, 0)
    assert target.metadata is not None
    return Listed(path, entry, target.metadata.stat, target.size)


def file_pieces(snapshot: OpenSnapshot, name: str, path: bytes | None) -> Iterator[memoryview]:
    """The bytes of one file of an archive; without a path those of an image or blob.

    Raises:
        NotFound: no such archive or path.
        BadRequest: no regular file, or an archive of files without a path.
        DamagedData: the bytes are not what was stored.
    """
    archive = snapshot.find(name)
    if archive.kind is ArchiveKind.TREE:
        if path is None:
            raise BadRequest(f"say which file of {archive.name} to print")
        tree = snapshot.tree(name)
        entry = entry_at(tree, path)
        if entry.kind is Kind.HARDLINK:
            entry = tree.accessor.resolve_hardlink(entry)
        if entry.kind is Kind.SYMLINK:
            raise BadRequest(
                f"{printable(path)} is a symbolic link to {printable(entry.target)}",
                hint="give the path of the file itself",
            )
        return tree.accessor.content(entry).pieces()
    if path is not None:
        raise BadRequest(f"{archive.name} is a {archive.kind} and has no files in it")
    if archive.kind is ArchiveKind.BLOB:
        return iter((memoryview(snapshot.blob(name)),))
    return snapshot.stream(name).pieces()
