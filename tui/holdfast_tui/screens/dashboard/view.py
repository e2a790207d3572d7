"""Dashboard: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class DashboardView(View):
    """Stores, running jobs, what needs attention."""

    VIEW: ClassVar[str] = "dashboard"
    TITLE: ClassVar[str] = "Dashboard"
    HELP: ClassVar[str] = "Stores, running jobs, what needs attention."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("dashboard")

    def compose(self) -> ComposeResult:
        yield LinePane([[("Stores, running jobs, what needs attention.", "dim")]], classes="pane")
