"""Stores, namespaces and groups as a tree of rows, and commands on chosen snapshots; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from holdfast.ids import GroupId, Namespace, SnapshotId
from holdfast_tui.model.snapshots import Catalogue, SnapshotRow, VerifyCounts
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.render.look import Mark


class Level(Enum):
    """What a row of the tree is."""

    STORE = "store"
    NAMESPACE = "namespace"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One row of the tree.

    Attributes:
        ns: of a store row the root.
        group: None for stores and namespaces.
        counts: of all snapshots below.
        total: how many those are.
        is_open: its children are shown; None when it has none.
        trouble: why the store cannot be read.
    """

    store: str
    ns: Namespace
    level: Level
    depth: int
    group: GroupId | None = None
    counts: VerifyCounts = field(default_factory=VerifyCounts)
    total: int = 0
    is_open: bool | None = None
    trouble: str = ""

    @property
    def key(self) -> str:
        """Stable: store, namespace, group."""
        return f"{self.store}\n{self.ns}\n{self.group or ''}"

    @property
    def label(self) -> str:
        if self.group is not None:
            return f"{self.group.type}/{self.group.id}"
        return self.store if self.level is Level.STORE else self.ns.parts[-1]

    @property
    def mark(self) -> tuple[Mark, int]:
        """The worst state below, and of how many."""
        return (Mark.LOST, 0) if self.trouble else self.counts.worst

    @property
    def title(self) -> str:
        if self.group is not None:
            return f"{self.ns}/{self.label}" if self.ns.parts else self.label
        return str(self.ns) if self.ns.parts else self.store

    def holds(self, group: GroupId) -> bool:
        """Whether the group is this one, or lies below."""
        if self.group is not None:
            return group == self.group
        return group.ns.parts[: len(self.ns.parts)] == self.ns.parts


class Tree:
    """Makes the rows; counts of groups that did not change are not made again."""

    def __init__(self) -> None:
        self._counted: dict[
            tuple[str, GroupId], tuple[tuple[SnapshotRow, ...], int, VerifyCounts]
        ] = {}

    def rows(
        self,
        stores: Sequence[StoreFacts],
        catalogues: Mapping[str, Catalogue],
        folded: set[str],
        now_s: float,
    ) -> list[Node]:
        """Every row that is not inside a folded one, in order."""
        found: list[Node] = []
        for facts in stores:
            catalogue = catalogues.get(facts.name)
            found += self._store_rows(facts, catalogue, folded, now_s)
        return found

    def _store_rows(
        self, facts: StoreFacts, catalogue: Catalogue | None, folded: set[str], now_s: float
    ) -> list[Node]:
        groups = {} if catalogue is None else catalogue.groups
        counts = {
            group: self._count(facts.name, group, rows, now_s) for group, rows in groups.items()
        }
        below: dict[Namespace, list[GroupId]] = {}
        for group in groups:
            below.setdefault(group.ns, []).append(group)
            ns = group.ns
            while (parent := ns.parent) is not None:
                below.setdefault(parent, [])
                ns = parent
        below.setdefault(Namespace(), [])
        found: list[Node] = []

        def add(ns: Namespace, depth: int) -> None:
            inside = [each for each in below if each.parts[: len(ns.parts)] == ns.parts]
            mine = [group for each in inside for group in below[each]]
            node = Node(
                store=facts.name,
                ns=ns,
                level=Level.NAMESPACE if ns.parts else Level.STORE,
                depth=depth,
                counts=_sum(counts[group] for group in mine),
                total=sum(len(groups[group]) for group in mine),
                trouble=facts.error if not ns.parts else "",
            )
            is_open = node.key not in folded
            found.append(replace(node, is_open=is_open) if mine else node)
            if not is_open:
                return
            found.extend(
                Node(
                    store=facts.name,
                    ns=ns,
                    level=Level.GROUP,
                    depth=depth + 1,
                    group=group,
                    counts=counts[group],
                    total=len(groups[group]),
                )
                for group in sorted(below[ns], key=lambda each: each.sort_key)
            )
            for child in sorted(
                (each for each in below if each.parent == ns), key=lambda each: each.parts
            ):
                add(child, depth + 1)

        add(Namespace(), 0)
        return found

    def _count(
        self, store: str, group: GroupId, rows: tuple[SnapshotRow, ...], now_s: float
    ) -> VerifyCounts:
        day = int(now_s // 3600)
        known = self._counted.get((store, group))
        if known is not None and known[0] == rows and known[1] == day:
            return known[2]
        counts = VerifyCounts.of(rows, now_s)
        self._counted[store, group] = (rows, day, counts)
        return counts


def _sum(counts: Iterable[VerifyCounts]) -> VerifyCounts:
    every = list(counts)
    return VerifyCounts(
        **{
            name: sum(getattr(one, name) for one in every)
            for name in ("ok", "failed", "old", "never", "unfinished", "damaged")
        }
    )


def snapshots_of(node: Node, catalogue: Catalogue | None) -> list[SnapshotRow]:
    """Newest first; of a store or namespace those of all groups below."""
    if catalogue is None:
        return []
    if node.group is not None:
        return list(catalogue.groups.get(node.group, ()))
    found = [row for group, rows in catalogue.groups.items() if node.holds(group) for row in rows]
    found.sort(key=lambda row: row.time_s, reverse=True)
    return found


def by_namespace(snapshots: Iterable[SnapshotId]) -> dict[Namespace, list[SnapshotId]]:
    """Commands work in one namespace each."""
    found: dict[Namespace, list[SnapshotId]] = {}
    for snapshot in snapshots:
        found.setdefault(snapshot.ns, []).append(snapshot)
    return found


def group_name(group: GroupId) -> str:
    """`prod/host/web1`: with its namespace."""
    return f"{group.ns}/{group}" if group.ns.parts else str(group)


def ns_words(ns: Namespace) -> tuple[str, ...]:
    """`--ns prod/eu`; nothing for the root."""
    return ("--ns", str(ns)) if ns.parts else ()


def commands(verb: str, snapshots: Iterable[SnapshotId], *more: str) -> list[tuple[str, ...]]:
    """`verb [--ns NS] SNAPSHOT... [more]`, one command for each namespace."""
    return [
        (verb, *ns_words(ns), *map(str, chosen), *more)
        for ns, chosen in by_namespace(snapshots).items()
    ]


def each_command(verb: str, snapshots: Iterable[SnapshotId], *more: str) -> list[tuple[str, ...]]:
    """The same for commands that take one snapshot."""
    return [(verb, *ns_words(one.ns), "--", str(one), *more) for one in snapshots]


def named(snapshots: Sequence[SnapshotId]) -> str:
    """`host/web1 2026-01-02T06:00:00Z`, `3 snapshots of host/web1`, `12 snapshots`."""
    if len(snapshots) == 1:
        return f"{snapshots[0].group} {snapshots[0].time_name}"
    groups = {snapshot.group for snapshot in snapshots}
    of = f" of {groups.pop()}" if len(groups) == 1 else f" of {len(groups)} groups"
    return f"{len(snapshots)} snapshots{of}"


def word_of(snapshots: Sequence[SnapshotId]) -> str:
    """What has to be typed before these go: the group's own name, or how many they are."""
    groups = {snapshot.group.id for snapshot in snapshots}
    return groups.pop() if len(groups) == 1 else str(len(snapshots))
