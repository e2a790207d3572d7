"""Garbage collection: delete chunks that no index refers to and no running writer may count on.

    1  the collection's lock, alone; the file system's clock; the oldest running writer
    2  mark: every digest of every index (gc_mark)
    3  sweep: touch those, delete what is old and not among them (gc_sweep)
    4  `.gc-status`, and a warning for each chunk that should be there and is not

Backups may run all the while. Story: docs/algorithms/gc.md
Why nothing is lost: docs/decisions/gc-beside-writers.md
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.datastore import digest_set
from holdfast.datastore.access_times import CUTOFF_DEFAULT_S, AgeLimits, checked_clock_s
from holdfast.datastore.digest_set import PREFIX_COUNT, DigestSet
from holdfast.datastore.gc_mark import Marked, mark, users_of
from holdfast.datastore.gc_status import GcStatus, write_status
from holdfast.datastore.gc_sweep import Swept, sweep
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.datastore.process_lock import LOCK_NAME, PrefixGuard, StoreLock
from holdfast.errors import HoldfastError
from holdfast.host.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore

DIGESTS_MAX: Final = 1 << 20  # 32 MB of them, a few times that while they are merged
_MISSING_NAMED_MAX: Final = 10_000  # beyond that only the number is said


@dataclass(frozen=True, slots=True)
class WantedChunk:
    """A chunk without a file, and the index files that refer to it, relative to the base."""

    digest: bytes
    wanted_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GcOutcome:
    """What a collection found, and did unless it was a preview.

    Attributes:
        status: the counts, as they are in `.gc-status`.
        referenced_chunks: different digests any index refers to, missing ones included.
        bad_chunks: set-aside chunk files that are still there.
        missing_chunks: digests without a good file.
        missing: the first of them, by digest.
        unexpected: index files outside of any snapshot; their chunks are kept.
        limits: which ages were removable and pending.
    """

    status: GcStatus
    referenced_chunks: int
    bad_chunks: int
    missing_chunks: int
    missing: tuple[WantedChunk, ...]
    unexpected: tuple[str, ...]
    limits: AgeLimits


def collect_garbage(
    store: "Datastore",
    *,
    upid: str,
    cutoff_s: int = CUTOFF_DEFAULT_S,
    digests_max: int = DIGESTS_MAX,
    observer: Observer = NOBODY,
    clock: Clock = SYSTEM_CLOCK,
) -> GcOutcome:
    """Delete unused chunks that were last used more than `cutoff_s` seconds ago.

    Args:
        store: open for writing.
        upid: the task, for `.gc-status`.
        cutoff_s: see above.
        digests_max: bounds the memory; a store that refers to more chunks is collected in several
            stretches of chunk directories, each with its own mark and sweep.
        observer: told of indexes, then of chunk directories.
        clock: for the ages.

    Raises:
        ReadOnlyViolation: the store is not open for writing.
        Busy: another collection runs, or a Proxmox process writes to the store.
        DamagedData: an index cannot be trusted; nothing was deleted.
        Refused: the file system does not keep access times.
        HoldfastError: a directory or file could not be read, touched or deleted.
    """
    store.require_writable()
    lock = StoreLock(store.base, owner_ids=store.owner_ids)
    with lock.gc(), lock.chunk_guard() as guard:
        # Writers that are not registered yet when they are asked for touch chunks after this second.
        start_s = min(int(clock.now_s()), checked_clock_s(os.path.join(store.base, LOCK_NAME)))
        limits = AgeLimits.at(
            start_s=start_s, cutoff_s=cutoff_s, oldest_writer_s=lock.oldest_writer()
        )
        run = _Run(store.base, limits, guard, observer, digests_max)
        outcome = run.mark_and_sweep(upid)
        try:
            write_status(store.base, outcome.status, owner=store.owner_ids)
        except HoldfastError as error:  # the work is done; only its report is lost
            observer.warn(str(error))
    return outcome


def preview_garbage(
    store: "Datastore",
    *,
    cutoff_s: int = CUTOFF_DEFAULT_S,
    digests_max: int = DIGESTS_MAX,
    observer: Observer = NOBODY,
    clock: Clock = SYSTEM_CLOCK,
) -> GcOutcome:
    """What collect_garbage would do now: takes no lock, touches and changes nothing.

    Raises:
        DamagedData: an index cannot be trusted.
        HoldfastError: a directory or file could not be read.
    """
    oldest_writer_s = StoreLock(store.base).oldest_writer()
    limits = AgeLimits.at(
        start_s=int(clock.now_s()), cutoff_s=cutoff_s, oldest_writer_s=oldest_writer_s
    )
    return _Run(store.base, limits, None, observer, digests_max).mark_and_sweep(None)


@dataclass(frozen=True, slots=True)
class _Run:
    """One collection, or the preview of one (`guard` None)."""

    base: str
    limits: AgeLimits
    guard: PrefixGuard | None
    observer: Observer
    digests_max: int

    def mark_and_sweep(self, upid: str | None) -> GcOutcome:
        swept = Swept()
        whole = marked = self._mark(0)
        referenced = self._sweep(marked, swept)
        while marked.end < PREFIX_COUNT:
            marked = self._mark(marked.end)
            referenced += self._sweep(marked, swept)
        return self._outcome(upid, whole, swept, referenced)

    def _mark(self, first: int) -> Marked:
        self.observer.phase("mark")
        marked = mark(self.base, self.observer, first=first, digests_max=self.digests_max)
        for path in () if first else marked.unexpected:
            self.observer.warn(f"index {path} lies outside of any snapshot; its chunks are kept")
        return marked

    def _sweep(self, marked: Marked, swept: Swept) -> int:
        """Sweep the directories that were marked; how many different chunks are referred to."""
        prefixes = range(marked.first, marked.end)
        self.observer.phase("sweep")
        self.observer.total(items=len(prefixes))
        referenced = marked.digests.ordered()
        sweep(
            self.base,
            referenced,
            self.limits,
            prefixes=prefixes,
            swept=swept,
            guard=self.guard,
            observer=self.observer,
        )
        marked.digests = DigestSet()  # frees them before the next stretch
        return len(referenced)

    def _outcome(
        self, upid: str | None, marked: Marked, swept: Swept, referenced: int
    ) -> GcOutcome:
        missing = _explained(self.base, marked, swept.missing)
        for chunk in missing:
            self.observer.warn(
                f"chunk {chunk.digest.hex()} is missing; wanted by {', '.join(chunk.wanted_by)}"
            )
        if len(swept.missing) > len(missing):
            self.observer.warn(f"{len(swept.missing) - len(missing)} more chunks are missing")
        return GcOutcome(
            status=_status(upid, marked, swept),
            referenced_chunks=referenced,
            bad_chunks=swept.bad_left,
            missing_chunks=len(swept.missing),
            missing=missing,
            unexpected=tuple(marked.unexpected),
            limits=self.limits,
        )


def _explained(base: str, marked: Marked, missing: list[bytes]) -> tuple[WantedChunk, ...]:
    if not missing:
        return ()
    wanted = digest_set.from_bytes(missing[:_MISSING_NAMED_MAX])
    users = users_of(base, marked.paths, wanted)
    return tuple(WantedChunk(digest, tuple(paths)) for digest, paths in users.items() if paths)


def _status(upid: str | None, marked: Marked, swept: Swept) -> GcStatus:
    return GcStatus(
        upid=upid,
        index_file_count=len(marked.paths),
        index_data_bytes=marked.data_bytes,
        disk_bytes=swept.disk_bytes,
        disk_chunks=swept.disk_chunks,
        removed_bytes=swept.removed_bytes,
        removed_chunks=swept.removed_chunks,
        pending_bytes=swept.pending_bytes,
        pending_chunks=swept.pending_chunks,
        removed_bad=swept.removed_bad,
        still_bad=swept.still_bad,
    )
