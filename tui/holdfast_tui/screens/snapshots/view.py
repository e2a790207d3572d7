"""Snapshots: to come."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane


class SnapshotsView(View):
    """Groups and their snapshots."""

    VIEW: ClassVar[str] = "snapshots"
    TITLE: ClassVar[str] = "Snapshots"
    HELP: ClassVar[str] = "Groups and their snapshots."
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("snapshots")

    def compose(self) -> ComposeResult:
        yield LinePane([[("Groups and their snapshots.", "dim")]], classes="pane")
