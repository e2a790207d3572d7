"""Verify: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class VerifyView(View):
    """Damaged chunks and the ways out."""

    VIEW: ClassVar[str] = "verify"
    TITLE: ClassVar[str] = "Verify"
    HELP: ClassVar[str] = "Damaged chunks and the ways out."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("verify")

    def compose(self) -> ComposeResult:
        yield LinePane([[("Damaged chunks and the ways out.", "dim")]], classes="pane")
