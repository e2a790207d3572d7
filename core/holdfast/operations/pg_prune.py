"""Retention of a cluster: bases by a policy, and exactly the WAL that the kept ones need.

A kept differential keeps what it builds on. Bases inside the window of point-in-time recovery keep
all WAL from their start on, on every timeline that descends from theirs; older ones keep the WAL
that makes them consistent. History files stay for ever, and so does a batch whose index cannot be
read. Without any kept base in the present history its newest unbroken run of WAL stays: a base may
be on its way. WAL goes batch by batch: one needed file keeps its batch.

Removal goes from the newest base to the oldest, so that a kill in between leaves no base without
what it builds on, and WAL goes last.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.datastore import prune as engine
from holdfast.datastore.prune import Pruned
from holdfast.datastore.retention import RetentionPolicy
from holdfast.datastore.store import Datastore
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import BackupType, GroupId, SnapshotId
from holdfast.operations.pg_view import BaseSeen, ClusterStatus, History
from holdfast.operations.progress import Progress
from holdfast.postgres.recoverability import needed_from, newest_run
from holdfast.postgres.wal_catalogue import WalEntry
from holdfast.postgres.wal_names import WalKind, last_segment_before, segment_of


@dataclass(frozen=True, slots=True)
class PgDecision:
    """What happens to a snapshot of the cluster, and why."""

    snapshot: SnapshotId
    keeps: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PgPruneRequest:
    """Which cluster, by which policy.

    Attributes:
        status: a look at the cluster, without the stage.
        policy: which bases to keep.
        pitr_s: how far back every moment has to be recoverable; None: as far as kept bases go.
    """

    store: Datastore
    status: ClusterStatus
    policy: RetentionPolicy
    pitr_s: int | None = None


def plan(request: PgPruneRequest, *, clock: Clock = SYSTEM_CLOCK) -> list[PgDecision]:
    """The decision for every base and every batch, oldest first; nothing is changed.

    Raises:
        HoldfastError: the store cannot be listed.
    """
    bases = _plan_bases(request)
    kept = {one.snapshot for one in bases if one.keeps}
    since_s = None if request.pitr_s is None else clock.now_s() - request.pitr_s
    return [*bases, *_plan_wal(request.status, kept, since_s)]


def _plan_bases(request: PgPruneRequest) -> list[PgDecision]:
    status = request.status
    ns = status.catalogue.group.ns
    group = GroupId(BackupType.HOST, status.cluster, ns)
    planned = engine.plan(request.store, [group], request.policy)
    keeps = {str(one.snapshot): one.keeps for one in planned}
    needed_by: dict[str, str] = {}
    for base in status.bases:
        if keeps.get(str(base.snapshot), True):
            for name in base.chain:
                needed_by.setdefault(name, str(base.snapshot))
    return [
        PgDecision(
            one.snapshot,
            one.keeps or str(one.snapshot) in needed_by,
            one.reason
            if one.keeps or str(one.snapshot) not in needed_by
            else f"{needed_by[str(one.snapshot)]} builds on it",
        )
        for one in sorted(planned, key=lambda one: one.snapshot.time_s)
    ]


class _Needed:
    """Which WAL of one history is needed."""

    def __init__(
        self, history: History, kept: set[SnapshotId], since_s: float | None, *, is_present: bool
    ) -> None:
        bases = [base for base in history.bases if base.snapshot in kept]
        reaching = [
            base
            for base in bases
            if since_s is None or base.position.stop_s >= since_s or base is _last(bases, since_s)
        ]
        self._from = dict(needed_from([base.position for base in reaching], history.wal))
        self._exactly = [base for base in bases if base not in reaching]
        self._size = history.wal.segment_bytes
        run = newest_run(history.wal)
        if is_present and not bases and run is not None:
            self._from[run[0]] = min(self._from.get(run[0], run[1]), run[1])

    def is_needed(self, entry: WalEntry) -> bool:
        if entry.name.kind is WalKind.HISTORY:
            return True
        number = entry.name.segment(self._size)
        first = self._from.get(entry.name.timeline)
        if first is not None and number >= first:
            return True
        return any(self._has(base, entry.name.timeline, number) for base in self._exactly)

    def _has(self, base: BaseSeen, timeline: int, number: int) -> bool:
        first = segment_of(base.position.start_lsn, self._size)
        last = last_segment_before(base.position.stop_lsn, self._size)
        return base.position.timeline == timeline and first <= number <= last


def _last(bases: list[BaseSeen], since_s: float | None) -> BaseSeen | None:
    """The newest base before the window: recovery to the window's beginning starts from it."""
    before = [base for base in bases if since_s is not None and base.position.stop_s < since_s]
    return max(before, key=lambda base: base.position.stop_s, default=None)


def _plan_wal(
    status: ClusterStatus, kept: set[SnapshotId], since_s: float | None
) -> list[PgDecision]:
    needed = {
        history.generation: _Needed(
            history, kept, since_s, is_present=history is status.histories[-1]
        )
        for history in status.histories
    }
    batches: dict[SnapshotId, list[WalEntry]] = {}
    for entry in status.catalogue:
        batches.setdefault(entry.batch, []).append(entry)
    decisions = []
    for batch in sorted(batches, key=lambda one: one.time_s):
        wanted = [one for one in batches[batch] if needed[one.generation].is_needed(one)]
        reason = f"{wanted[0].name.text} is needed" if wanted else "no kept base backup needs it"
        decisions.append(PgDecision(batch, bool(wanted), reason))
    decisions += [
        PgDecision(batch, keeps=True, reason="its index cannot be read")
        for batch, _reason in status.catalogue.unreadable
    ]
    return decisions


def carry_out(
    store: Datastore, decisions: Iterable[PgDecision], wal_group: GroupId, progress: Progress
) -> Pruned:
    """Remove what the plan does not keep; what is in use or protected now stays.

    Raises:
        ReadOnlyViolation: the store is open for reading only.
        HoldfastError: the disk refused; what was removed before stays removed.
    """
    gone = [one.snapshot for one in decisions if not one.keeps]
    bases = [one for one in gone if one.group != wal_group]
    batches = [one for one in gone if one.group == wal_group]
    progress.phase("prune")
    progress.total(items=len(gone))
    newest_first = sorted(bases, key=lambda one: -one.time_s)
    done = engine.remove_all(store, newest_first, observer=progress)
    if done.refused:
        return done  # what stayed may need WAL; the next run decides anew
    oldest_first = sorted(batches, key=lambda one: one.time_s)
    also_done = engine.remove_all(store, oldest_first, observer=progress, up_to_refusal=True)
    return Pruned(done.removed + also_done.removed, also_done.refused)
