"""What removing some snapshots would free: chunks that no other snapshot refers to.

The digests of the selection are collected first, then every other index of the store strikes out
its own. What is left is exclusive. Memory is that of the selection's distinct digests (36 bytes
each), however large the store.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from holdfast.datastore import digest_set
from holdfast.datastore.digest_set import Digests, DigestSet
from holdfast.datastore.gc_mark import open_checked
from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.ids import SnapshotId

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore


Holders = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Freed:
    """What a garbage collection could free if the selection were gone.

    Attributes:
        by_snapshot: stored bytes, each chunk counted with the last snapshot that holds it when
            the selection is removed in the order given.
        chunks: how many chunk files that is.
    """

    by_snapshot: dict[SnapshotId, int]
    chunks: int

    @property
    def total_bytes(self) -> int:
        return sum(self.by_snapshot.values())


def freed_by_removing(
    store: "Datastore", selection: Sequence[SnapshotId], *, observer: Observer = NOBODY
) -> Freed:
    """Count the chunk files that only snapshots of `selection` refer to.

    Args:
        store: open for reading at least.
        selection: in the order in which they would be removed.
        observer: told of every index file as an item.

    Raises:
        DamagedData: an index of the store cannot be trusted, so nothing can be said.
        HoldfastError: something cannot be read.
    """
    if not selection:
        return Freed({}, 0)
    digests, holders = exclusive_digests(store, selection, observer=observer)
    freed = dict.fromkeys(selection, 0)
    count = 0
    for digest, holder in zip(digest_set.digest_bytes(digests), holders.tolist(), strict=True):
        size = stored_size(store.base, digest)
        if size is not None:
            freed[selection[holder]] += size
            count += 1
    return Freed(freed, count)


def exclusive_digests(
    store: "Datastore", selection: Sequence[SnapshotId], *, observer: Observer = NOBODY
) -> tuple[Digests, Holders]:
    """The digests that only `selection` refers to, sorted, and for each the last one that does.

    The last one is given as its position in the selection (arguments and errors as above).
    """
    order = {snapshot: number for number, snapshot in enumerate(selection)}
    chosen: list[tuple[int, str]] = []
    others: list[str] = []
    for path in index_files(store.base, set()):
        snapshot = snapshot_of(path)
        if snapshot in order:
            chosen.append((order[snapshot], path))
        else:
            others.append(path)
    observer.total(items=len(chosen) + len(others))
    digests, holders = _last_holders(store.base, sorted(chosen), observer)
    exclusive = np.ones(len(digests), dtype=np.bool_)
    for path in others:
        if len(digests):
            at, found = digest_set.positions(digests, _column(store.base, path))
            exclusive[at[found]] = False
        observer.advance(items=1)
    return digests[exclusive], holders[exclusive]


def _last_holders(
    base: str, chosen: Iterable[tuple[int, str]], observer: Observer
) -> tuple[Digests, Holders]:
    """The selection's digests, sorted, and the last number in the order that has each."""
    found = DigestSet()
    numbered = list(chosen)
    for _number, path in numbered:
        found.add(_column(base, path))
        observer.advance(items=1)
    digests = found.ordered()
    holders = np.zeros(len(digests), dtype=np.int32)
    for number, path in numbered:  # ascending, so that the last one stays
        column = _column(base, path)
        at, there = digest_set.positions(digests, column)
        holders[at[there]] = number
    return digests, holders


def _column(base: str, path: str) -> Digests:
    index = open_checked(base, path)
    return digest_set.column(index) if index is not None else digest_set.empty()


def stored_size(base: str, digest: bytes) -> int | None:
    """Length of a chunk's file, None when it is missing (OSError)."""
    name = digest.hex()
    try:
        return os.lstat(f"{base}/.chunks/{name[:4]}/{name}").st_size
    except FileNotFoundError:
        return None
