"""File names and other foreign bytes as text that can do no harm on a terminal.

Control characters, marks that turn the direction of writing, invisible characters and bytes that
are no UTF-8 are written as escapes; everything a reader can see stays as it is.
"""

import unicodedata
from typing import Final

_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(name: bytes) -> str:
    r"""A name for a person: `\n`, `\x1b`, `\u202e` and `\xff` instead of what they would do.

    A backslash in it is doubled, so that no two names look the same.
    """
    return harmless(name.replace(b"\\", b"\\\\"))


def harmless(said: str | bytes) -> str:
    r"""The same for a sentence or note, whose backslashes stay as they are."""
    text = said.decode("utf-8", "surrogateescape") if isinstance(said, bytes) else said
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_text(text: str) -> str:
    """As `printable`, for a name that is text already."""
    return printable(text.encode("utf-8", "surrogateescape"))


def _shown(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8  # noqa: PLR2004
        return f"\\x{code - 0xDC00:02x}"
    if char == " " or (char.isprintable() and unicodedata.category(char) not in _HIDDEN_CATEGORIES):
        return char
    return char.encode("unicode_escape").decode("ascii")
