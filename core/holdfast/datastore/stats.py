"""Figures about some snapshots: sizes before and after deduplication and compression.

Sizes of chunks before compression come from the indexes, after it from the chunk files' lengths.
Each distinct chunk counts once. Memory is 36 bytes per distinct chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from holdfast.datastore import digest_set
from holdfast.datastore.digest_set import Digests, DigestSet, Sizes
from holdfast.datastore.exclusive import freed_by_removing, stored_size
from holdfast.datastore.gc_mark import open_checked
from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.ids import SnapshotId
from holdfast.units import KIB, MIB

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore

_CLASS_BYTES_MIN: Final = 64 * KIB
_CLASS_BYTES_MAX: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Chunks whose data has at most `upto` bytes, and more than the class before.

    Attributes:
        data_bytes: before compression.
        stored_bytes: length of their files.
    """

    upto: int
    chunks: int
    data_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """Figures about a selection of snapshots.

    Attributes:
        logical_bytes: streams and images of all snapshots, one after the other.
        chunks: distinct ones.
        chunk_bytes: their data, before compression.
        stored_bytes: their files.
        missing_chunks: distinct ones that have no file.
        exclusive_bytes: files that only this selection refers to.
        histogram: classes of chunk sizes, each twice the one before.
    """

    snapshots: int
    groups: int
    logical_bytes: int
    chunks: int
    chunk_bytes: int
    stored_bytes: int
    missing_chunks: int
    exclusive_bytes: int
    histogram: tuple[SizeClass, ...]

    @property
    def dedup_factor(self) -> float:
        """Bytes backed up per stored byte, deduplication and compression together."""
        return self.logical_bytes / self.stored_bytes if self.stored_bytes else 1.0

    @property
    def compression_ratio(self) -> float:
        """Data before compression per stored byte."""
        return self.chunk_bytes / self.stored_bytes if self.stored_bytes else 1.0


def measure(
    store: "Datastore", selection: Sequence[SnapshotId], *, observer: Observer = NOBODY
) -> StoreStats:
    """Figures about `selection`.

    Raises:
        DamagedData: an index cannot be trusted.
        HoldfastError: something cannot be read.
    """
    chosen = set(selection)
    every = list(index_files(store.base, set()))
    paths = [path for path in every if snapshot_of(path) in chosen]
    digests, sizes, logical_bytes = distinct_chunks(store.base, paths)
    observer.phase("chunks")
    observer.total(items=len(digests))
    stored, is_there = stored_files(store.base, digests, observer)
    stored_bytes = int(stored.sum(dtype=np.int64))
    if len(paths) == len(every):
        exclusive_bytes = stored_bytes
    else:
        exclusive_bytes = freed_by_removing(store, list(chosen)).total_bytes
    return StoreStats(
        snapshots=len(chosen),
        groups=len({snapshot.group for snapshot in chosen}),
        logical_bytes=logical_bytes,
        chunks=len(digests),
        chunk_bytes=int(sizes.sum(dtype=np.int64)),
        stored_bytes=stored_bytes,
        missing_chunks=int(len(digests) - is_there.sum()),
        exclusive_bytes=exclusive_bytes,
        histogram=size_classes(sizes, stored),
    )


def distinct_chunks(base: str, paths: Sequence[str]) -> tuple[Digests, Sizes, int]:
    """Digests, sorted; the length of the data behind each; and the length of all streams."""
    found = DigestSet()
    logical_bytes = 0
    for path in paths:
        index = open_checked(base, path)
        if index is not None:
            logical_bytes += index.size_bytes
            found.add(digest_set.column(index))
    digests = found.ordered()
    sizes = np.zeros(len(digests), dtype=np.uint32)
    for path in paths:
        index = open_checked(base, path)
        if index is not None:
            at, there = digest_set.positions(digests, digest_set.column(index))
            sizes[at[there]] = digest_set.lengths(index)[there]
    return digests, sizes, logical_bytes


def stored_files(base: str, digests: Digests, observer: Observer) -> tuple[Sizes, digest_set.Mask]:
    """Length of each chunk's file, 0 for one that is missing; and which are there (OSError)."""
    stored = np.zeros(len(digests), dtype=np.uint32)
    is_there = np.zeros(len(digests), dtype=np.bool_)
    for number, digest in enumerate(digest_set.digest_bytes(digests)):
        size = stored_size(base, digest)
        if size is not None:
            stored[number] = size
            is_there[number] = True
        observer.advance(items=1)
    return stored, is_there


def size_classes(sizes: Sizes, stored: Sizes) -> tuple[SizeClass, ...]:
    """Chunks by the length of their data, each class up to twice the one before."""
    classes = []
    upto, above = _CLASS_BYTES_MIN, 0
    while upto <= _CLASS_BYTES_MAX:
        inside = (sizes > above) & (sizes <= upto)
        classes.append(
            SizeClass(
                upto,
                int(inside.sum()),
                int(sizes[inside].sum(dtype=np.int64)),
                int(stored[inside].sum(dtype=np.int64)),
            )
        )
        upto, above = 2 * upto, upto
    return tuple(classes)
