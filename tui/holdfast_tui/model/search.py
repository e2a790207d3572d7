"""Finding paths among a million by a few letters: literally first, then loosely; pure."""

import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast_tui.model.files import FileRow, FileTable
from holdfast_tui.model.fuzzy import best

SHOWN_MAX: Final = 20_000
_LOOSE_BELOW: Final = 200  # with fewer literal hits, loose ones are looked for as well
_SCORED_MAX: Final = 2_000
_LOOSE_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        rows: literal hits in the order of the archive, then loose ones, best first.
        literal, loose: how many of each; of the literal ones only SHOWN_MAX are rows.
    """

    rows: list[FileRow]
    literal: int
    loose: int = 0


def search(table: FileTable, typed: str, keep_going: Callable[[], bool]) -> Found:
    """Paths that hold every word of `typed`; with few hits also those with its letters in order.

    Args:
        table: of the whole archive.
        typed: words; case does not matter.
        keep_going: asked between pieces; the search ends early when it says no.
    """
    words = [word.encode("utf-8", "surrogateescape").lower() for word in typed.split()]
    if not words:
        shown = table[: min(len(table), SHOWN_MAX)]
        return Found(shown, len(table))
    numbers = table.matching(words)
    rows = [table[at] for at in numbers[:SHOWN_MAX]]
    if len(numbers) >= _LOOSE_BELOW or not keep_going():
        return Found(rows, len(numbers))
    loose = _loose(table, words, set(numbers), keep_going)
    return Found([*rows, *loose], len(numbers), len(loose))


def _loose(
    table: FileTable, words: list[bytes], known: set[int], keep_going: Callable[[], bool]
) -> list[FileRow]:
    letters = b"".join(words)
    if len(letters) < 2:  # noqa: PLR2004  # one letter is in every path
        return []
    pattern = re.compile(_in_order(letters))
    positions = array("Q")
    for offset, piece in table.slices():
        if not keep_going() or len(positions) >= _SCORED_MAX:
            break
        positions.extend(offset + match.start() + 1 for match in pattern.finditer(piece.lower()))
    numbers = [at for at in table.rows_at(positions[:_SCORED_MAX]) if at not in known]
    rows = [table[at] for at in numbers]
    typed = " ".join(word.decode("utf-8", "surrogateescape") for word in words)
    return best(
        typed,
        rows,
        key=lambda row: row.path.decode("utf-8", "surrogateescape"),
        limit=_LOOSE_SHOWN,
    )


def _in_order(letters: bytes) -> bytes:
    """A name that has these letters in this order; possessive, so that no name is tried twice."""
    parts = [rb"\x00"]
    for letter in letters:
        one = re.escape(bytes([letter]))
        parts.append(rb"[^\x00" + one + rb"]*+" + one)
    return b"".join(parts)
