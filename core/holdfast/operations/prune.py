"""Remove the snapshots that a retention policy does not keep, or say which those are."""

from dataclasses import dataclass

from holdfast.datastore import prune as engine
from holdfast.datastore.exclusive import Freed
from holdfast.datastore.prune import PlannedSnapshot, Pruned
from holdfast.datastore.retention import RetentionPolicy
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, Refused
from holdfast.ids import GroupId, Namespace, SnapshotId
from holdfast.operations.pg_guard import is_of_cluster
from holdfast.operations.progress import Progress
from holdfast.operations.scope import groups_in


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRequest:
    """Which groups, by which policy.

    Attributes:
        group: `TYPE/ID` in `ns`; None for every group of `ns` and below.
    """

    store: Datastore
    ns: Namespace
    policy: RetentionPolicy
    group: str | None = None


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """Every decision, and what the removals would free.

    Attributes:
        decisions: group by group, newest first.
        freed: None when an index of the store is damaged, so that nobody can tell.
    """

    decisions: tuple[PlannedSnapshot, ...]
    freed: Freed | None

    def freed_bytes(self, snapshot: SnapshotId) -> int | None:
        """Stored bytes that the next collection could free thanks to this removal."""
        return self.freed.by_snapshot.get(snapshot, 0) if self.freed is not None else None

    @property
    def removals(self) -> list[SnapshotId]:
        """Oldest first."""
        return engine.removals(self.decisions)


def plan(request: PruneRequest, progress: Progress) -> PrunePlan:
    """Decide; nothing is changed.

    Raises:
        BadRequest, NotFound: no such group.
        Refused: it is one of a database cluster.
        HoldfastError: something cannot be read.
    """
    progress.phase("plan")
    groups = _prunable(request)
    decisions = engine.plan(request.store, groups, request.policy)
    try:
        freed = engine.freed_by(request.store, decisions, observer=progress)
    except DamagedData as error:
        progress.warn(f"how much this frees is unknown: {error.message}")
        freed = None
    return PrunePlan(tuple(decisions), freed)


def _prunable(request: PruneRequest) -> list[GroupId]:
    """The groups of the request; those of database clusters are for `pg prune` (Refused)."""
    groups = groups_in(request.store, request.ns, request.group)
    if request.group is None:
        return [group for group in groups if not is_of_cluster(request.store, group)]
    for group in groups:
        if is_of_cluster(request.store, group):
            raise Refused(
                f"{group} belongs to a database cluster, whose bases and WAL need each other",
                hint="`holdfast pg prune` knows how; `prune` without a group leaves it alone",
            )
    return groups


def carry_out(store: Datastore, planned: PrunePlan, progress: Progress) -> Pruned:
    """Remove what the plan does not keep, oldest first.

    Raises:
        ReadOnlyViolation: the store is open for reading only.
        HoldfastError: the disk refused.
    """
    progress.phase("prune")
    progress.total(items=len(planned.removals))
    return engine.carry_out(store, planned.decisions, observer=progress)
