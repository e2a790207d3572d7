"""Stores: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class StoresView(View):
    """The stores of the configuration."""

    VIEW: ClassVar[str] = "stores"
    TITLE: ClassVar[str] = "Stores"
    HELP: ClassVar[str] = "The stores of the configuration."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("stores")

    def compose(self) -> ComposeResult:
        yield LinePane([[("The stores of the configuration.", "dim")]], classes="pane")
