"""Columns of a list and how wide they come out; pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

Row = TypeVar("Row")
Cell = str | tuple[str, str] | list[tuple[str, str]]
"""Text, or text with the name of its style, made harmless by the list whatever it holds; or a list
of such parts (a bar), made harmless as well, cut at its end only."""


class Clip(Enum):
    """Which part of a text that is too long goes."""

    END = "end"
    MIDDLE = "middle"
    PATH = "path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[Row]):
    """One column.

    Attributes:
        title: its head; also the name that filters use (`name:word`).
        cell: what a row shows there.
        width: cells; 0 takes a share of what is left.
        share: of what is left, for width 0.
        right: flush right, for numbers.
        rank: 0 always stays; of the others the highest goes first when there is no room.
        sort: sorts rows; None when the column is no order.
    """

    title: str
    cell: Callable[[Row], Cell]
    width: int = 0
    share: int = 1
    width_min: int = 8
    right: bool = False
    rank: int = 0
    clip: Clip = Clip.END
    sort: Callable[[Row], object] | None = None


GAP = 2


def layout(columns: Sequence[Column[Row]], width: int) -> list[tuple[Column[Row], int]]:
    """Columns that find room in `width` cells, with their widths."""
    kept = list(columns)

    def needed() -> int:
        return sum(column.width or column.width_min for column in kept) + GAP * (len(kept) - 1)

    while len(kept) > 1 and needed() > width:
        worst = max(kept, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        kept.remove(worst)
    left = width - sum(column.width for column in kept) - GAP * (len(kept) - 1)
    shares = sum(column.share for column in kept if not column.width)
    found: list[tuple[Column[Row], int]] = []
    for column in kept:
        if column.width:
            found.append((column, column.width))
            continue
        part = max(1, left * column.share // shares)
        left -= part
        shares -= column.share
        found.append((column, part))
    return found
