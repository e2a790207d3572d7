"""Finds a path across all snapshots and tells its versions apart.

Archives of equal checksum are looked through once. A version is told from another by kind, size,
time and content. The content's digest (SHA-256 of the bytes) is computed once for every distinct
set of chunks, so a file that stayed the same over a hundred snapshots is read once; files larger
than a limit are not read, and versions of them are told apart by kind, size and time alone.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from holdfast.archive.open import Archive, ArchiveKind, OpenSnapshot, Tree
from holdfast.archive.patterns import Match, Pattern, normalized
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import Kind, Stat
from holdfast.archive.pxar.items import Entry
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.errors import HoldfastError
from holdfast.ids import GroupId, Namespace, SnapshotId
from holdfast.operations.progress import Progress
from holdfast.shown import printable
from holdfast.units import MIB

READ_BYTES_MAX: Final = 64 * MIB
_SPECIAL: Final = frozenset(b"*?[\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class FindRequest:
    """What to look for.

    Attributes:
        pattern: a glob; with a leading slash it counts from an archive's root, else at any depth.
        ns: the namespace to look in.
        group: only this one; None for all of the namespace.
        read_bytes_max: larger files get no digest.
    """

    pattern: bytes
    ns: Namespace
    group: GroupId | None = None
    read_bytes_max: int = READ_BYTES_MAX


class Version(NamedTuple):
    """One state of a path, and the snapshots that have it, oldest first."""

    kind: Kind
    size: int
    stat: Stat | None
    digest: bytes | None
    snapshots: list[SnapshotId]


@dataclass(slots=True)
class FoundPath:
    """A path that matched, in one archive of one group."""

    group: GroupId
    archive: str
    path: bytes
    versions: list[Version] = field(default_factory=list)


class _Match(NamedTuple):
    path: bytes
    kind: Kind
    size: int
    stat: Stat | None
    digest: bytes | None


def find(
    store: Datastore, request: FindRequest, key: EncryptionKey | None, progress: Progress
) -> list[FoundPath]:
    """Every path that matches, by group, archive and path; what cannot be read only warns.

    Raises:
        BadRequest: a malformed pattern.
        NotFound: no such group or namespace.
    """
    search = _Search(request, progress)
    groups = store.groups(request.ns) if request.group is None else [request.group]
    progress.phase("looking")
    found: dict[tuple[str, str, bytes], FoundPath] = {}
    for group in groups:
        for snapshot in store.snapshots(group):
            if not store.is_finished(snapshot):
                continue
            progress.item(str(snapshot))
            for archive, match in search.matches(store, snapshot, key):
                place = (str(group), archive, match.path)
                known = found.setdefault(place, FoundPath(group, archive, match.path))
                _add_version(known.versions, match, snapshot)
            progress.advance(items=1)
    return [found[place] for place in sorted(found)]


def _add_version(versions: list[Version], match: _Match, snapshot: SnapshotId) -> None:
    for version in versions:
        if (
            version.kind is match.kind
            and version.size == match.size
            and version.digest == match.digest
            and _time(version.stat) == _time(match.stat)
        ):
            version.snapshots.append(snapshot)
            return
    versions.append(Version(match.kind, match.size, match.stat, match.digest, [snapshot]))


def _time(stat: Stat | None) -> tuple[int, int]:
    return (0, 0) if stat is None else (stat.mtime_s, stat.mtime_ns)


class _Search:
    """Looks through archives, each distinct one once."""

    def __init__(self, request: FindRequest, progress: Progress) -> None:
        pattern = normalized(request.pattern)
        self._pattern = Pattern.parse(pattern, default=Match.INCLUDE)
        self._literal = None if _SPECIAL & set(pattern) else pattern
        self._top, self._depth = _start_of(pattern)
        self._read_bytes_max = request.read_bytes_max
        self._progress = progress
        self._seen: dict[tuple[bytes, ...], list[_Match]] = {}
        self._digests: dict[bytes, bytes] = {}

    def matches(
        self, store: Datastore, snapshot: SnapshotId, key: EncryptionKey | None
    ) -> Iterator[tuple[str, _Match]]:
        try:
            with OpenSnapshot(store, snapshot, key) as opened:
                for archive in opened.archives():
                    if archive.kind is ArchiveKind.TREE:
                        for match in self._in_archive(opened, archive):
                            yield archive.name, match
        except HoldfastError as error:
            self._progress.warn(f"{snapshot}: {error}")

    def _in_archive(self, opened: OpenSnapshot, archive: Archive) -> list[_Match]:
        checksums = tuple(file.csum for file in archive.files)
        known = self._seen.get(checksums)
        if known is not None:
            return known
        tree = opened.tree(archive.name)
        found: list[_Match] = []
        for path, entry in self._entries(tree):
            try:
                found.append(self._match(tree, path, entry))
            except HoldfastError as error:
                self._progress.warn(f"{opened.snapshot} {printable(path)}: {error}")
        self._seen[checksums] = found
        return found

    def _entries(self, tree: Tree) -> Iterator[tuple[bytes, Entry]]:
        """The entries that match, without looking where none can be."""
        accessor = tree.accessor
        top = accessor.lookup(self._top)
        if top is None:
            return
        if self._literal is not None and self._literal.startswith(b"/"):
            if not self._pattern.dirs_only or top.kind is Kind.DIRECTORY:
                yield self._top, top
            return
        if self._depth is None:
            entries: Iterator[tuple[bytes, Entry]] = (
                (step.path, step.entry)
                for step in accessor.walk(top, self._top)
                if not step.leaving and step.path != self._top
            )
        else:
            entries = _some_levels(accessor, top, self._top, self._depth)
        for path, entry in entries:
            if self._pattern.matches(b"/" + path, is_dir=entry.kind is Kind.DIRECTORY):
                yield path, entry

    def _match(self, tree: Tree, path: bytes, entry: Entry) -> _Match:
        if entry.kind is Kind.HARDLINK:
            entry = tree.accessor.resolve_hardlink(entry)
        stat = entry.metadata.stat if entry.metadata is not None else None
        digest = None
        if entry.kind is Kind.FILE and entry.size <= self._read_bytes_max:
            digest = self._digest(tree, entry)
        elif entry.kind is Kind.SYMLINK:
            digest = hashlib.sha256(entry.target).digest()
        return _Match(path, entry.kind, entry.size, stat, digest)

    def _digest(self, tree: Tree, entry: Entry) -> bytes:
        """SHA-256 of the content, read once for each place it lies in."""
        place = hashlib.sha256()
        for digest, offset, length in tree.extents(entry):
            place.update(digest + offset.to_bytes(8, "little") + length.to_bytes(8, "little"))
        known = self._digests.get(place.digest())
        if known is None:
            content = hashlib.sha256()
            for piece in tree.accessor.content(entry).pieces():
                content.update(piece)
            known = self._digests[place.digest()] = content.digest()
        return known


def _some_levels(
    accessor: Accessor, top: Entry, path: bytes, depth: int
) -> Iterator[tuple[bytes, Entry]]:
    opened = [(path, top, depth)]
    while opened:
        here, directory, levels = opened.pop()
        if directory.kind is not Kind.DIRECTORY:
            continue
        for entry in accessor.children(directory):
            below = here + b"/" + entry.name if here else entry.name
            yield below, entry
            if levels > 1:
                opened.append((below, entry, levels - 1))


def _start_of(pattern: bytes) -> tuple[bytes, int | None]:
    """Where a pattern can match first: a directory, and how many levels below it (None: all)."""
    if not pattern.startswith(b"/"):
        return b"", None
    parts = pattern.strip(b"/").split(b"/")
    if not any(_SPECIAL & set(part) for part in parts):
        return b"/".join(parts), 1
    plain = 0
    while not _SPECIAL & set(parts[plain]):
        plain += 1
    rest = parts[plain:]
    deep = any(b"**" in part or b"[" in part for part in rest)  # a class may hold a slash
    return b"/".join(parts[:plain]), None if deep else len(rest)
