"""Forget snapshots, or say what that would free."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from holdfast.datastore.store import Datastore
from holdfast.errors import HoldfastError, Protected
from holdfast.ids import Namespace, SnapshotId
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
        chunk_bytes: chunks on the disk that only these snapshots name; free after gc.
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
    chunks = chunks_only_in(store, snapshots, progress)
    outcome = ForgetOutcome(
        snapshots=snapshots,
        own_bytes=own_bytes,
        chunk_bytes=sum(_stored_bytes(store, digest) for digest in chunks),
        chunk_count=len(chunks),
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


def chunks_only_in(
    store: Datastore, snapshots: Sequence[SnapshotId], progress: Progress
) -> set[bytes]:
    """Digests no other snapshot of the store names; an unreadable index counts as naming none."""
    wanted: set[bytes] = set().union(*(_digests(store, snapshot) for snapshot in snapshots))
    chosen = set(snapshots)
    others = [
        other
        for ns in store.namespaces(Namespace())
        for group in store.groups(ns)
        for other in store.snapshots(group)
        if other not in chosen
    ]
    progress.total(items=len(others))
    for other in others:
        if not wanted:
            break
        wanted -= _digests(store, other)
        progress.advance(items=1)
    return wanted


def _digests(store: Datastore, snapshot: SnapshotId) -> set[bytes]:
    found: set[bytes] = set()
    try:
        for file in store.files(snapshot):
            if file.name.endswith((".didx", ".fidx")):
                found.update(store.open_index_file(snapshot, file.name).digests())
    except (
        HoldfastError
    ):  # vanished or damaged meanwhile: gc looks again before it removes anything
        return found
    return found


def _stored_bytes(store: Datastore, digest: bytes) -> int:
    name = digest.hex()
    try:
        return os.stat(f"{store.base}/.chunks/{name[:4]}/{name}").st_size
    except OSError:
        return 0
