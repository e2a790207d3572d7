"""Who uses the space of a store: what each snapshot and each group holds for itself.

Every index is read twice: for the distinct chunks, then for who refers to them. The chunk files are
only looked at for their lengths. Memory is about 60 bytes per distinct chunk.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from holdfast.datastore import digest_set
from holdfast.datastore.gc_mark import open_checked
from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.datastore.stats import SizeClass, distinct_chunks, size_classes, stored_files
from holdfast.ids import GroupId, SnapshotId
from holdfast.units import DAY

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore

SHARED_UPTO: Final = (1, 9, 49, None)
WEEKS: Final = 12
_NOBODY: Final = -1
_SEVERAL: Final = -2


@dataclass(frozen=True, slots=True)
class SharedBy:
    """Chunks that so many snapshots refer to: more than the class before, at most `upto`."""

    upto: int | None
    chunks: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Figures about a whole store. Bytes are lengths of chunk files, unless it says otherwise.

    Attributes:
        snapshots, groups: bytes that nobody else refers to.
        logical_bytes: streams and images of all snapshots, one after the other.
        chunk_bytes: data of distinct chunks before compression.
        histogram: by length of the data.
        shared_by: by how many snapshots refer to a chunk.
        weeks: bytes that the oldest snapshot still there brought, for the last weeks, oldest first.
    """

    snapshots: dict[SnapshotId, int] = field(default_factory=dict)
    groups: dict[GroupId, int] = field(default_factory=dict)
    logical_bytes: int = 0
    chunks: int = 0
    chunk_bytes: int = 0
    stored_bytes: int = 0
    missing_chunks: int = 0
    histogram: tuple[SizeClass, ...] = ()
    shared_by: tuple[SharedBy, ...] = ()
    weeks: tuple[int, ...] = ()


def measure(store: "Datastore", now_s: float, *, observer: Observer = NOBODY) -> Usage:
    """Figures about all snapshots of the store.

    Raises:
        DamagedData: an index cannot be trusted.
        HoldfastError: something cannot be read.
    """
    observer.phase("indexes")
    paths = list(index_files(store.base, set()))
    observer.total(items=2 * len(paths))
    digests, sizes, logical_bytes = distinct_chunks(store.base, paths)
    observer.advance(items=len(paths))
    users = _Users(digests, now_s)
    owned: dict[SnapshotId, list[str]] = {}
    strays = []
    for path in paths:
        snapshot = snapshot_of(path)
        if snapshot is None:
            strays.append(path)
        else:
            owned.setdefault(snapshot, []).append(path)
    users.take_strays(store.base, strays)
    for snapshot, files in owned.items():
        users.take(store.base, snapshot, files)
        observer.advance(items=len(files))
    observer.phase("chunks")
    observer.total(items=len(digests))
    stored, is_there = stored_files(store.base, digests, observer)
    return Usage(
        snapshots=dict(zip(users.snapshots, _sums(users.holder, stored, len(owned)), strict=True)),
        groups=dict(zip(users.groups, _sums(users.group, stored, len(users.groups)), strict=True)),
        logical_bytes=logical_bytes,
        chunks=len(digests),
        chunk_bytes=int(sizes.sum(dtype=np.int64)),
        stored_bytes=int(stored.sum(dtype=np.int64)),
        missing_chunks=int(len(digests) - is_there.sum()),
        histogram=size_classes(sizes, stored),
        shared_by=_shared_by(users.count, stored),
        weeks=tuple(_sums(users.week, stored, WEEKS)),
    )


class _Users:
    """Who refers to each chunk, as numbers into `snapshots` and `groups`."""

    def __init__(self, digests: digest_set.Digests, now_s: float) -> None:
        self.snapshots: list[SnapshotId] = []
        self.groups: dict[GroupId, int] = {}
        self.holder = np.full(len(digests), _NOBODY, dtype=np.int32)
        self.group = np.full(len(digests), _NOBODY, dtype=np.int32)
        self.count = np.zeros(len(digests), dtype=np.int32)
        self.week = np.full(len(digests), WEEKS, dtype=np.int32)
        self._digests = digests
        begin_s = now_s - WEEKS * 7 * DAY
        self._week_starts = [begin_s + number * 7 * DAY for number in range(WEEKS)]

    def take(self, base: str, snapshot: SnapshotId, paths: Sequence[str]) -> None:
        at = self._positions(base, paths)
        group = self.groups.setdefault(snapshot.group, len(self.groups))
        self._claim(self.holder, at, len(self.snapshots))
        self._claim(self.group, at, group)
        self.count[at] += 1
        week = bisect.bisect_right(self._week_starts, snapshot.time_s) - 1  # -1: longer ago
        self.week[at] = np.minimum(self.week[at], week)
        self.snapshots.append(snapshot)

    def take_strays(self, base: str, paths: Sequence[str]) -> None:
        """Indexes outside of any snapshot: what they name is nobody's alone."""
        at = self._positions(base, paths)
        self.holder[at] = _SEVERAL
        self.group[at] = _SEVERAL

    def _positions(self, base: str, paths: Sequence[str]) -> npt.NDArray[np.intp]:
        found: list[npt.NDArray[np.intp]] = []
        for path in paths:
            index = open_checked(base, path)
            if index is not None:
                at, there = digest_set.positions(self._digests, digest_set.column(index))
                found.append(at[there])
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.intp)

    @staticmethod
    def _claim(holders: npt.NDArray[np.int32], at: npt.NDArray[np.intp], number: int) -> None:
        before = holders[at]
        is_free = (before == _NOBODY) | (before == number)
        holders[at] = np.where(is_free, number, _SEVERAL)


def _sums(number: npt.NDArray[np.int32], stored: digest_set.Sizes, count: int) -> list[int]:
    """Stored bytes for each number from 0 to `count`; others are left out."""
    inside = (number >= 0) & (number < count)
    sums: list[float] = np.bincount(
        number[inside], weights=stored[inside], minlength=count
    ).tolist()
    return [round(each) for each in sums]


def _shared_by(count: npt.NDArray[np.int32], stored: digest_set.Sizes) -> tuple[SharedBy, ...]:
    classes = []
    above = 0
    for upto in SHARED_UPTO:
        inside = count > above
        if upto is not None:
            inside &= count <= upto
            above = upto
        total = int(stored[inside].sum(dtype=np.int64))
        classes.append(SharedBy(upto, int(inside.sum()), total))
    return tuple(classes)
