"""A text to read: the help page, a command line, a report."""

from collections.abc import Sequence
from typing import ClassVar, Generic

from textual.binding import Binding, BindingType
from textual.widget import Widget

from holdfast_tui import keymap
from holdfast_tui.dialogs.dialog import Answer, Dialog
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.strips import Line, text_of


class ScrolledDialog(Dialog[Answer], Generic[Answer]):
    """Lines that scroll; esc or q closes, y copies `copied`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "give_up", show=False),
        Binding("y", "copy", show=False),
        *keymap.bindings("list"),
    ]

    def __init__(
        self, title: str, hint: str, lines: Sequence[Line] = (), *, copied: str = ""
    ) -> None:
        super().__init__(title, hint)
        self._lines = list(lines)
        self._copied = copied
        self._top = 0

    def body(self) -> list[Widget]:
        return [LinePane(id="text", classes="-auto")]

    def ready(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _room(self) -> int:
        return max(3, int(self.size.height * 0.9) - 2)

    def _show(self) -> None:
        room = self._room()
        self._top = max(0, min(self._top, len(self._lines) - room))
        for pane in self.query(LinePane):  # none before it is there, nor when it goes
            pane.set_lines(self._lines[self._top : self._top + room])

    def action_move(self, step: int) -> None:
        self._top += step
        self._show()

    def action_page(self, pages: float) -> None:
        self._top += int(pages * self._room())
        self._show()

    def action_edge(self, end: int) -> None:
        self._top = 0 if end < 0 else len(self._lines)
        self._show()

    def hint(self, text: str) -> None:
        """Say this below the box."""
        for box in self.query("#box"):
            box.border_subtitle = text

    def action_copy(self) -> None:
        if self._copied:
            self.hold.copy_to_clipboard(self._copied)
            self.hint("copied")

    def plain(self) -> str:
        return "\n".join(text_of(line) for line in self._lines)


class TextDialog(ScrolledDialog[None]):
    """Only to read: enter closes, too."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "give_up", show=False)]

    def __init__(self, title: str, lines: Sequence[Line], *, copied: str = "") -> None:
        hint = "y copies - esc closes" if copied else "jk scroll - esc closes"
        super().__init__(title, hint, lines, copied=copied)
