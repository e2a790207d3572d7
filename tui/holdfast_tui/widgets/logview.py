"""The log of a task: line numbers and times on demand, the end followed until somebody scrolls.

The file is read in a thread by whoever owns the view (`append`, `reset`); here are only lines.
"""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.events import Resize
from textual.strip import Strip

from holdfast_tui import keymap
from holdfast_tui.render.clean import ascii_only, clean
from holdfast_tui.widgets.pane import Painted
from holdfast_tui.widgets.strips import Part, plain, strip

LINES_MAX = 100_000
_BAD = ("error", "TASK ERROR", "damaged", "cannot ", "failed")


class LogView(Painted, can_focus=True):
    """Lines of (time text, message); a message that warns or fails is a problem (n, N)."""

    HELP: ClassVar[str] = (
        "A log. Times on the left; ! begins a warning and X an error.\n"
        "It follows its end until you scroll up; t follows again. n and N go to problems."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("list")
    DEFAULT_CSS = """
    LogView { height: 1fr; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._lines: list[tuple[str, str]] = []
        self._top = 0
        self._follows = True
        self._title = "Log"
        self._unseen = 0

    def reset(self, title: str) -> None:
        """Another log begins."""
        self._lines = []
        self._top = 0
        self._follows = True
        self._unseen = 0
        self._title = title
        self._show_note()
        self.refresh()

    def append(self, lines: Sequence[tuple[str, str]]) -> None:
        """More of the same log."""
        if not lines:
            return
        self._lines.extend((clean(when), clean(text)) for when, text in lines)
        if len(self._lines) > LINES_MAX:
            cut = len(self._lines) - LINES_MAX
            del self._lines[:cut]
            self._top = max(0, self._top - cut)
        if self._follows:
            self._top = self._last_top()
        else:
            self._unseen += len(lines)
        self._show_note()
        self.refresh()

    @property
    def follows(self) -> bool:
        return self._follows

    @property
    def line_count(self) -> int:
        return len(self._lines)

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._follows = True
        self._unseen = 0
        self._top = self._last_top()
        self._show_note()
        self.refresh()

    def _last_top(self) -> int:
        return max(0, len(self._lines) - max(1, self.content_size.height))

    def _show_note(self) -> None:
        problems = sum(1 for line in self._lines if _mark(line[1]) in "!X")
        parts = [f"{len(self._lines):,} lines"]
        if problems:
            parts.append(f"{problems:,} problems (n N)")
        parts.append(
            "following"
            if self._follows
            else f"+{self._unseen} new below, t follows"
            if self._unseen
            else "t follows"
        )
        self.name_pane(self._title, f" {self.look.dot} ".join(parts))

    def on_resize(self, event: Resize) -> None:
        del event
        self._top = self._last_top() if self._follows else min(self._top, self._last_top())

    def render_line(self, y: int) -> Strip:
        return strip(self._line(y), self.content_size.width, self.palette, self.base_style)

    def _line(self, y: int) -> list[Part]:
        at = self._top + y
        if at >= len(self._lines):
            return []
        when, text = self._lines[at]
        if not self.look.unicode:
            text = ascii_only(text)
        mark = _mark(text)
        style = {"!": "warn", "X": "bad", "+": "good"}.get(mark, "text")
        shown = mark if mark in "!X" else " "
        return [(shown, style), (f"{when:8} " if when else " " * 9, "dim"), (text, style)]

    def plain(self) -> str:
        lines = [self._line(y) for y in range(self.content_size.height)]
        return f"{self._title}\n{plain(lines)}".rstrip()

    # Actions --------------------------------------------------------------------------------------

    def _scroll(self, top: int) -> None:
        last = self._last_top()
        self._top = max(0, min(top, last))
        self._follows = self._top >= last
        if self._follows:
            self._unseen = 0
        self._show_note()
        self.refresh()

    def action_move(self, step: int) -> None:
        self._scroll(self._top + step)

    def action_edge(self, end: int) -> None:
        self._scroll(0 if end < 0 else self._last_top())

    def action_page(self, pages: float) -> None:
        self._scroll(self._top + int(pages * max(1, self.content_size.height)))

    def action_next_problem(self, step: int) -> None:
        at = self._top + step
        while 0 <= at < len(self._lines):
            if _mark(self._lines[at][1]) in "!X":
                self._scroll(at)
                return
            at += step
        self.hold.say("no problem in this direction")

    def go_by_minutes(self, minutes: int) -> None:
        """To the first line of the minute before or after the one on top."""
        if not self._lines:
            return
        here = self._lines[self._top][0][:5]
        at = self._top
        while 0 <= at < len(self._lines) and self._lines[at][0][:5] in ("", here):
            at += minutes
        self._scroll(at)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        return action in ("move", "edge", "page", "next_problem")


def _mark(text: str) -> str:
    if text.startswith("WARN"):
        return "!"
    if text.startswith("TASK "):
        if text == "TASK OK":
            return "+"
        return "!" if text.startswith("TASK WARNINGS") else "X"
    return "X" if text.lower().startswith(_BAD) else " "
