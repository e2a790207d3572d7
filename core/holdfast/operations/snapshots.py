"""Lists of snapshots with what their manifests say; reads only, takes no locks."""

from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.datastore.manifest import Manifest, VerifyState
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, HoldfastError, NotFound
from holdfast.ids import GroupId, Namespace, SnapshotId
from holdfast.operations.contents import Archive, archives


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSummary:
    """One line of a list.

    Attributes:
        archives: empty for an unfinished or damaged snapshot.
        owner: of the group; empty when it cannot be read.
        damage: why the manifest cannot be read; None when it can.
    """

    snapshot: SnapshotId
    archives: tuple[Archive, ...] = ()
    is_protected: bool = False
    verify_state: VerifyState | None = None
    owner: str = ""
    comment: str = ""
    is_unfinished: bool = False
    damage: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all archives before deduplication and compression."""
        return sum(archive.size for archive in self.archives)


def find_snapshot(store: Datastore, ns: Namespace, text: str) -> SnapshotId:
    """The snapshot somebody means.

    Args:
        store: where to look.
        ns: the namespace to look in.
        text: `TYPE/ID/TIME`, or `TYPE/ID` or `TYPE/ID/latest` for the newest finished one.

    Raises:
        BadRequest: the text names no snapshot at all.
        NotFound: there is no such snapshot.
    """
    name = text.rstrip("/")
    if name.count("/") == 1 or name.endswith("/latest"):
        group = GroupId.parse(name.removesuffix("/latest"), ns)
        newest = store.newest_finished(group) if store.exists(group) else None
        if newest is None:
            raise NotFound(f"there is no snapshot of {group}{_inside(ns)}", hint=_LIST)
        return newest
    snapshot = SnapshotId.parse(name, ns)
    if not store.exists(snapshot):
        raise NotFound(f"there is no snapshot {snapshot}{_inside(ns)}", hint=_LIST)
    return snapshot


_LIST = "`holdfast snapshots` lists what there is"


def _inside(ns: Namespace) -> str:
    return f" in the namespace {ns}" if ns.parts else ""


def select(store: Datastore, ns: Namespace, text: str | None) -> list[SnapshotId]:
    """Snapshots of a snapshot, a group or (None) a whole namespace, group by group, oldest first.

    Raises:
        BadRequest: the text names neither.
        NotFound: nothing of that name.
    """
    if text is None:
        return [snapshot for group in store.groups(ns) for snapshot in store.snapshots(group)]
    name = text.rstrip("/")
    if name.count("/") == 1:
        group = GroupId.parse(name, ns)
        if not store.exists(group):
            raise NotFound(f"there is no group {group}{_inside(ns)}", hint=_LIST)
        return store.snapshots(group)
    return [find_snapshot(store, ns, name)]


def summarise(store: Datastore, snapshot: SnapshotId) -> SnapshotSummary:
    """What is known of one snapshot; damage is told, not raised."""
    owner = _owner(store, snapshot.group)
    protected = store.is_protected(snapshot)
    if not store.is_finished(snapshot):
        return SnapshotSummary(
            snapshot=snapshot, owner=owner, is_protected=protected, is_unfinished=True
        )
    try:
        manifest: Manifest = store.manifest(snapshot)
    except DamagedData as error:
        return SnapshotSummary(
            snapshot=snapshot, owner=owner, is_protected=protected, damage=str(error)
        )
    return SnapshotSummary(
        snapshot=snapshot,
        archives=archives(manifest.files),
        is_protected=protected,
        verify_state=manifest.verify_state,
        owner=owner,
        comment=manifest.notes,
    )


def summaries(store: Datastore, ns: Namespace, text: str | None) -> Iterator[SnapshotSummary]:
    """Every selected snapshot; one that vanishes meanwhile is left out."""
    for snapshot in select(store, ns, text):
        try:
            yield summarise(store, snapshot)
        except NotFound:
            continue


def _owner(store: Datastore, group: GroupId) -> str:
    try:
        return store.owner(group)
    except HoldfastError:
        return ""
