"""Where a chunk is used: snapshots, archives, and which bytes of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from holdfast.datastore import digest_set
from holdfast.datastore.gc_mark import open_checked
from holdfast.datastore.index import Index
from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.errors import DamagedData
from holdfast.ids import SnapshotId

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore


@dataclass(frozen=True, slots=True)
class ChunkUse:
    """An index that refers to the chunk.

    Attributes:
        filename: of the index, such as `root.ppxar.didx`.
        ranges: bytes of the stream, first and one behind the last; neighbours are joined.
    """

    snapshot: SnapshotId
    filename: str
    ranges: tuple[tuple[int, int], ...]


def uses_of(
    store: "Datastore", digest: bytes, *, observer: Observer = NOBODY
) -> Iterator[ChunkUse]:
    """Every use of a chunk in the store, by group and oldest first.

    A damaged index is left out with a warning.

    Raises:
        HoldfastError: something cannot be read.
    """
    wanted = digest_set.from_bytes([digest])
    for path in index_files(store.base, set()):
        snapshot = snapshot_of(path)
        if snapshot is None:
            continue
        observer.advance(items=1)
        try:
            index = open_checked(store.base, path)
        except DamagedData as error:
            observer.warn(error.message)
            continue
        if index is None:
            continue
        hits = np.flatnonzero(digest_set.column(index) == wanted[0]).tolist()
        if hits:
            yield ChunkUse(snapshot, path.rpartition("/")[2], joined(index, hits))


def joined(index: Index, numbers: list[int]) -> tuple[tuple[int, int], ...]:
    """Bytes of the stream that the chunks with these ascending numbers hold; neighbours as one."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        start, end = index.range_at(number)
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, end))
    return tuple(ranges)
