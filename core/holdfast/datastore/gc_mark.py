"""Mark phase of garbage collection: which chunks does any index refer to?

Every index file below the base counts, also in snapshots that are not finished and in places where
none is expected. One that is damaged ends the collection before anything is deleted: what it stood
for is unknown. Its table is compared with its checksum, since one flipped bit would leave a good
chunk unmarked.
"""

import os
from dataclasses import dataclass, field

from holdfast.datastore import digest_set
from holdfast.datastore.digest_set import PREFIX_COUNT, Digests, DigestSet
from holdfast.datastore.index import Index, open_index
from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.datastore.observer import Observer
from holdfast.errors import DamagedData, NotFound


@dataclass(slots=True)
class Marked:
    """What one mark phase found.

    Attributes:
        first, end: chunk directories whose digests are there; `end` itself is not among them.
        digests: every digest in these that any index refers to.
        paths: the index files, relative to the base.
        data_bytes: length of all streams and images behind them.
        unexpected: index files that lie outside of any snapshot.
    """

    first: int = 0
    end: int = PREFIX_COUNT
    digests: DigestSet = field(default_factory=DigestSet)
    paths: set[str] = field(default_factory=set)
    data_bytes: int = 0
    unexpected: list[str] = field(default_factory=list)


def mark(base: str, observer: Observer, *, first: int = 0, digests_max: int) -> Marked:
    """Collect the digests of all indexes, walking again until a walk shows nothing new.

    Args:
        base: the store's directory.
        observer: told of every index as an item.
        first: the chunk directory to begin with.
        digests_max: when there are more, only the lower directories are gone on with, and the rest
            is left for another mark phase.

    Raises:
        DamagedData: an index cannot be trusted.
        HoldfastError: a directory or an index cannot be read.
    """
    marked = Marked(first=first)
    seen: set[str] = set()
    while True:
        before = len(seen)
        for path in index_files(base, seen):
            _mark_one(base, path, marked)
            while len(marked.digests) > digests_max and marked.end - first > 1:
                marked.end = max(first + 1, marked.digests.halve())
            observer.advance(items=1)
        if len(seen) == before:
            return marked


def _mark_one(base: str, path: str, marked: Marked) -> None:
    index = open_checked(base, path)
    if index is None:
        return
    marked.digests.add_below(digest_set.column(index), marked.first, marked.end)
    marked.paths.add(path)
    marked.data_bytes += index.size_bytes
    if snapshot_of(path) is None:
        marked.unexpected.append(path)


def open_checked(base: str, path: str) -> Index | None:
    """The index at `path` below `base`; None when it has just been removed.

    Raises:
        DamagedData: its structure or its checksum is wrong; the message names the path.
    """
    try:
        index = open_index(os.path.join(base, path))
    except NotFound:
        return None
    except DamagedData as error:
        raise _damaged(path, error.reason) from error
    if index.checksum() != index.header_csum:
        raise _damaged(path, "its table does not match its checksum")
    return index


def _damaged(path: str, reason: str) -> DamagedData:
    return DamagedData(
        f"index {path}",
        reason,
        hint="restore this file from another copy, or forget its snapshot; none of its chunks was removed",
    )


def users_of(base: str, paths: set[str], wanted: Digests) -> dict[bytes, list[str]]:
    """For each digest of the sorted array `wanted`: the index files that refer to it.

    Indexes that are gone or damaged are left out.
    """
    users: dict[bytes, list[str]] = {digest: [] for digest in digest_set.digest_bytes(wanted)}
    for path in sorted(paths):
        try:
            index = open_checked(base, path)
        except DamagedData:
            continue
        if index is None:
            continue
        at, found = digest_set.positions(wanted, digest_set.distinct(digest_set.column(index)))
        for digest in digest_set.digest_bytes(wanted[at[found]]):
            users[digest].append(path)
    return users
