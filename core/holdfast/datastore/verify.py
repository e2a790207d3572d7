"""Verification: read everything of some snapshots again, say what is wrong, mark the snapshots.

Each chunk is read once per run, however many snapshots use it. A snapshot's chunks that the run has
not seen yet go to the worker threads as one batch; while they are at it, the next snapshot is
opened. A snapshot is marked (`unprotected.verify_state` of its manifest) as soon as its batch and
all before it are through, so a run that is stopped keeps what it found. Its shared lock is held
until then.

A store that is open for reading only is checked in the same way, but neither are damaged chunks set
aside nor snapshots marked. Source: Proxmox Backup Server, verification. Story:
docs/algorithms/verify.md
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from holdfast.datastore import digest_set, listing, verify_history
from holdfast.datastore.digest_set import DigestSet
from holdfast.datastore.gc_mark import users_of
from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import Manifest, VerifyResult, VerifyState
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.datastore.options import ChunkOrder
from holdfast.datastore.snapshot_check import SnapshotCheck, SnapshotFate, check_files
from holdfast.datastore.verify_workers import (
    BadChunk,
    Batch,
    Fault,
    Task,
    VerifyWorkers,
    by_inode,
)
from holdfast.errors import Busy, DamagedData, HoldfastError, NotFound
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode
from holdfast.ids import SnapshotId
from holdfast.units import DAY
from holdfast.upid import Upid

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore

WORKERS_DEFAULT: Final = 3
READERS_DEFAULT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Which snapshots are worth the time, and how many threads.

    Attributes:
        skip_verified: leave out snapshots that were verified before, whatever the result.
        outdated_after_days: unless that was more than so many days ago.
        workers, readers: threads that check, and how many of them may read at once.
    """

    skip_verified: bool = False
    outdated_after_days: int | None = None
    workers: int = WORKERS_DEFAULT
    readers: int = READERS_DEFAULT

    def wants(self, manifest: Manifest, now_s: float) -> bool:
        """Whether the snapshot has to be verified (again)."""
        state = manifest.verify_state
        if not self.skip_verified or state is None:
            return True
        if self.outdated_after_days is None:
            return False
        return (now_s - state.upid.start_s) // DAY > self.outdated_after_days


