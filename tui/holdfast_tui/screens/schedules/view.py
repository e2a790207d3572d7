"""Schedules: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class SchedulesView(View):
    """Configured jobs."""

    VIEW: ClassVar[str] = "schedules"
    TITLE: ClassVar[str] = "Schedules"
    HELP: ClassVar[str] = "Configured jobs."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("schedules")

    def compose(self) -> ComposeResult:
        yield LinePane([[("Configured jobs.", "dim")]], classes="pane")
