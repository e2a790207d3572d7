"""Tasks: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class TasksView(View):
    """What runs and what ran."""

    VIEW: ClassVar[str] = "tasks"
    TITLE: ClassVar[str] = "Tasks"
    HELP: ClassVar[str] = "What runs and what ran."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("tasks")

    def compose(self) -> ComposeResult:
        yield LinePane([[("What runs and what ran.", "dim")]], classes="pane")
