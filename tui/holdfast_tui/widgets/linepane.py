"""A few lines that change often: only those that differ are painted again.

`height: auto` (class `-auto`) takes as many rows as there are lines.
"""

from collections.abc import Sequence

from textual.geometry import Region, Size
from textual.strip import Strip

from holdfast_tui.widgets.pane import Painted
from holdfast_tui.widgets.strips import Line, Part, plain, strip


class LinePane(Painted):
    """Shows what `set_lines` was given; the width of a line is its widget's."""

    DEFAULT_CSS = """
    LinePane { height: 1fr; }
    LinePane.-auto { height: auto; }
    """

    def __init__(
        self,
        lines: Sequence[Line] = (),
        *,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[list[Part]] = [list(line) for line in lines]

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Show these; paints the rows that are different."""
        fresh = [list(line) for line in lines]
        before, self._lines = self._lines, fresh
        if len(before) != len(fresh) and self.has_class("-auto"):
            self.refresh(layout=True)
            return
        size = self.content_size
        for row in range(max(len(before), len(fresh))):
            old = before[row] if row < len(before) else None
            new = fresh[row] if row < len(fresh) else None
            if old != new and row < size.height:
                self.refresh(Region(0, row, size.width, 1))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        del container, viewport, width
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        line: Line = self._lines[y] if y < len(self._lines) else ()
        return strip(line, width, self.palette, self.base_style)

    def plain(self) -> str:
        return plain(self._lines)
