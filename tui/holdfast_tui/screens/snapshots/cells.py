"""How one snapshot looks in a list: cells that the explorer and others share."""

from holdfast_tui.model.snapshots import SnapshotRow
from holdfast_tui.render import fmt
from holdfast_tui.render.look import STYLE_OF_MARK, Look, Mark

Cell = tuple[str, str]


def verify_cell(row: SnapshotRow, look: Look, now_s: float, lost: int = 0) -> Cell:
    """`+ 3 d`, `X 1 bad`, `X shares`, `o 34 d`, `- never`, `! unfinished`, `? unreadable`.

    Args:
        row: the snapshot.
        look: marks of this terminal.
        now_s: seconds since 1970.
        lost: chunks of it that are known to be gone.
    """
    mark = row.verify_mark(now_s)
    words = {Mark.WARN: "unfinished", Mark.LOST: "unreadable", Mark.NONE: "never"}
    if mark in (Mark.LOST, Mark.WARN):
        word = words[mark]
    elif mark is Mark.BAD:
        word = f"{lost} bad" if lost else "failed"
    elif lost:
        mark, word = Mark.BAD, "shares"
    elif mark is Mark.NONE:
        word = words[mark]
    else:
        word = fmt.age(now_s - (row.verified_s or 0))
    return f"{look.mark(mark)} {word}", STYLE_OF_MARK[mark]


def flags_cell(row: SnapshotRow) -> Cell:
    """Four fixed cells; a protected one stands out."""
    return row.flags, "strong" if row.summary.is_protected else "dim"


def size_cell(size: int | None) -> Cell:
    return fmt.size(size), "text" if size else "dim"
