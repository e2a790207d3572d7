"""What a command works on: one snapshot, one group, or a namespace with all below it."""

from holdfast.datastore.store import Datastore
from holdfast.errors import NotFound
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId
from holdfast.operations.snapshots import find_snapshot

_BENCHMARK = ("benchmark", BackupType.HOST)  # runs that measure speed; their data means nothing


def groups_in(store: Datastore, ns: Namespace, text: str | None) -> list[GroupId]:
    """The group called `text`, or every group of `ns` and the namespaces below it.

    Raises:
        BadRequest: the text names no group.
        NotFound: no such group or namespace.
    """
    if text is not None:
        group = GroupId.parse(text.rstrip("/"), ns)
        if not store.exists(group):
            raise NotFound(f"there is no group {group}", hint="`holdfast snapshots` lists them")
        return [group]
    return [
        group
        for each in store.namespaces(ns)
        for group in store.groups(each)
        if (group.id, group.type) != _BENCHMARK
    ]


def snapshots_in(store: Datastore, ns: Namespace, text: str | None) -> list[SnapshotId]:
    """The snapshots of a snapshot, a group or (None) a namespace with all below, newest first.

    Raises:
        BadRequest: the text names neither.
        NotFound: nothing of that name.
    """
    if text is not None and text.rstrip("/").count("/") > 1:
        return [find_snapshot(store, ns, text)]
    found: list[SnapshotId] = []
    for group in groups_in(store, ns, text):
        try:
            found += reversed(store.snapshots(group))
        except NotFound:  # removed meanwhile
            continue
    return found
