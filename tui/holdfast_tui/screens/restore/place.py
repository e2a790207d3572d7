"""Where on the ladder of the left side one is; pure."""

from dataclasses import dataclass
from enum import Enum

from holdfast.ids import GroupId, SnapshotId
from holdfast_tui.render import fmt


class Level(Enum):
    GROUPS = "groups"
    SNAPSHOTS = "snapshots"
    ARCHIVES = "archives"
    FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A step of the ladder; what is empty was not chosen yet."""

    store: str = ""
    group: GroupId | None = None
    snapshot: SnapshotId | None = None
    archive: str = ""
    path: bytes = b""

    @property
    def level(self) -> Level:
        if self.group is None:
            return Level.GROUPS
        if self.snapshot is None:
            return Level.SNAPSHOTS
        return Level.FILES if self.archive else Level.ARCHIVES

    @property
    def moment(self) -> str:
        """The snapshot's time, as people here write it."""
        return "" if self.snapshot is None else fmt.moment(self.snapshot.time_s)

    def crumbs(self, arrow: str, *, with_store: bool) -> str:
        """`main > host/web1 > 2026-01-02 06:00 > etc.pxar`."""
        if self.group is None:
            return "restore"
        store = self.store if with_store else ""
        parts = [store, *self.group.ns.parts, str(self.group), self.moment, self.archive]
        return f" {arrow} ".join(part for part in parts if part)
