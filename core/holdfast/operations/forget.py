"""Forget snapshots, or say what that would free."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from holdfast.datastore.exclusive import Freed, freed_by_removing
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, Protected
from holdfast.ids import SnapshotId
from holdfast.operations.pg_guard import refuse_to_forget
from holdfast.operations.progress import Progress


class ForgetMode(Enum):
    """Whether anything is done."""

    PREVIEW = "preview"
    FORGET = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetRequest:
    """Which snapshots, and whether to do it."""

    store: Datastore
    snapshots: Sequence[SnapshotId]
    mode: ForgetMode = ForgetMode.PREVIEW


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetOutcome:
    """What is gone, or would be.

    Attributes:
        own_bytes: the snapshots' own files, free at once.
        chunk_bytes: chunks on the disk that only these snapshots name; free after gc. 0, with a
            warning, when a damaged index lets nobody say.
        chunk_count: how many those are.
    """

    snapshots: tuple[SnapshotId, ...]
    own_bytes: int
    chunk_bytes: int
    chunk_count: int

    @property
    def freed_bytes(self) -> int:
        return self.own_bytes + self.chunk_bytes


def forget(request: ForgetRequest, progress: Progress) -> ForgetOutcome:
    """Do it, or look what it would do; both count the same way.

    Nothing is removed when one of several may not be.

    Raises:
        NotFound: no such snapshot.
        Protected: somebody protected it.
        Refused: it holds WAL of a cluster, or a base backup that others build on.
        Busy: it is being written, read or built upon; those before it are gone.
    """
    store, snapshots = request.store, tuple(dict.fromkeys(request.snapshots))
    for snapshot in snapshots:
        if store.is_protected(snapshot):
            raise Protected(
                f"{snapshot} is protected", hint=f"`holdfast unprotect {snapshot}` first"
            )
        refuse_to_forget(store, snapshot)
    progress.phase("count")
    own_bytes = sum(file.size for one in snapshots for file in store.files(one))
    freed = _freed(store, snapshots, progress)
    outcome = ForgetOutcome(
        snapshots=snapshots,
        own_bytes=own_bytes,
        chunk_bytes=freed.total_bytes,
        chunk_count=freed.chunks,
    )
    if request.mode is ForgetMode.FORGET:
        remove(store, snapshots, progress)
    return outcome


def remove(store: Datastore, snapshots: Sequence[SnapshotId], progress: Progress) -> None:
    """Without counting (errors as in forget)."""
    progress.phase("forget")
    progress.total(items=len(snapshots))
    for snapshot in snapshots:
        refuse_to_forget(store, snapshot)
        store.remove_snapshot(snapshot)
        progress.advance(items=1)


def _freed(store: Datastore, snapshots: Sequence[SnapshotId], progress: Progress) -> Freed:
    try:
        return freed_by_removing(store, snapshots, observer=progress)
    except DamagedData as error:  # forgetting it may be the very cure
        progress.warn(f"what gc could free cannot be told: {error.message}")
        return Freed({}, 0)
