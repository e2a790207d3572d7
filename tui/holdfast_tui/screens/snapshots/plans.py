"""What a prune would remove and why, and what differs between two snapshots, as dialogs."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from holdfast.ids import SnapshotId
from holdfast.shown import printable
from holdfast_tui.dialogs.rows import RowsDialog
from holdfast_tui.model.explorer import Node, group_name
from holdfast_tui.model.rows import Clip, Column
from holdfast_tui.render import fmt
from holdfast_tui.render.look import Look
from holdfast_tui.widgets.strips import Line

if TYPE_CHECKING:
    from holdfast.datastore.prune import PlannedSnapshot
    from holdfast.operations.diff import DiffLine
    from holdfast.operations.prune import PrunePlan

_CHANGES = {
    "added": ("n", "new"),
    "removed": ("d", "deleted"),
    "modified": ("c", "changed"),
}


def prune_dialog(node: Node, planned: "PrunePlan", look: Look) -> RowsDialog:
    """Every decision with its reason; enter goes on when something would go."""
    going = planned.removals
    freed = planned.freed.total_bytes if planned.freed is not None else None
    kept = len(planned.decisions) - len(going)
    if going:
        head: Line = [
            (f"forgets {fmt.plural(len(going), 'snapshot')}", "warn"),
            (f", keeps {kept}; gc can then free ", "text"),
            (f"{fmt.size(freed)}" if freed is not None else "nobody can tell how much", "strong"),
            (f" ({freed:,} bytes)" if freed is not None else "", "dim"),
        ]
    else:
        head = [(f"Nothing would go: all {kept} snapshots are kept.", "good")]

    def decision(row: "PlannedSnapshot") -> tuple[str, str]:
        return ("keep", "good") if row.keeps else ("forget", "warn")

    columns: list[Column[Any]] = [
        Column(title="", cell=decision, width=6),
        Column(
            title="snapshot",
            cell=lambda row: group_name(row.snapshot.group),
            width_min=12,
        ),
        Column(title="time", cell=lambda row: fmt.moment(row.snapshot.time_s), width=16),
        Column(
            title="frees",
            cell=lambda row: "" if row.keeps else fmt.size(planned.freed_bytes(row.snapshot)),
            width=9,
            right=True,
        ),
        Column(title="why", cell=lambda row: (row.reason, "dim"), width_min=14),
    ]
    del look
    return RowsDialog(
        f"Prune {node.title}",
        [head],
        columns,
        list(planned.decisions),
        key_of=lambda row: row.snapshot,
        empty=("There is no snapshot to decide about.",),
        asks=bool(going),
        is_problem=lambda row: not row.keeps,
    )


def diff_dialog(
    before: SnapshotId,
    after: SnapshotId,
    lines: "Sequence[DiffLine]",
    look: Look,
    *,
    lines_max: int,
) -> RowsDialog:
    """What is new, changed and deleted in `after`."""
    counts = Counter(_CHANGES.get(line.change.value, ("?", "?"))[1] for line in lines)
    said = f" {look.dot} ".join(f"{count:,} {word}" for word, count in sorted(counts.items()))
    head: list[Line] = [
        [
            ("from ", "dim"),
            (f"{before.group} {fmt.moment(before.time_s)}", "text"),
            ("  to ", "dim"),
            (f"{after.group} {fmt.moment(after.time_s)}", "text"),
        ],
        [(said or "no differences", "strong")],
    ]
    if len(lines) > lines_max:
        head.append([(f"Only the first {lines_max:,}; `holdfast diff` lists all.", "warn")])

    def change(row: "tuple[int, DiffLine]") -> tuple[str, str]:
        mark, word = _CHANGES.get(row[1].change.value, ("?", row[1].change.value))
        return f"{mark} {word}", word

    def where(row: "tuple[int, DiffLine]") -> str:
        line = row[1]
        return f"{line.archive}:{printable(line.path)}" if line.path else line.archive

    columns: list[Column[Any]] = [
        Column(title="change", cell=change, width=9),
        Column(title="path", cell=where, width_min=20, clip=Clip.PATH),
        Column(
            title="before", cell=lambda row: (fmt.size(row[1].size_a), "dim"), width=9, right=True
        ),
        Column(title="after", cell=lambda row: fmt.size(row[1].size_b), width=9, right=True),
        Column(
            title="in chunks",
            cell=lambda row: fmt.size(row[1].changed_bytes) if row[1].changed_bytes else "",
            width=9,
            right=True,
            rank=1,
        ),
    ]
    return RowsDialog(
        "What changed",
        head,
        columns,
        list(enumerate(lines[:lines_max])),
        key_of=lambda row: row[0],
        empty=("Nothing differs.",),
    )
