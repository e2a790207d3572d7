"""A list to choose from by typing a few letters: the palette, groups, jobs, snapshots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from holdfast_tui.dialogs.dialog import Dialog
from holdfast_tui.model.fuzzy import best
from holdfast_tui.model.rows import Column
from holdfast_tui.widgets.prompt import LineInput
from holdfast_tui.widgets.rowlist import RowList


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of the list.

    Attributes:
        value: what the dialog answers.
        text: what is shown and searched.
        key: shown on the right, such as the key that does the same.
        about: one line more.
    """

    value: str
    text: str
    key: str = ""
    about: str = ""


class PickInput(LineInput):
    """Typing narrows; the arrows move in the list below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,ctrl+n", "step(1)", show=False),
        Binding("up,ctrl+p", "step(-1)", show=False),
        Binding("pagedown", "step(10)", show=False),
        Binding("pageup", "step(-10)", show=False),
        Binding("tab", "complete", show=False),
    ]

    def action_step(self, step: int) -> None:
        self.screen.query_one(RowList).action_move(step)

    def action_complete(self) -> None:
        row = self.screen.query_one(RowList).current
        if isinstance(row, Choice):
            self.value = row.text
            self.cursor_position = len(self.value)


class Picker(Dialog[str]):
    """Answers the `value` of the chosen line; or what was typed, when `free` allows that.

    `free(text)` says whether the typed text itself is an answer.
    """

    DEFAULT_CSS = """
    Picker > #box { height: 80%; max-height: 24; }
    Picker RowList { height: 1fr; }
    """

    def __init__(
        self,
        title: str,
        choices: Sequence[Choice],
        *,
        free: Callable[[str], bool] | None = None,
        hint: str = "type to narrow - enter chooses - esc gives up",
        value: str = "",
    ) -> None:
        super().__init__(title, hint)
        self._choices = list(choices)
        self._free = free
        self._value = value

    def body(self) -> list[Widget]:
        columns: list[Column[Choice]] = [
            Column(title="", cell=lambda row: row.text, share=2, width_min=16),
            Column(title="", cell=lambda row: (row.key, "key"), width=8),
            Column(title="", cell=lambda row: (row.about, "dim"), share=3, rank=1, width_min=20),
        ]
        rows: RowList[Choice] = RowList(columns, key_of=lambda row: row.value, has_head=False)
        rows.can_focus = False
        return [PickInput(self.action_give_up, id="typed"), rows]

    def ready(self) -> None:
        rows = self.query_one(RowList)
        rows.set_empty("Nothing has these letters.", "esc gives up.")
        rows.set_rows(self._choices)
        line = self.query_one(PickInput)
        line.value = self._value
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.is_over:
            return
        found = best(event.value, self._choices, key=lambda choice: f"{choice.text} {choice.about}")
        rows = self.query_one(RowList)
        rows.set_rows(found)
        rows.action_edge(-1)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.is_over:
            return
        if self._free is not None and self._free(event.value):
            self.dismiss(event.value)
            return
        row = self.query_one(RowList).current
        if isinstance(row, Choice):
            self.dismiss(row.value)
