"""Which base backups of a cluster there are, and which one a recovery starts from."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from holdfast.datastore.store import Datastore
from holdfast.errors import HoldfastError, NotFound, Refused
from holdfast.ids import GroupId, SnapshotId
from holdfast.postgres.backup_record import UNPROTECTED_KEY
from holdfast.postgres.recovery import RecoverySettings, TargetKind
from holdfast.postgres.wal_names import parse_lsn

About = dict[str, Any]  # a manifest's `unprotected.pg`: from outside, checked where it is used


def bases(store: Datastore, group: GroupId) -> Iterator[tuple[SnapshotId, About]]:
    """Finished base backups and their short records, newest first (HoldfastError)."""
    if not store.exists(group):
        return
    for snapshot in sorted(store.snapshots(group), key=lambda each: each.time_s, reverse=True):
        try:
            about = store.manifest(snapshot).unprotected.get(UNPROTECTED_KEY)
        except HoldfastError:
            continue  # not finished, or damaged: nothing to build on
        if isinstance(about, dict) and "chain" in about:
            yield snapshot, about


def newest_base(
    store: Datastore, group: GroupId, wanted: Callable[[About], bool] = lambda _about: True
) -> SnapshotId | None:
    """The newest base backup whose short record is `wanted`; None when there is none."""
    return next((snapshot for snapshot, about in bases(store, group) if wanted(about)), None)


def ended_s(time_s: int, about: About) -> int:
    """When the server stood where a base ends: a combined one is named after a later second.

    Args:
        time_s: of the snapshot.
        about: its short record; one without a time says nothing better than the snapshot.
    """
    try:
        return min(time_s, int(datetime.fromisoformat(about["stop"]["time"]).timestamp()))
    except (KeyError, TypeError, ValueError):
        return time_s


def base_for(store: Datastore, group: GroupId, recovery: RecoverySettings | None) -> SnapshotId:
    """The newest base backup that a recovery to that target can start from.

    What counts is where a backup ended: only then it is consistent.

    Raises:
        NotFound: there is no base backup at all.
        Refused: all of them ended after the target.
    """
    first: SnapshotId | None = None
    for snapshot, about in bases(store, group):
        first = first or snapshot
        if recovery is None or _ends_before(about, recovery):
            return snapshot
    if first is None:
        raise NotFound(f"{group} has no base backup", hint="take one with `holdfast pg backup`")
    raise Refused(f"every base backup of {group} ended after that target")


def _ends_before(about: About, recovery: RecoverySettings) -> bool:
    target = recovery.target
    try:
        if target.kind is TargetKind.TIME and target.time is not None:
            return datetime.fromisoformat(about["stop"]["time"]) <= target.time
        if target.kind is TargetKind.LSN:
            return parse_lsn(about["stop"]["lsn"]) <= parse_lsn(target.value)
    except (KeyError, TypeError, ValueError, HoldfastError):
        return False
    return True
