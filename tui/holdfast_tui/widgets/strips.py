"""Lines of styled text: how rows become what Textual paints."""

from collections.abc import Iterable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from holdfast_tui.render.clean import fit, width_of
from holdfast_tui.render.theme import Palette

Part = tuple[str, str]
"""Text that is clean already, and the name of its style."""

Line = Sequence[Part]


def text_of(line: Line) -> str:
    """Without styles."""
    return "".join(part[0] for part in line)


def length_of(line: Line) -> int:
    """Cells."""
    return sum(width_of(part[0]) for part in line)


def both_ends(left: Line, right: Line, width: int) -> list[Part]:
    """One line with `left` and, as far as there is room, `right` at its end."""
    gap = width - length_of(left) - length_of(right)
    if gap < 1:
        return list(left)
    return [*left, (" " * gap, "text"), *right]


def strip(
    line: Line, width: int, palette: Palette, base: Style, over: Style | None = None
) -> Strip:
    """Exactly `width` cells; `over` is the ground of the cursor row."""
    ground = base if over is None else base + over
    segments: list[Segment] = []
    left = width
    for text, name in line:
        if left <= 0:
            break
        size = width_of(text)
        if size > left:
            text, size = fit(text, left), left  # noqa: PLW2901  # the last part that fits
        segments.append(Segment(text, _style(ground, palette[name])))
        left -= size
    if left > 0:
        segments.append(Segment(" " * left, ground))
    return Strip(segments, width)


def _style(ground: Style, own: Style) -> Style:
    """In sixteen colours a reversed row would become a patchwork: it keeps its own two colours."""
    if ground.reverse:
        return ground + Style(bold=own.bold)
    return ground + own


def plain(lines: Iterable[Line]) -> str:
    """Several lines as text, blanks at their ends removed."""
    return "\n".join(text_of(line).rstrip() for line in lines)
