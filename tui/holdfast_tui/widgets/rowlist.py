"""The one list of all views: any number of rows, of which only those on the screen are drawn.

Rows are whatever a view likes; columns say what of them is shown. A filter, an order and "only
problems" change an array of row numbers, never the rows. The cursor and the marks belong to keys of
rows (`key_of`), so they stay on their objects when rows come, go or move.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.style import Style
from textual.binding import BindingType
from textual.events import Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from holdfast_tui import keymap
from holdfast_tui.model.query import Query
from holdfast_tui.model.rows import GAP, Cell, Clip, Column, layout
from holdfast_tui.render.clean import (
    ascii_only,
    clean,
    fit,
    fit_middle,
    fit_path,
    fit_right,
    width_of,
)
from holdfast_tui.widgets.pane import Painted
from holdfast_tui.widgets.strips import Line, Part, plain, strip

Row = TypeVar("Row")
_SORTED_AT_ONCE = 200_000


class RowList(Painted, Generic[Row], can_focus=True):
    """A list with a cursor. Give it columns and rows; it posts what the person wants.

    Attributes:
        marks_allowed: whether rows can be marked (space, v, + - * u).
    """

    HELP: ClassVar[str] = (
        "A list. The cursor row is shown in reverse or on a bar; marked rows begin with *.\n"
        "/ narrows the list as you type: plain words, name:word, -word leaves out, since:2d.\n"
        "s and r change the order, ! shows only rows with problems, n goes to the next one."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("list", "marks")
    DEFAULT_CSS = """
    RowList { height: 1fr; }
    """

    class Opened(Message):
        """Enter on a row."""

        def __init__(self, rows: "RowList[Any]", row: Any) -> None:
            super().__init__()
            self.rows = rows
            self.row = row

        @property
        def control(self) -> "RowList[Any]":
            return self.rows

    class Moved(Message):
        """The cursor is on another row, or on another version of it; None for an empty list."""

        def __init__(self, rows: "RowList[Any]", row: Any) -> None:
            super().__init__()
            self.rows = rows
            self.row = row

        @property
        def control(self) -> "RowList[Any]":
            return self.rows

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, RowList.Moved) and message.rows is self.rows

    class Marked(Message):
        """Other rows are marked."""

        def __init__(self, rows: "RowList[Any]") -> None:
            super().__init__()
            self.rows = rows

        @property
        def control(self) -> "RowList[Any]":
            return self.rows

    def __init__(
        self,
        columns: Sequence[Column[Row]],
        *,
        key_of: Callable[[Row], Hashable],
        facts_of: Callable[[Row], dict[str, str]] | None = None,
        age_of: Callable[[Row], float] | None = None,
        is_problem: Callable[[Row], bool] | None = None,
        marks_allowed: bool = False,
        has_head: bool = True,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.marks_allowed = marks_allowed
        self._columns = list(columns)
        self._key_of = key_of
        self._facts_of = facts_of
        self._age_of = age_of
        self._is_problem = is_problem
        self._has_head = has_head
        self._rows: Sequence[Row] = ()
        self._shown: Sequence[int] = range(0)
        self._cursor = 0
        self._is_touched = False  # the person has moved the cursor
        self._top = 0
        self._marks: set[Hashable] = set()
        self._range_from: int | None = None
        self._filter = ""
        self._query = Query()
        self._own_match: Callable[[Row], bool] | None = None
        self._only_problems = False
        self._sort: int | None = None
        self._is_reversed = False
        self._empty: list[Line] = [[("", "dim")]]
        self._layout: list[tuple[Column[Row], int]] = []
        self._title = ""
        self._note = ""

    # Rows -----------------------------------------------------------------------------------------

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show other rows. Cursor and marks stay on theirs, as long as they are there."""
        key = self.current_key
        old_keys = self._window_keys() if len(rows) == len(self._rows) else None
        self._rows = rows
        self._narrow()
        self._put_cursor_on(key)
        if old_keys is None or old_keys != self._window_keys():
            self.refresh()
        else:
            self._refresh_changed_lines()
        self._tell_moved()
        self._show_note()

    def set_columns(self, columns: Sequence[Column[Row]]) -> None:
        ordered = None if self._sort is None else self._columns[self._sort].title
        self._columns = list(columns)
        orders = [
            at for at, column in enumerate(columns) if column.sort and column.title == ordered
        ]
        self._sort = orders[0] if orders else None  # the order stays with its column
        self._layout = []
        self.refresh()

    def set_empty(self, *lines: str, style: str = "dim") -> None:
        """What an empty list says: what, why, what next. Also used while loading."""
        self._empty = [
            [(clean(line), style if at == 0 else "dim")] for at, line in enumerate(lines)
        ]
        if not self._shown:
            self.refresh()

    def set_error(self, sentence: str, hint: str = "") -> None:
        """Instead of rows: what failed, and what to do."""
        self._rows = ()
        self._shown = range(0)
        bad = self.look.mark
        from holdfast_tui.render.look import Mark

        lines = [[(f"{bad(Mark.BAD)} ", "bad"), (clean(sentence), "bad")]]
        self._empty = [*lines, [(clean(hint), "dim")]] if hint else list(lines)
        self.refresh()

    def title(self, text: str, note: str = "") -> None:
        """Name of the pane; the note on its right is followed by the position in the list."""
        self._title, self._note = text, note
        self._show_note()

    @property
    def rows(self) -> Sequence[Row]:
        """All of them, whatever the filter."""
        return self._rows

    @property
    def shown_count(self) -> int:
        return len(self._shown)

    def shown_rows(self) -> Iterable[Row]:
        return (self._rows[at] for at in self._shown)

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        if not self._shown:
            return None
        return self._rows[self._shown[self._cursor]]

    @property
    def current_key(self) -> Hashable:
        row = self.current
        return None if row is None else self._key_of(row)

    def go_to(self, key: Hashable) -> bool:
        """Put the cursor on the row with this key; False when it is not shown."""
        for place, at in enumerate(self._shown):
            if self._key_of(self._rows[at]) == key:
                self._move_to(place)
                return True
        return False

    # Filter and order -----------------------------------------------------------------------------

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        """Narrow to rows that match; the empty text shows all."""
        if text == self._filter:
            return
        self._filter = text
        self._query = Query.parse(text)
        self._again()

    def match_by(self, matches: Callable[[Row], bool] | None) -> None:
        """A view's own condition on top of the filter."""
        self._own_match = matches
        self._again()

    @property
    def only_problems(self) -> bool:
        return self._only_problems

    def _again(self) -> None:
        key = self.current_key
        self._narrow()
        self._put_cursor_on(key)
        self.refresh()
        self._tell_moved()
        self._show_note()

    def _narrow(self) -> None:
        if not (
            self._query.terms or self._only_problems or self._own_match or self._sort is not None
        ):
            self._shown = range(len(self._rows))
            return
        chosen = [at for at, row in enumerate(self._rows) if self._stays(row)]
        if self._sort is not None and len(chosen) <= _SORTED_AT_ONCE:
            order = self._columns[self._sort].sort
            if order is not None:
                chosen.sort(
                    key=lambda at: order(self._rows[at]),  # type: ignore[arg-type,return-value]
                    reverse=self._is_reversed,
                )
        self._shown = array("L", chosen)

    def _stays(self, row: Row) -> bool:
        if self._only_problems and self._is_problem is not None and not self._is_problem(row):
            return False
        if self._own_match is not None and not self._own_match(row):
            return False
        if not self._query.terms:
            return True
        age = None if self._age_of is None else self._age_of(row)
        return self._query.matches(self._facts(row), age_s=age)

    def _facts(self, row: Row) -> dict[str, str]:
        if self._facts_of is not None:
            return self._facts_of(row)
        return {
            column.title or str(at): _text(column.cell(row))
            for at, column in enumerate(self._columns)
        }

    # Cursor ---------------------------------------------------------------------------------------

    @property
    def page_rows(self) -> int:
        return max(1, self.content_size.height - int(self._has_head))

    def _put_cursor_on(self, key: Hashable) -> None:
        count = len(self._shown)
        place = self._cursor
        here = self._shown[place] if place < count else None
        if (
            self._is_touched
            and key is not None
            and (here is None or self._key_of(self._rows[here]) != key)
        ):
            for at, number in enumerate(self._shown):
                if self._key_of(self._rows[number]) == key:
                    place = at
                    break
        self._cursor = max(0, min(place, count - 1))
        if self._range_from is not None and self._range_from >= count:
            self._range_from = None
        self._keep_in_sight()

    def _keep_in_sight(self) -> bool:
        """Scroll if needed; whether the window moved."""
        before = self._top
        page = self.page_rows
        if self._cursor < self._top:
            self._top = self._cursor
        elif self._cursor >= self._top + page:
            self._top = self._cursor - page + 1
        self._top = max(0, min(self._top, max(0, len(self._shown) - page)))
        return self._top != before

    def _move_to(self, place: int) -> None:
        count = len(self._shown)
        place = max(0, min(place, count - 1))
        if place == self._cursor or count == 0:
            return
        before, self._cursor = self._cursor, place
        self._is_touched = True
        if self._keep_in_sight() or self._range_from is not None:
            self.refresh()
        else:
            self._refresh_places(before, place)
        self._tell_moved()
        self._show_note()

    def _refresh_places(self, *places: int) -> None:
        width = self.content_size.width
        head = int(self._has_head)
        self.refresh(*(Region(0, place - self._top + head, width, 1) for place in places))

    def _window_keys(self) -> list[Hashable]:
        window = self._shown[self._top : self._top + self.page_rows]
        return [self._key_of(self._rows[at]) for at in window if at < len(self._rows)]

    def _tell_moved(self) -> None:
        if self.is_attached:
            self.post_message(self.Moved(self, self.current))

    def _show_note(self) -> None:
        if not self.is_attached:
            return
        count = len(self._shown)
        parts = [self._note] if self._note else []
        if self._marks:
            parts.append(f"{len(self._marks):,} marked")
        if self._only_problems:
            parts.append("only problems")
        if self._filter:
            parts.append(f"/{clean(self._filter)}: {count:,} of {len(self._rows):,}")
        elif count > self.page_rows:
            parts.append(f"{self._cursor + 1:,}/{count:,}")
        self.name_pane(self._title, f" {self.look.dot} ".join(parts))

    # Painting -------------------------------------------------------------------------------------

    def on_resize(self, event: Resize) -> None:
        del event
        self._layout = []
        self._keep_in_sight()
        self._show_note()

    def on_focus(self) -> None:
        self._refresh_places(self._cursor)

    def on_blur(self) -> None:
        self._refresh_places(self._cursor)

    def _refresh_changed_lines(self) -> None:
        """Rows are the same, their cells may not be: paint the lines that differ."""
        size = self.content_size
        changed = [y for y in range(size.height) if self._cache.get(y) != self._line_at(y)]
        if changed:
            self.refresh(*(Region(0, y, size.width, 1) for y in changed))

    @property
    def _cache(self) -> dict[int, tuple[list[Part], bool]]:
        cache: dict[int, tuple[list[Part], bool]] | None = self.__dict__.get("_painted")
        if cache is None:
            cache = self.__dict__["_painted"] = {}
        return cache

    def render_line(self, y: int) -> Strip:
        line, is_cursor = self._line_at(y)
        self._cache[y] = (line, is_cursor)
        over: Style | None = None
        if is_cursor:
            over = self.palette["cursor" if self.has_focus else "cursor-off"]
        return strip(line, self.content_size.width, self.palette, self.base_style, over)

    def _line_at(self, y: int) -> tuple[list[Part], bool]:
        width = self.content_size.width
        if not self._layout or self.__dict__.get("_layout_width") != width:
            self._layout = layout(self._columns, width - 2)
            self.__dict__["_layout_width"] = width
        if not self._shown:
            return self._empty_line(y), False
        if self._has_head and y == 0:
            return self._head(), False
        place = self._top + y - int(self._has_head)
        if place >= len(self._shown):
            return [], False
        row = self._rows[self._shown[place]]
        return self._row_line(row, place), place == self._cursor

    def _empty_line(self, y: int) -> list[Part]:
        if self._rows and (self._filter or self._only_problems):
            words = self._filter or "problems"
            texts = [f"Nothing matches {words!r}.", "esc clears the filter."]
            lines: list[Line] = [[(clean(text), "dim")] for text in texts]
        else:
            lines = self._empty
        at = y - int(self._has_head)
        return [("  ", "text"), *lines[at]] if 0 <= at < len(lines) else []

    def _head(self) -> list[Part]:
        parts: list[Part] = [("  ", "head")]
        for number, (column, width) in enumerate(self._layout):
            text = column.title
            if self._sort is not None and self._columns[self._sort] is column:
                text += "-" if self._is_reversed else "+"
            text = fit_right(text, width) if column.right else fit(text, width)
            parts.append((text + " " * (GAP if number < len(self._layout) - 1 else 0), "head"))
        return parts

    def _row_line(self, row: Row, place: int) -> list[Part]:
        mark = self.mark_of(row)
        if self._range_from is not None and mark != "*":
            low, high = sorted((self._range_from, self._cursor))
            mark = "*" if low <= place <= high else mark
        marked = mark == "*"
        cursor = ">" if place == self._cursor and self.has_focus else " "
        parts: list[Part] = [(cursor, "accent"), (mark, "marked")]
        last = len(self._layout) - 1
        for number, (column, width) in enumerate(self._layout):
            cell = column.cell(row)
            if isinstance(cell, list):
                parts += self._fit_parts(cell, width)
            else:
                text, style = cell if isinstance(cell, tuple) else (cell, "text")
                if marked and style == "text":
                    style = "marked"
                parts.append((self._fit(text, column, width), style))
            if number < last:
                parts.append((" " * GAP, "text"))
        return parts

    def _fit(self, text: str, column: Column[Row], width: int) -> str:
        text = clean(text)
        if not self.look.unicode:
            text = ascii_only(text)
        if column.right:
            return fit_right(text, width)
        if column.clip is Clip.MIDDLE:
            return fit_middle(text, width)
        if column.clip is Clip.PATH:
            return fit_path(text, width)
        return fit(text, width)

    def _fit_parts(self, cell: list[Part], width: int) -> list[Part]:
        parts: list[Part] = []
        left = width
        for text, style in cell:
            shown = clean(text) if self.look.unicode else ascii_only(clean(text))
            shown = shown if width_of(shown) <= left else fit(shown, left)
            parts.append((shown, style))
            left -= width_of(shown)
        return [*parts, (" " * left, "text")] if left else parts

    def plain(self) -> str:
        """Head and every row on the screen, as text."""
        lines = [self._line_at(y)[0] for y in range(self.content_size.height)]
        return f"{self._title}\n{plain(lines)}".rstrip()

    # Marks ----------------------------------------------------------------------------------------

    @property
    def marks(self) -> set[Hashable]:
        """Keys of marked rows."""
        return set(self._marks)

    def set_marks(self, keys: Iterable[Hashable]) -> None:
        self._marks = set(keys)
        self._marks_changed()

    def mark_of(self, row: Row) -> str:
        """What stands before a row: `*` for a marked one."""
        return "*" if self._key_of(row) in self._marks else " "

    def chosen(self) -> list[Row]:
        """The marked rows, or the one under the cursor."""
        if self._marks:
            return [row for row in self._rows if self._key_of(row) in self._marks]
        return [] if self.current is None else [self.current]

    def mark_matching(self, text: str, *, marked: bool) -> int:
        """Mark (or unmark) shown rows that match a filter text; how many."""
        query = Query.parse(text)
        keys = {
            self._key_of(row)
            for row in self.shown_rows()
            if query.matches(self._facts(row), age_s=self._age_of(row) if self._age_of else None)
        }
        self._marks = self._marks | keys if marked else self._marks - keys
        self._marks_changed()
        return len(keys)

    def _marks_changed(self) -> None:
        self.refresh()
        self._show_note()
        if self.is_attached:
            self.post_message(self.Marked(self))

    # Actions --------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        if action.startswith("mark") or action == "unmark_pattern":
            return self.marks_allowed
        if action in ("problems", "next_problem"):
            return self._is_problem is not None
        if action in ("sort", "reverse"):
            return any(column.sort for column in self._columns)
        return True

    def action_move(self, step: int) -> None:
        self._move_to(self._cursor + step)

    def action_edge(self, end: int) -> None:
        self._move_to(0 if end < 0 else len(self._shown) - 1)

    def action_page(self, pages: float) -> None:
        self._move_to(self._cursor + int(pages * self.page_rows))

    def action_open(self) -> None:
        row = self.current
        if row is not None:
            self.post_message(self.Opened(self, row))

    def action_sort(self) -> None:
        orders = [at for at, column in enumerate(self._columns) if column.sort is not None]
        if self._sort is None:
            self._sort = orders[0]
        elif self._sort == orders[-1]:
            self._sort = None
        else:
            self._sort = orders[orders.index(self._sort) + 1]
        self._again()
        names = "as they come" if self._sort is None else self._columns[self._sort].title
        self.hold.say(f"sorted by {names}" if self._sort is not None else f"rows {names}")

    def action_reverse(self) -> None:
        if self._sort is None:
            self.action_sort()
        self._is_reversed = not self._is_reversed
        self._again()

    def action_problems(self) -> None:
        self._only_problems = not self._only_problems
        self._again()

    def action_next_problem(self, step: int) -> None:
        if self._is_problem is None:
            return
        place = self._cursor + step
        while 0 <= place < len(self._shown):
            if self._is_problem(self._rows[self._shown[place]]):
                self._move_to(place)
                return
            place += step
        self.hold.say("no problem in this direction")

    def action_mark(self) -> None:
        key = self.current_key
        if key is None:
            return
        self._marks ^= {key}
        self._refresh_places(self._cursor)
        self._move_to(self._cursor + 1)
        self._show_note()
        self.post_message(self.Marked(self))

    def action_mark_range(self) -> None:
        if self._range_from is None:
            self._range_from = self._cursor
            self.hold.say("range: move, then v marks it")
            return
        low, high = sorted((self._range_from, self._cursor))
        self._range_from = None
        self._marks |= {self._key_of(self._rows[at]) for at in self._shown[low : high + 1]}
        self._marks_changed()

    def action_mark_pattern(self) -> None:
        self.hold.ask_line("mark rows with", lambda text: self._mark_by(text, marked=True))

    def action_unmark_pattern(self) -> None:
        self.hold.ask_line("unmark rows with", lambda text: self._mark_by(text, marked=False))

    def _mark_by(self, text: str, *, marked: bool) -> None:
        if text:
            count = self.mark_matching(text, marked=marked)
            self.hold.say(f"{count:,} rows {'marked' if marked else 'unmarked'}")

    def action_mark_invert(self) -> None:
        self._marks ^= {self._key_of(row) for row in self.shown_rows()}
        self._marks_changed()

    def action_mark_none(self) -> None:
        self._marks = set()
        self._range_from = None
        self._marks_changed()

    def leave_state(self) -> bool:
        """Esc: end a range, clear the filter, show all rows again; whether there was anything."""
        if self._range_from is not None:
            self._range_from = None
            self.refresh()
            return True
        if self._filter or self._only_problems:
            self._only_problems = False
            self._filter, self._query = "", Query()
            self._again()
            return True
        return False


def _text(cell: Cell) -> str:
    if isinstance(cell, list):
        return "".join(text for text, _style in cell)
    return cell[0] if isinstance(cell, tuple) else cell
