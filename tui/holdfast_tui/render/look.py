"""How this terminal is drawn on: letters it can show, colours, borders; and marks for states.

Every state is a mark that is followed by a word somewhere on its row; colour only repeats it. In a
terminal that shows Unicode a few marks look nicer, and bars are drawn in eighths of a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Mark(StrEnum):
    """A state of anything; the value is what an ASCII terminal shows."""

    OK = "+"
    BAD = "X"
    WARN = "!"
    OLD = "o"
    NONE = "-"
    RUN = "~"
    WAIT = ":"
    STOP = "/"
    LOST = "?"


_UNICODE_MARKS: Final = {
    Mark.OK: "✓",
    Mark.BAD: "✗",
    Mark.OLD: "○",
    Mark.NONE: "\u2013",
}
STYLE_OF_MARK: Final = {
    Mark.OK: "good",
    Mark.BAD: "bad",
    Mark.WARN: "warn",
    Mark.OLD: "warn",
    Mark.NONE: "dim",
    Mark.RUN: "run",
    Mark.WAIT: "run",
    Mark.STOP: "stop",
    Mark.LOST: "lost",
}
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_RAMP: Final = " .:-=+*#%@"


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal can do.

    Attributes:
        unicode: letters beyond ASCII may be shown.
        theme: name of one of holdfast_tui.render.theme.
        slow: a slow line; repaint less often.
    """

    unicode: bool = True
    theme: str = "harbour"
    slow: bool = False

    def mark(self, mark: Mark) -> str:
        """One cell."""
        return _UNICODE_MARKS.get(mark, mark.value) if self.unicode else mark.value

    @property
    def arrow(self) -> str:
        return "\u203a" if self.unicode else ">"

    @property
    def dot(self) -> str:
        """Between facts of one line."""
        return "·" if self.unicode else "|"

    @property
    def rule(self) -> str:
        """The letter that horizontal lines are made of."""
        return "─" if self.unicode else "-"

    def bar(self, fraction: float | None, width: int) -> tuple[str, str]:
        """The full and the empty part of a bar of `width` cells; nothing full when unknown."""
        part = 0.0 if fraction is None else min(1.0, max(0.0, fraction))
        if not self.unicode:
            inner = max(0, width - 2)
            full = int(part * inner)
            return "[" + "#" * full, "." * (inner - full) + "]"
        eighths = int(part * width * 8)
        whole, rest = divmod(eighths, 8)
        text = "█" * whole + (_EIGHTHS[rest] if rest else "")
        ground = " " if self.theme not in ("ansi", "mono") else "·"
        return text, ground * (width - len(text))

    def columns(self, values: Sequence[float], width: int, *, top: float | None = None) -> str:
        """A graph one cell high: the newest `width` values, the highest as high as a cell."""
        steps = _BLOCKS if self.unicode else _RAMP
        shown = list(values)[-width:]
        highest = top or max(shown, default=0.0) or 1.0
        cells = []
        for value in shown:
            level = min(1.0, max(0.0, value / highest))
            at = 0 if value <= 0 else max(1, round(level * (len(steps) - 1)))
            cells.append(steps[at])
        return "".join(cells).rjust(width)

    def graph(self, values: Sequence[float], width: int, height: int) -> list[str]:
        """A filled graph of `height` lines, eight steps to each; the newest value on the right."""
        if not self.unicode:
            return self._ascii_graph(values, width, height)
        shown = [0.0] * max(0, width - len(values)) + list(values)[-width:]
        highest = max(shown, default=0.0) or 1.0
        steps = [0 if v <= 0 else max(1, round(v / highest * 8 * height)) for v in shown]
        return [
            "".join(_BLOCKS[min(8, max(0, step - 8 * (height - 1 - row)))] for step in steps)
            for row in range(height)
        ]

    @staticmethod
    def _ascii_graph(values: Sequence[float], width: int, height: int) -> list[str]:
        shown = [0.0] * max(0, width - len(values)) + list(values)[-width:]
        highest = max(shown, default=0.0) or 1.0
        heights = [0 if v <= 0 else max(1, round(v / highest * height)) for v in shown]
        return [
            "".join("#" if level > height - 1 - row else " " for level in heights)
            for row in range(height)
        ]


ASCII: Final = Look(unicode=False, theme="ansi")
