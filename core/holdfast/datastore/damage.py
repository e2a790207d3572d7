"""Which chunks of some snapshots are gone, and who else wants them.

A chunk that a verification found damaged was set aside (`DIGEST.N.bad`), so it is missing under its
own name, like one that somebody lost. Chunk files are looked for, not read.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from holdfast.datastore import digest_set
from holdfast.datastore.affected import ChunkUse, joined
from holdfast.datastore.digest_set import Digests, DigestSet
from holdfast.datastore.exclusive import stored_size
from holdfast.datastore.gc_mark import open_checked
from holdfast.datastore.index import Index
from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.errors import DamagedData
from holdfast.ids import SnapshotId

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore

_SET_ASIDE_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class LostChunk:
    """A chunk that some index refers to and that cannot be read.

    Attributes:
        set_aside_s: when a verification took it out of the way, seconds since 1970; None when there
            is no file of it at all.
        uses: every index of the store that refers to it.
    """

    digest: bytes
    set_aside_s: float | None
    uses: tuple[ChunkUse, ...]

    @property
    def snapshots(self) -> tuple[SnapshotId, ...]:
        """Each once, in the order of the store."""
        return tuple(dict.fromkeys(use.snapshot for use in self.uses))


def lost_chunks(
    store: "Datastore", suspects: Sequence[SnapshotId], *, observer: Observer = NOBODY
) -> list[LostChunk]:
    """The chunks of `suspects` that have no file, with everybody who uses them, by digest.

    Indexes that cannot be read are left out with a warning.

    Raises:
        HoldfastError: a directory cannot be read.
    """
    paths = list(index_files(store.base, set()))
    chosen = set(suspects)
    wanted = [path for path in paths if snapshot_of(path) in chosen]
    observer.phase("chunks")
    lost = _without_file(store.base, wanted, observer)
    if not len(lost):
        return []
    observer.phase("indexes")
    observer.total(items=len(paths))
    uses: dict[bytes, list[ChunkUse]] = {digest: [] for digest in digest_set.digest_bytes(lost)}
    for path in paths:
        observer.advance(items=1)
        snapshot = snapshot_of(path)
        index = _open(store.base, path, observer)
        if snapshot is None or index is None:
            continue
        at, there = digest_set.positions(lost, digest_set.column(index))
        numbers = np.flatnonzero(there)
        for which in np.unique(at[numbers]).tolist():
            hits = numbers[at[numbers] == which].tolist()
            digest = lost[which : which + 1].tobytes()
            name = path.rpartition("/")[2]
            uses[digest].append(ChunkUse(snapshot, name, joined(index, hits)))
    return [
        LostChunk(digest, _set_aside_s(store.base, digest), tuple(found))
        for digest, found in uses.items()
    ]


def _without_file(base: str, paths: Sequence[str], observer: Observer) -> Digests:
    """Distinct digests of the indexes that have no chunk file, sorted."""
    every = DigestSet()
    for path in paths:
        index = _open(base, path, observer)
        if index is not None:
            every.add(digest_set.column(index))
    digests = every.ordered()
    observer.total(items=len(digests))
    gone = []
    for digest in digest_set.digest_bytes(digests):
        if stored_size(base, digest) is None:
            gone.append(digest)
        observer.advance(items=1)
    return digest_set.from_bytes(gone)


def _open(base: str, path: str, observer: Observer) -> Index | None:
    try:
        return open_checked(base, path)
    except DamagedData as error:
        observer.warn(error.message)
        return None


def _set_aside_s(base: str, digest: bytes) -> float | None:
    name = digest.hex()
    moments = []
    for number in range(_SET_ASIDE_MAX):
        try:
            info = os.lstat(f"{base}/.chunks/{name[:4]}/{name}.{number}.bad")
        except OSError:
            continue
        moments.append(info.st_ctime)
    return max(moments, default=None)
