"""Pruning: remove the snapshots of a group that a retention policy does not keep.

Planning looks only. Carrying a plan out removes the oldest first, each under its own exclusive lock
and with its protection looked at again, so that a snapshot which somebody began to use or protect
meanwhile stays and is told about. A running backup holds the lock of its snapshot; what a killed one
left behind has no lock and goes like any unfinished snapshot.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING

from holdfast.datastore.exclusive import Freed, freed_by_removing
from holdfast.datastore.observer import NOBODY, Observer
from holdfast.datastore.retention import Candidate, Mark, RetentionPolicy, decide
from holdfast.errors import Busy, NotFound, Protected
from holdfast.ids import GroupId, SnapshotId

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore


@dataclass(frozen=True, slots=True)
class PlannedSnapshot:
    """What the policy says about one snapshot, and why."""

    snapshot: SnapshotId
    mark: Mark
    reason: str

    @property
    def keeps(self) -> bool:
        return self.mark is not Mark.REMOVE


@dataclass(frozen=True, slots=True)
class Refusal:
    """A snapshot that was to go and stayed."""

    snapshot: SnapshotId
    reason: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What carrying a plan out did."""

    removed: tuple[SnapshotId, ...]
    refused: tuple[Refusal, ...]


def plan(
    store: "Datastore",
    groups: Iterable[GroupId],
    policy: RetentionPolicy,
    *,
    zone: tzinfo | None = None,
) -> list[PlannedSnapshot]:
    """The decision for every snapshot of `groups`, group by group, newest first.

    Args:
        store: open for reading at least.
        groups: each is decided by itself; one that is gone has no snapshots.
        policy: how many to keep.
        zone: whose days count; None is the machine's own time zone.

    Raises:
        HoldfastError: a group cannot be listed.
    """
    planned = []
    for group in groups:
        try:
            snapshots = store.snapshots(group)
        except NotFound:
            continue
        by_time = {snapshot.time_s: snapshot for snapshot in snapshots}
        candidates = [
            Candidate(
                time_s=snapshot.time_s,
                is_finished=store.is_finished(snapshot),
                is_protected=store.is_protected(snapshot),
            )
            for snapshot in snapshots
        ]
        planned += [
            PlannedSnapshot(by_time[one.candidate.time_s], one.mark, one.reason)
            for one in decide(candidates, policy, zone=zone)
        ]
    return planned


def removals(planned: Sequence[PlannedSnapshot]) -> list[SnapshotId]:
    """What a plan would remove, in that order: oldest first."""
    gone = [one.snapshot for one in planned if not one.keeps]
    return sorted(gone, key=lambda snapshot: snapshot.time_s)


def freed_by(
    store: "Datastore", planned: Sequence[PlannedSnapshot], *, observer: Observer = NOBODY
) -> Freed:
    """What the next garbage collection could free once the plan is carried out (HoldfastError)."""
    return freed_by_removing(store, removals(planned), observer=observer)


def carry_out(
    store: "Datastore", planned: Sequence[PlannedSnapshot], *, observer: Observer = NOBODY
) -> Pruned:
    """Remove what the plan does not keep, as `remove_all` does."""
    return remove_all(store, removals(planned), observer=observer)


def remove_all(
    store: "Datastore",
    snapshots: Iterable[SnapshotId],
    *,
    observer: Observer = NOBODY,
    up_to_refusal: bool = False,
) -> Pruned:
    """Remove snapshots in the order given; those that are in use or protected now stay.

    Args:
        store: open for writing.
        snapshots: what is to go.
        observer: who wants to know.
        up_to_refusal: those behind the first one that stays, stay as well.

    Raises:
        ReadOnlyViolation: the store is not open for writing.
        HoldfastError: the disk refused; what was removed before stays removed.
    """
    store.require_writable()
    removed: list[SnapshotId] = []
    refused: list[Refusal] = []
    for snapshot in snapshots:
        if refused and up_to_refusal:
            break
        observer.item(str(snapshot))
        try:
            store.remove_snapshot(snapshot)
        except NotFound:  # somebody else was faster
            removed.append(snapshot)
        except (Busy, Protected) as error:
            refused.append(Refusal(snapshot, error.message))
            observer.warn(f"{snapshot} stays: {error.message}")
        else:
            removed.append(snapshot)
        observer.advance(items=1)
    return Pruned(tuple(removed), tuple(refused))
