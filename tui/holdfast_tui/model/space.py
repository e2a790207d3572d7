"""Who holds the space of a store, as rows; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.ids import GroupId
from holdfast_tui.model.explorer import group_name
from holdfast_tui.model.snapshots import Catalogue

if TYPE_CHECKING:
    from holdfast.datastore.usage import SharedBy, Usage


@dataclass(frozen=True, slots=True)
class Holder:
    """One group.

    Attributes:
        only: stored bytes that no other group refers to.
        logical: of all its snapshots, before deduplication and compression.
    """

    group: GroupId
    only: int
    snapshots: int
    logical: int

    @property
    def name(self) -> str:
        """With its namespace."""
        return group_name(self.group)


def holders_of(usage: "Usage", catalogue: Catalogue | None) -> list[Holder]:
    """The biggest first; groups that are gone since are left out."""
    groups = {} if catalogue is None else catalogue.groups
    found = [
        Holder(group, only, len(rows), sum(row.summary.size for row in rows))
        for group, only in usage.groups.items()
        if (rows := groups.get(group, ())) or catalogue is None
    ]
    found.sort(key=lambda holder: (-holder.only, holder.name))
    return found


def sharing_name(classes: "Sequence[SharedBy]", at: int) -> str:
    """`1`, `2 to 9`, `50 and up`."""
    upto = classes[at].upto
    above = classes[at - 1].upto if at else 0
    first = (above or 0) + 1
    if upto is None:
        return f"from {first}"
    return str(upto) if first == upto else f"{first} to {upto}"
