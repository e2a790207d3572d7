"""Keeps `prune` and `forget` from tearing a cluster's backups apart: `pg prune` knows how they hang
together, a rule that counts snapshots does not.
"""

from typing import Any

from holdfast.datastore.store import Datastore
from holdfast.errors import HoldfastError, Refused
from holdfast.ids import GroupId, SnapshotId


def is_of_cluster(store: Datastore, group: GroupId) -> bool:
    """Whether the group holds base backups or WAL of a PostgreSQL cluster."""
    try:
        newest = store.newest_finished(group)
    except HoldfastError:
        return False
    return newest is not None and _about(store, newest) is not None


def refuse_to_forget(store: Datastore, snapshot: SnapshotId) -> None:
    """Refuse a batch of WAL, and a base backup that others build on (Refused)."""
    about = _about(store, snapshot)
    if about is None:
        return
    if about.get("kind") == "wal":
        raise Refused(
            f"{snapshot} holds WAL: without it recovery would stop in the middle",
            hint="`holdfast pg prune` removes WAL that no base backup needs",
        )
    for other in store.snapshots(snapshot.group):
        chain = (_about(store, other) or {}).get("chain")
        if isinstance(chain, list) and {snapshot.time_name, str(snapshot)} & set(map(str, chain)):
            raise Refused(
                f"{other} builds on {snapshot}",
                hint="forget that one first, or use `holdfast pg prune`",
            )


def _about(store: Datastore, snapshot: SnapshotId) -> dict[str, Any] | None:
    try:
        about = store.manifest(snapshot).unprotected.get("pg")
    except HoldfastError:
        return None
    return about if isinstance(about, dict) else None
