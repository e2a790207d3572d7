"""Panes side by side where there is room, one at a time (keys [ and ]) where there is not."""

from typing import ClassVar

from textual.containers import Container
from textual.widget import Widget

from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.pane import Painted


class FactPane(LinePane, can_focus=True):
    """Lines that tab and [ ] go to, so that keys of the view still count while it stands alone."""


class Parts(Container):
    """Holds panes in a grid of two columns; `small` shows only one of them."""

    DEFAULT_CSS: ClassVar[str] = """
    Parts { layout: grid; grid-size: 2; height: 1fr; }
    Parts.-one { grid-size: 1; }
    Parts.-one > .-other { display: none; }
    """

    def __init__(self, *panes: Widget, id: str) -> None:  # noqa: A002
        super().__init__(*panes, id=id)
        self._panes = panes
        self._at = 0
        self._is_small = False

    @property
    def is_small(self) -> bool:
        return self._is_small

    @property
    def current(self) -> Widget:
        return self._panes[self._at]

    def fit(self, *, small: bool) -> None:
        """All of them, or one at a time."""
        self._is_small = small
        self.set_class(small, "-one")
        for number, pane in enumerate(self._panes):
            pane.set_class(small and number != self._at, "-other")

    def show(self, pane: Widget) -> None:
        """This one, if it is one at a time."""
        self._at = self._panes.index(pane)
        self.fit(small=self._is_small)

    def step(self, step: int) -> None:
        """The next one; where all are shown the focus moves."""
        self._at = (self._at + step) % len(self._panes)
        self.fit(small=self._is_small)
        pane = self.current
        if pane.can_focus:
            pane.focus()

    def place(self, pane: Painted) -> str:
        """`2/4 [ ]` for the title of a pane that stands alone; empty otherwise."""
        return f"{self._panes.index(pane) + 1}/{len(self._panes)} [ ]" if self._is_small else ""
