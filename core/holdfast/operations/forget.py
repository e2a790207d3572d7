"""Forget one snapshot, or say what that would free."""

import os
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
    """Which snapshot, and whether to do it."""

    store: Datastore
    snapshot: SnapshotId
    mode: ForgetMode = ForgetMode.PREVIEW


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetOutcome:
    """What is gone, or would be.

    Attributes:
        own_bytes: the snapshot's own files, free at once.
        chunk_bytes: chunks on the disk that only this snapshot names; free after gc.
        chunk_count: how many those are.
    """

    snapshot: SnapshotId
    own_bytes: int
    chunk_bytes: int
    chunk_count: int

    @property
    def freed_bytes(self) -> int:
        return self.own_bytes + self.chunk_bytes


def forget(request: ForgetRequest, progress: Progress) -> ForgetOutcome:
    """Do it, or look what it would do; both count the same way.

    Raises:
        NotFound: no such snapshot.
        Protected: somebody protected it.
        Refused: it holds WAL of a cluster, or a base backup that others build on.
        Busy: it is being written, read or built upon.
    """
    store, snapshot = request.store, request.snapshot
    if store.is_protected(snapshot):
        raise Protected(f"{snapshot} is protected", hint=f"`holdfast unprotect {snapshot}` first")
    refuse_to_forget(store, snapshot)
    progress.phase("count")
    own_bytes = sum(file.size for file in store.files(snapshot))
    chunks = chunks_only_in(store, snapshot, progress)
    outcome = ForgetOutcome(
        snapshot=snapshot,
        own_bytes=own_bytes,
        chunk_bytes=sum(_stored_bytes(store, digest) for digest in chunks),
        chunk_count=len(chunks),
    )
    if request.mode is ForgetMode.FORGET:
        progress.phase("forget")
        store.remove_snapshot(snapshot)
    return outcome


def chunks_only_in(store: Datastore, snapshot: SnapshotId, progress: Progress) -> set[bytes]:
    """Digests no other snapshot of the store names; an unreadable index counts as naming none."""
    wanted = _digests(store, snapshot)
    others = [
        other
        for ns in store.namespaces(Namespace())
        for group in store.groups(ns)
        for other in store.snapshots(group)
        if other != snapshot
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
