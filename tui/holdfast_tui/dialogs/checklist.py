"""Several things that are on or off."""

from collections.abc import Collection, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from holdfast_tui.dialogs.dialog import Dialog
from holdfast_tui.model.rows import Column
from holdfast_tui.widgets.rowlist import RowList


class Checklist(Dialog[set[str]]):
    """Answers the names that are marked; None when it was given up."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "give_up", show=False)]

    def __init__(
        self, title: str, rows: Sequence[tuple[str, str]], chosen: Collection[str]
    ) -> None:
        super().__init__(title, "space marks - enter takes it so - esc gives up")
        self._rows = list(rows)
        self._chosen = set(chosen)

    def body(self) -> list[Widget]:
        columns: list[Column[tuple[str, str]]] = [
            Column(title="", cell=lambda row: (row[0], "strong"), width=9),
            Column(title="", cell=lambda row: row[1], width_min=20),
        ]
        rows: RowList[tuple[str, str]] = RowList(
            columns, key_of=lambda row: row[0], marks_allowed=True, has_head=False
        )
        rows.styles.height = len(self._rows)
        return [rows]

    def ready(self) -> None:
        rows = self.query_one(RowList)
        rows.set_rows(self._rows)
        rows.set_marks(self._chosen)
        rows.focus()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        self.dismiss({str(name) for name in self.query_one(RowList).marks})