@dataclass(frozen=True, slots=True)
class VerifiedSnapshot:
    """One snapshot's result; `problems` are sentences, empty unless it failed or was skipped."""

    snapshot: SnapshotId
    fate: SnapshotFate
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DamagedChunk:
    """A chunk that is corrupt or missing, and every index of the store that wants it."""

    chunk: BadChunk
    indexes: tuple[str, ...]

    @property
    def snapshots(self) -> list[SnapshotId]:
        """Whose indexes they are, each once, in order."""
        found = [snapshot_of(path) for path in self.indexes]
        return list(dict.fromkeys(one for one in found if one is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOutcome:
    """What a run found.

    Attributes:
        chunks: different chunks that were looked at.
        checksum_only: how many of them are encrypted and were checked by their checksum alone.
        stored_bytes, decoded_bytes: read from the disk, and behind them.
        also_marked: snapshots that were not asked about and are marked failed, since they use a
            damaged chunk: a backup must not build on them.
        is_marked: results were written into the manifests; damaged chunks were set aside.
    """

    snapshots: tuple[VerifiedSnapshot, ...]
    damaged: tuple[DamagedChunk, ...]
    chunks: int
    checksum_only: int
    stored_bytes: int
    decoded_bytes: int
    also_marked: tuple[SnapshotId, ...]
    is_marked: bool

    @property
    def has_failed(self) -> bool:
        return any(one.fate is SnapshotFate.FAILED for one in self.snapshots)

    def with_fault(self, fault: Fault) -> list[DamagedChunk]:
        return [one for one in self.damaged if one.chunk.fault is fault]


def verify(
    store: "Datastore",
    snapshots: Sequence[SnapshotId],
    *,
    upid: str,
    options: VerifyOptions = VerifyOptions(),
    key: EncryptionKey | None = None,
    observer: Observer = NOBODY,
    clock: Clock = SYSTEM_CLOCK,
) -> VerifyOutcome:
    """Check `snapshots` in the order given.

    Args:
        store: open for writing to have results kept, or for reading.
        snapshots: finished or not; one whose backup was interrupted is passed over with a warning,
            one that lost its manifest fails, one that is gone is skipped.
        upid: the task that the results are signed with.
        options: what to leave out.
        key: snapshots that were signed with it are checked in full.
        observer: told of chunks as items and their decoded bytes.
        clock: for the age of earlier results.

    Raises:
        HoldfastError: the machine failed, not the data; results so far are kept.
    """
    run = _Run(store, upid, options, key=key, observer=observer, now_s=clock.now_s())
    observer.phase("verify")
    workers = VerifyWorkers(
        workers=options.workers,
        readers=options.readers,
        lock=store.store_lock if store.is_writable else None,
        checked=lambda length: observer.advance(items=1, bytes=length),
    )
    with workers:
        waiting: _Pending | None = None
        try:
            for snapshot in snapshots:
                following = run.begin(snapshot, workers)
                if waiting is not None:
                    run.finish(waiting, workers)
                waiting = following
            if waiting is not None:
                run.finish(waiting, workers)
                waiting = None
        finally:
            if waiting is not None:
                waiting.lock.close()
    return run.outcome()


@dataclass(slots=True)
class _Pending:
    """A snapshot whose chunks are being checked."""

    snapshot: SnapshotId
    check: SnapshotCheck
    batch: Batch
    lock: ExitStack


class _Run:
    """What one run knows."""

    def __init__(
        self,
        store: "Datastore",
        upid: str,
        options: VerifyOptions,
        *,
        key: EncryptionKey | None,
        observer: Observer,
        now_s: float,
    ) -> None:
        self._store = store
        self._upid = upid
        self._options = options
        self._key = key
        self._observer = observer
        self._now_s = now_s
        self._seen = DigestSet()
        self._bad: dict[bytes, BadChunk] = {}
        self._results: list[VerifiedSnapshot] = []
        self._batches: list[Batch] = []
        self._total_chunks = 0
        self._total_bytes = 0

    def begin(self, snapshot: SnapshotId, workers: VerifyWorkers) -> _Pending | None:
        """Open the snapshot, check its blobs, hand out its new chunks; None if it is decided."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._store.locks.snapshot(snapshot, LockMode.SHARED))
                manifest = self._store.manifest(snapshot)
                if not self._options.wants(manifest, self._now_s):
                    self._decide(snapshot, SnapshotFate.SKIPPED, "verified before")
                    return None
                self._observer.item(str(snapshot))
                check = check_files(self._store, snapshot, manifest, self._key)
            except Busy:
                self._decide(snapshot, SnapshotFate.SKIPPED, "in use by another task")
                return None
            except (NotFound, DamagedData) as error:
                self._without_manifest(snapshot, error)
                return None
            batch = Batch()
            self._batches.append(batch)
            pending = _Pending(snapshot, check, batch, stack.pop_all())
        try:
            for tasks in self._tasks(check, batch):
                self._total_chunks += len(tasks)
                self._total_bytes += sum(task.length for task in tasks)
                self._observer.total(items=self._total_chunks, bytes=self._total_bytes)
                workers.submit(tasks)
            batch.close()
        except BaseException:
            pending.lock.close()
            raise
        return pending

    def _without_manifest(self, snapshot: SnapshotId, error: NotFound | DamagedData) -> None:
        """Nothing can be checked: tell what is lost from what never was."""
        if not self._store.exists(snapshot):
            self._decide(snapshot, SnapshotFate.SKIPPED, "it has been removed")
        elif isinstance(error, NotFound) and listing.is_abandoned(self._store.base, snapshot):
            self._decide(
                snapshot, SnapshotFate.UNFINISHED, "its backup was interrupted: nothing to verify"
            )
            self._observer.warn(
                f"{snapshot} was never finished; `holdfast prune` removes it in time,"
                f" `holdfast forget {snapshot}` at once"
            )
        else:
            self._decide(snapshot, SnapshotFate.FAILED, error.message)

    def _tasks(self, check: SnapshotCheck, batch: Batch) -> list[list[Task]]:
        """One list per index: the chunks that this run has not seen."""
        lists = []
        for index in check.indexes:
            column = digest_set.column(index.index)
            new = self._seen.add(column)
            at = np.sort(digest_set.first_positions(column, new))
            lengths = digest_set.lengths(index.index)[at].tolist()
            tasks = [
                Task(
                    path=f"{self._store.base}/.chunks/{digest[:2].hex()}/{digest.hex()}",
                    digest=digest,
                    length=length,
                    wants_encrypted=index.wants_encrypted,
                    key=check.key,
                    batch=batch,
                )
                for digest, length in zip(digest_set.digest_bytes(column[at]), lengths, strict=True)
            ]
            by_disk = self._store.options.chunk_order is ChunkOrder.INODE
            lists.append(by_inode(tasks) if by_disk else tasks)
        return lists

    def finish(self, pending: _Pending, workers: VerifyWorkers) -> None:
        """Wait for the snapshot's chunks, decide and mark it."""
        with pending.lock:
            pending.batch.wait()
            workers.raise_error()
            for bad in pending.batch.bad:
                self._bad[bad.digest] = bad
            problems = [*pending.check.problems, *self._chunk_problems(pending)]
            fate = SnapshotFate.FAILED if problems else SnapshotFate.OK
            if self._store.is_writable:
                try:
                    self._mark(pending.snapshot, fate)
                except HoldfastError as error:
                    problems.append(f"its result cannot be kept: {error.message}")
                    fate = SnapshotFate.FAILED
        self._decide(pending.snapshot, fate, *problems)

    def _chunk_problems(self, pending: _Pending) -> list[str]:
        unlike = digest_set.from_bytes(sorted(pending.batch.unlike))
        bad = digest_set.from_bytes(sorted(self._bad))
        problems = []
        for index in pending.check.indexes:
            column = digest_set.distinct(digest_set.column(index.index))
            at, hit = digest_set.positions(bad, column)
            for digest in digest_set.digest_bytes(bad[at[hit]]):
                problem = self._bad[digest]
                problems.append(
                    f"{index.filename}: chunk {digest.hex()} is {problem.fault}: {problem.reason}"
                )
            at, hit = digest_set.positions(unlike, column)
            problems += [
                f"{index.filename}: chunk {digest.hex()} is "
                + ("not encrypted" if index.wants_encrypted else "encrypted")
                for digest in digest_set.digest_bytes(unlike[at[hit]])
            ]
        return problems

    def _mark_others(self, damaged: Sequence[DamagedChunk]) -> tuple[SnapshotId, ...]:
        """Mark the other users of damaged chunks, which are not found in the store any more."""
        if not self._store.is_writable:
            return ()
        judged = {
            one.snapshot
            for one in self._results
            if one.fate in (SnapshotFate.OK, SnapshotFate.FAILED)
        }
        others = dict.fromkeys(user for chunk in damaged for user in chunk.snapshots)
        marked = []
        for snapshot in others:
            if snapshot not in judged and self._store.is_finished(snapshot):
                try:
                    self._mark(snapshot, SnapshotFate.FAILED)
                except HoldfastError as error:
                    self._observer.warn(f"{snapshot} cannot be marked: {error.message}")
                    continue
                marked.append(snapshot)
        return tuple(marked)

    def _mark(self, snapshot: SnapshotId, fate: SnapshotFate) -> None:
        def change(unprotected: dict[str, Any]) -> None:
            result = VerifyState(VerifyResult(fate.value), Upid.parse(self._upid))
            verify_history.add(unprotected, result)

        try:
            self._store.update_unprotected(snapshot, change)
        except NotFound:
            if self._store.exists(snapshot):
                raise

    def _decide(self, snapshot: SnapshotId, fate: SnapshotFate, *problems: str) -> None:
        self._results.append(VerifiedSnapshot(snapshot, fate, problems))

    def outcome(self) -> VerifyOutcome:
        damaged: tuple[DamagedChunk, ...] = ()
        if self._bad:
            users = _indexes_with(self._store.base, sorted(self._bad))
            damaged = tuple(
                DamagedChunk(self._bad[digest], tuple(paths)) for digest, paths in users.items()
            )
        return VerifyOutcome(
            snapshots=tuple(self._results),
            damaged=damaged,
            chunks=sum(batch.checked for batch in self._batches),
            checksum_only=sum(batch.checksum_only for batch in self._batches),
            stored_bytes=sum(batch.stored_bytes for batch in self._batches),
            decoded_bytes=sum(batch.decoded_bytes for batch in self._batches),
            also_marked=self._mark_others(damaged),
            is_marked=self._store.is_writable,
        )


def _indexes_with(base: str, digests: list[bytes]) -> dict[bytes, list[str]]:
    return users_of(base, set(index_files(base, set())), digest_set.from_bytes(digests))
