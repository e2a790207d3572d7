"""A list of files, of which a directory may be marked as a whole or in part.

It also shows what leads to the files (groups, snapshots, archives): then nothing is marked. Tables of
a million rows are narrowed and searched in pieces of their names, never row by row.
"""

from array import array
from collections.abc import Callable, Hashable, Sequence
from fnmatch import translate
from re import compile as compiled
from typing import Any, ClassVar, Self

from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.model.files import FileRow, FileTable
from holdfast_tui.model.marks import Marked, PathMarks
from holdfast_tui.model.rows import Column
from holdfast_tui.widgets.rowlist import RowList

_GLOB: frozenset[str] = frozenset("*?[")


class FileList(RowList[Any]):
    """Rows with a `key`; rows of files have marks by path.

    Attributes:
        path_marks: of the archive that is shown.
        side: left (the snapshot) or right (this host).
    """

    HELP: ClassVar[str] = (
        "Files. h goes out and l goes in; * stands before what is marked, / before directories of\n"
        "which a part is. + and - mark and unmark by a pattern such as *.conf, * turns marks round.\n"
        "vs says what of it is at the destination already: new, same, differs."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("list", "marks")

    def __init__(self, columns: Sequence[Column[Any]], *, side: str) -> None:
        super().__init__(
            columns,
            key_of=lambda row: row.key,
            is_problem=_is_problem,
            id=side,
            classes="pane",
        )
        self.side = side
        self.come_to_front: Callable[[], None] = lambda: None
        self.path_marks = PathMarks()

    def use(self, columns: Sequence[Column[Any]], *, marks_allowed: bool) -> None:
        """Show another kind of rows from now on: no filter, no order, first row."""
        self._filter, self._query = "", type(self._query)()
        self._sort, self._is_reversed, self._only_problems = None, False, False
        self._range_from = None
        self.marks_allowed = marks_allowed
        self._rows = ()
        self._shown = range(0)
        self._cursor = self._top = 0
        self.set_columns(columns)

    def focus(self, scroll_visible: bool = True) -> Self:  # noqa: FBT001,FBT002  # as Textual has it
        """Come to the front first: in a narrow terminal only one side is shown."""
        self.come_to_front()
        return super().focus(scroll_visible)

    # Large tables ---------------------------------------------------------------------------------

    def _narrow(self) -> None:
        rows = self._rows
        if not isinstance(rows, FileTable) or self._sort is not None or self._only_problems:
            super()._narrow()
            return
        words = [t.text.encode() for t in self._query.terms if not t.name and not t.is_negated]
        without = [t.text.encode() for t in self._query.terms if not t.name and t.is_negated]
        self._shown = rows.matching(words, without) if words or without else range(len(rows))

    def _facts(self, row: Any) -> dict[str, str]:
        if isinstance(row, FileRow):
            return {"name": row.name.decode("utf-8", "surrogateescape")}
        return super()._facts(row)

    def place_of(self, key: Hashable) -> int | None:
        """Where in the list the row with this key is shown."""
        rows = self._rows
        if isinstance(rows, FileTable) and isinstance(key, bytes) and self._sort is None:
            number = rows.number_of(key)
            if number is None:
                return None
            if isinstance(self._shown, range):
                return number
            shown = self._shown
            from bisect import bisect_left

            at = bisect_left(shown, number)
            return at if at < len(shown) and shown[at] == number else None
        for place, at in enumerate(self._shown):
            if self._key_of(rows[at]) == key:
                return place
        return None

    def _put_cursor_on(self, key: Hashable) -> None:
        place = None if key is None else self.place_of(key)
        count = len(self._shown)
        self._cursor = max(0, min(self._cursor if place is None else place, count - 1))
        self._keep_in_sight()

    def go_to(self, key: Hashable) -> bool:
        place = self.place_of(key)
        if place is None:
            return False
        self._move_to(place)
        return True

    # Marks ----------------------------------------------------------------------------------------

    def mark_of(self, row: Any) -> str:
        if not self.marks_allowed or not isinstance(row, FileRow):
            return " "
        return self.path_marks.state(row.path).value

    def action_mark(self) -> None:
        row = self.current
        if isinstance(row, FileRow):
            self.path_marks.toggle(row.path)
            self._refresh_places(self._cursor)
            self._move_to(self._cursor + 1)
            self._told()

    def action_mark_range(self) -> None:
        if self._range_from is None:
            super().action_mark_range()
            return
        low, high = sorted((self._range_from, self._cursor))
        self._range_from = None
        for at in self._shown[low : high + 1]:  # fewer may be shown than when the range began
            self.path_marks.set(self._rows[at].path, marked=True)
        self._told()

    def mark_matching(self, text: str, *, marked: bool) -> int:
        """Mark (or unmark) shown rows by a pattern of their names: a glob, or a part of the name."""
        found = self._named_like(text)
        for at in found:
            self.path_marks.set(self._path(at), marked=marked)
        self._told()
        return len(found)

    def _path(self, at: int) -> bytes:
        rows = self._rows
        if isinstance(rows, FileTable):
            return rows.prefix + rows.name(at)
        path: bytes = rows[at].path
        return path

    def _named_like(self, text: str) -> "array[int]":
        if not _GLOB & set(text):
            low = text.lower().encode("utf-8", "surrogateescape")
            return array("L", (at for at in self._shown if low in _last(self._path(at)).lower()))
        pattern = compiled(translate(text).encode("utf-8", "surrogateescape"))
        return array("L", (at for at in self._shown if pattern.match(_last(self._path(at)))))

    def action_mark_invert(self) -> None:
        for at in self._shown:
            self.path_marks.toggle(self._path(at))
        self._told()

    def action_mark_none(self) -> None:
        self.path_marks.clear()
        self._range_from = None
        self._told()

    def _told(self) -> None:
        self._marks_changed()

    def _show_note(self) -> None:
        super()._show_note()

    def chosen(self) -> list[Any]:
        return [] if self.current is None else [self.current]


def _last(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _is_problem(row: Any) -> bool:
    return bool(getattr(row, "is_problem", False))


__all__ = ["FileList", "Marked"]
