"""Foreign text made harmless and cut to a width in terminal cells.

File names, notes and log lines may hold escape sequences, marks that turn the direction of
writing, or bytes that are no text. Everything passes here once before it reaches a widget.
"""

from typing import Final

from rich.cells import cell_len, set_cell_size

from holdfast import shown

DOTS: Final = ".."


def clean(text: str) -> str:
    """`text` with everything invisible or dangerous as an escape; plain text comes back as it is."""
    if text.isascii() and text.isprintable():
        return text
    if text.isprintable() and "\\" in text:
        return text
    return shown.printable_text(text)


def ascii_only(text: str) -> str:
    """For terminals that show nothing else: other letters as escapes."""
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()


def width_of(text: str) -> int:
    """Cells that `text` takes."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int) -> str:
    """Exactly `width` cells: padded on the right, or cut at the end with two dots."""
    have = width_of(text)
    if have <= width:
        return text + " " * (width - have)
    if width <= len(DOTS):
        return set_cell_size(text, max(0, width))
    return set_cell_size(text, width - len(DOTS)) + DOTS


def fit_right(text: str, width: int) -> str:
    """Exactly `width` cells, padded on the left."""
    have = width_of(text)
    return " " * (width - have) + text if have <= width else fit(text, width)


def fit_middle(text: str, width: int) -> str:
    """Exactly `width` cells; what is too long loses its middle, since both ends of names matter."""
    have = width_of(text)
    if have <= width or width < 8:  # noqa: PLR2004  # too little to keep two ends of
        return fit(text, width)
    head = (width - len(DOTS)) // 2
    tail = width - len(DOTS) - head
    return set_cell_size(text, head) + DOTS + _last_cells(text, tail)


def fit_path(path: str, width: int) -> str:
    """Exactly `width` cells; a long path loses whole components from its front."""
    if width_of(path) <= width:
        return fit(path, width)
    parts = path.split("/")
    while len(parts) > 1:
        parts = parts[1:]
        short = f"{DOTS}/{'/'.join(parts)}"
        if width_of(short) <= width:
            return fit(short, width)
    return fit_middle(parts[-1], width)


def _last_cells(text: str, width: int) -> str:
    start = len(text)
    have = 0
    while start > 0:
        more = width_of(text[start - 1])
        if have + more > width:
            break
        have += more
        start -= 1
    return " " * (width - have) + text[start:]
