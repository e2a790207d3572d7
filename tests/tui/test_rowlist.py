"""The list of all views: cursor and marks stay on their objects, a million rows are no matter."""

import time
from collections.abc import Sequence

from rich.style import Style
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from holdfast_tui.model.rows import Column, layout
from holdfast_tui.render.look import Look
from holdfast_tui.render.theme import palette
from holdfast_tui.widgets.rowlist import RowList


class ListApp(App[None]):
    """One list and nothing else."""

    def __init__(self, rows: Sequence[str]) -> None:
        super().__init__()
        self.look = Look()
        self.palette = palette("harbour")
        self.base_style = Style.null()
        self.said: list[str] = []
        self.first_rows = rows
        columns: list[Column[str]] = [
            Column(title="name", cell=lambda row: row, sort=lambda row: row[::-1])
        ]
        self.rows: RowList[str] = RowList(
            columns,
            key_of=lambda row: row,
            is_problem=lambda row: row.endswith("7"),
            marks_allowed=True,
        )

    def compose(self) -> ComposeResult:
        yield self.rows

    def on_mount(self) -> None:
        self.rows.set_rows(self.first_rows)
        self.rows.focus()

    def say(self, text: str, style: str = "text") -> None:
        del style
        self.said.append(text)


def _list(pilot: Pilot[None]) -> RowList[str]:
    assert isinstance(pilot.app, ListApp)
    return pilot.app.rows


async def test_the_cursor_stays_on_its_row_when_others_come() -> None:
    async with ListApp(["b", "c", "d"]).run_test() as pilot:
        await pilot.press("j", "j")
        _list(pilot).set_rows(["a", "b", "c", "d"])

        assert _list(pilot).current == "d"


async def test_the_cursor_stays_in_place_when_its_row_goes() -> None:
    async with ListApp(["a", "b", "c"]).run_test() as pilot:
        await pilot.press("j")
        _list(pilot).set_rows(["a", "c"])

        assert _list(pilot).current == "c"


async def test_marks_belong_to_rows_and_survive_filters() -> None:
    async with ListApp([f"row{n}" for n in range(30)]).run_test() as pilot:
        await pilot.press("space", "space")
        _list(pilot).set_filter("row2")

        assert _list(pilot).marks == {"row0", "row1"}
        assert _list(pilot).shown_count == 11
        assert _list(pilot).chosen() == ["row0", "row1"]


async def test_a_range_is_marked_with_v() -> None:
    async with ListApp([f"row{n}" for n in range(9)]).run_test() as pilot:
        await pilot.press("v", "j", "j", "v", "asterisk")

        assert len(_list(pilot).marks) == 6
        await pilot.press("u")
        assert _list(pilot).marks == set()


async def test_problems_sorting_and_jumps() -> None:
    async with ListApp([f"row{n}" for n in range(40)]).run_test() as pilot:
        await pilot.press("n")
        assert _list(pilot).current == "row7"
        await pilot.press("exclamation_mark")
        assert list(_list(pilot).shown_rows()) == ["row7", "row17", "row27", "row37"]
        await pilot.press("exclamation_mark", "s", "g")
        assert _list(pilot).current == "row10"  # 01wor comes before 0wor
        await pilot.press("r", "g")
        assert _list(pilot).current == "row9"


async def test_a_million_rows_open_move_and_filter_at_once() -> None:
    rows = [f"file{number}" for number in range(1_000_000)]
    async with ListApp(()).run_test() as pilot:
        began = time.process_time()
        _list(pilot).set_rows(rows)
        await pilot.pause()
        shown = time.process_time() - began
        await pilot.press("G", "pageup", "g", "ctrl+d")

        assert "file0" in _list(pilot).plain() or _list(pilot).current is not None
        assert shown < 0.5  # it takes a few milliseconds; a stock table takes a minute


def test_columns_of_least_rank_go_first() -> None:
    columns: list[Column[str]] = [
        Column(title="name", cell=str),
        Column(title="size", cell=str, width=10, rank=1),
        Column(title="owner", cell=str, width=10, rank=2),
    ]

    assert [column.title for column, _width in layout(columns, 30)] == ["name", "size"]
    assert [width for _column, width in layout(columns, 60)] == [36, 10, 10]
