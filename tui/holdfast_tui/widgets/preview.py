"""What is in a file: text with line numbers, bytes as hex, or the differences to another version.

Foreign bytes: everything goes through `clean`; only a part of a large file is read, and it is said.
"""

import difflib
from collections.abc import Sequence
from typing import Final

from holdfast_tui.render.clean import ascii_only, clean
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.strips import Line

BYTES_MAX: Final = 128 * 1024
_LINES_MAX: Final = 4000
_COLUMNS_MAX: Final = 400
_TEXT_SAMPLE: Final = 8192
_CONTROLS: Final = frozenset({*range(9), 11, *range(14, 27), *range(28, 32), 127})


class Preview(LinePane):
    """A pane that scrolls over lines."""

    DEFAULT_CSS = """
    Preview { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__(id="preview", classes="pane")
        self._all: list[Line] = []
        self._from = 0
        self._title = "Preview"
        self._note = ""

    def show(self, title: str, lines: Sequence[Line], note: str = "") -> None:
        """Other lines, from their beginning."""
        self._all, self._from = list(lines), 0
        self._title, self._note = title, note
        self._draw()

    def scroll_lines(self, lines: int) -> None:
        last = max(0, len(self._all) - max(1, self.content_size.height))
        self._from = max(0, min(self._from + lines, last))
        self._draw()

    def on_resize(self) -> None:
        self.scroll_lines(0)

    def _draw(self) -> None:
        height = max(1, self.content_size.height)
        shown = self._all[self._from : self._from + height]
        self.set_lines(shown)
        parts = [self._note] if self._note else []
        if len(self._all) > height:
            last = min(len(self._all), self._from + height)
            parts.append(f"{self._from + 1:,}-{last:,} of {len(self._all):,}  < >")
        self.name_pane(self._title, f" {self.look.dot} ".join(parts))

    def plain(self) -> str:
        return f"{self._title}\n{super().plain()}".rstrip()


def is_text(data: bytes) -> bool:
    """Whether a person would want to read it: no zero bytes, hardly any control characters."""
    sample = data[:_TEXT_SAMPLE]
    if b"\0" in sample:
        return False
    strange = sum(byte in _CONTROLS for byte in sample)
    if strange * 20 > len(sample):
        return False
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(sample) - 4 or _latin(sample)
    return True


def _latin(sample: bytes) -> bool:
    high = sum(byte > 127 for byte in sample)  # noqa: PLR2004  # beyond ASCII
    return high * 10 < len(sample)


def content_lines(data: bytes, *, unicode: bool, width: int) -> list[Line]:
    """Text with numbers, or hex."""
    return text_lines(data, unicode=unicode) if is_text(data) else hex_lines(data, width=width)


def _readable(data: bytes, *, unicode: bool) -> list[str]:
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").expandtabs(4)
    lines = [clean(line[:_COLUMNS_MAX]) for line in text.split("\n")[:_LINES_MAX]]
    if lines and not lines[-1]:
        lines.pop()
    return lines if unicode else [ascii_only(line) for line in lines]


def text_lines(data: bytes, *, unicode: bool) -> list[Line]:
    """Numbered lines."""
    return [
        [(f"{number:5} ", "dim"), (line, "text")]
        for number, line in enumerate(_readable(data, unicode=unicode), start=1)
    ]


def hex_lines(data: bytes, *, width: int) -> list[Line]:
    """Offset, hex, letters; as many bytes to a line as there is room, a power of two."""
    per_line = 16 if width >= 77 else 8  # noqa: PLR2004  # cells of a line of 16 bytes
    lines: list[Line] = []
    for at in range(0, min(len(data), _LINES_MAX * per_line), per_line):
        piece = data[at : at + per_line]
        digits = piece.hex(" ").ljust(3 * per_line - 1)
        half = 3 * per_line // 2
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)  # noqa: PLR2004
        lines.append(
            [
                (f"{at:08x}  ", "dim"),
                (f"{digits[:half]} {digits[half:]}  ", "text"),
                (letters, "accent"),
            ]
        )
    return lines


def diff_lines(before: bytes, after: bytes, *, unicode: bool, names: tuple[str, str]) -> list[Line]:
    """What differs between two versions; the first is the snapshot's."""
    if not (is_text(before) and is_text(after)):
        same = "the first bytes are the same" if before == after else "the bytes differ"
        return [[(f" {same}; it is no text", "dim")]]
    left, right = _readable(before, unicode=unicode), _readable(after, unicode=unicode)
    if left == right:
        return [[(" no difference in the content", "good")]]
    styles = {"-": "deleted", "+": "new", "@": "title"}
    lines: list[Line] = [[(f"- {names[0]}", "deleted"), (f"   + {names[1]}", "new")]]
    changes = list(difflib.unified_diff(left, right, lineterm="", n=3))[2:]
    return lines + [[(f" {line}", styles.get(line[:1], "text"))] for line in changes]
