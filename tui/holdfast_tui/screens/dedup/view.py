"""Dedup & GC: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class DedupView(View):
    """Deduplication and garbage collection."""

    VIEW: ClassVar[str] = "dedup"
    TITLE: ClassVar[str] = "Dedup & GC"
    HELP: ClassVar[str] = "Deduplication and garbage collection."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("dedup")

    def compose(self) -> ComposeResult:
        yield LinePane([[("Deduplication and garbage collection.", "dim")]], classes="pane")
