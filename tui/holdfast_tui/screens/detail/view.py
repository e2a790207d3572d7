"""Snapshot: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class DetailView(View):
    """One snapshot."""

    VIEW: ClassVar[str] = "detail"
    TITLE: ClassVar[str] = "Snapshot"
    HELP: ClassVar[str] = "One snapshot."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("detail")

    def compose(self) -> ComposeResult:
        yield LinePane([[("One snapshot.", "dim")]], classes="pane")
