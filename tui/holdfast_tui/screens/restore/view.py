"""Restore: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class RestoreView(View):
    """Bring files back."""

    VIEW: ClassVar[str] = "restore"
    TITLE: ClassVar[str] = "Restore"
    HELP: ClassVar[str] = "Bring files back."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("restore")

    def compose(self) -> ComposeResult:
        yield LinePane([[("Bring files back.", "dim")]], classes="pane")
