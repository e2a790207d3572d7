"""A list to look at before something is done, or only to look at: a prune plan, a comparison."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from holdfast_tui.dialogs.dialog import Dialog
from holdfast_tui.model.rows import Column
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line


class RowsDialog(Dialog[bool]):
    """Lines on top, rows below. Enter answers True if `asks`, else it closes like esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "give_up", show=False),
        Binding("slash", "filter", show=False),
    ]
    DEFAULT_CSS = """
    RowsDialog > #box { width: 94%; max-width: 130; height: 90%; }
    RowsDialog RowList { height: 1fr; margin-top: 1; }
    """

    def __init__(
        self,
        title: str,
        head: Sequence[Line],
        columns: Sequence[Column[Any]],
        rows: Sequence[Any],
        *,
        key_of: Callable[[Any], Hashable],
        empty: Sequence[str],
        asks: bool = False,
        is_problem: Callable[[Any], bool] | None = None,
    ) -> None:
        super().__init__(title, "enter goes on - esc gives up" if asks else "jk move - esc closes")
        self._head = list(head)
        self._list: RowList[Any] = RowList(columns, key_of=key_of, is_problem=is_problem)
        self._rows = rows
        self._empty = empty
        self._asks = asks

    def body(self) -> list[Widget]:
        return [LinePane(self._head, classes="-auto"), self._list]

    def ready(self) -> None:
        self._list.set_empty(*self._empty)
        self._list.set_rows(self._rows)
        self._list.focus()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        self.dismiss(self._asks)

    def action_filter(self) -> None:
        """The message row belongs to the screen below: problems and orders are enough here."""
