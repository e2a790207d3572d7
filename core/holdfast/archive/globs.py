r"""Globs over paths as bytes, translated to regular expressions that cannot run away.

    ?       one byte except `/`             *       any run without `/`
    \x      x itself                         **      between slashes or ends only: any run at all
    [...]   one byte: ranges in either order, `\` escapes, `[:digit:]` and its like; `^` negates

A `]` directly behind `[` or `[^` closes an empty class. Every choice but the last one of a run of
stars is committed to (atomic groups): the leftmost place a fixed piece fits is as good as any
later one, so no pattern takes more than about length squared steps.
Source: docs/formats/pxar.md, "Exclude patterns".
"""

import re
import string
from typing import Final

from holdfast.errors import BadRequest
from holdfast.shown import printable

_NAMED: Final = {
    name: frozenset(text.encode())
    for name, text in {
        b"alnum": string.ascii_letters + string.digits,
        b"alpha": string.ascii_letters,
        b"blank": " \t",
        b"cntrl": "".join(map(chr, [*range(32), 127])),
        b"digit": string.digits,
        b"graph": "".join(map(chr, range(33, 127))),
        b"lower": string.ascii_lowercase,
        b"print": "".join(map(chr, range(32, 127))),
        b"punct": string.punctuation,
        b"space": " \t\n\r\v\f",
        b"upper": string.ascii_uppercase,
        b"xdigit": string.hexdigits,
    }.items()
}
_DEEP: Final = b"**"  # as a piece of a component list: any number of components


def translate(glob: bytes) -> bytes:
    """A regular expression (bytes, DOTALL) for the whole of a text.

    Raises:
        BadRequest: empty, a backslash at the end, an unclosed or unknown class.
    """
    if not glob:
        raise BadRequest("an empty pattern matches nothing; leave it out")
    components = [_component(part, glob) for part in _split(glob)]
    return _joined(components)


def _split(glob: bytes) -> list[bytes]:
    """Components between the slashes that are not part of a class or escaped."""
    parts: list[bytes] = []
    start = at = 0
    while at < len(glob):
        if glob[at : at + 1] == b"\\":
            at += 2
        elif glob[at : at + 1] == b"[":
            at = _class(glob, at)[1]
        else:
            if glob[at : at + 1] == b"/":
                parts.append(glob[start:at])
                start = at + 1
            at += 1
    return [*parts, glob[start:]]


def _component(part: bytes, glob: bytes) -> bytes:
    """Expression for one component; `_DEEP` when it is nothing but two or more stars."""
    if len(part) > 1 and not part.strip(b"*"):
        return _DEEP
    pieces: list[list[bytes]] = [[]]  # split at runs of stars
    at = 0
    while at < len(part):
        byte = part[at : at + 1]
        if byte == b"*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append([])
            at += 1
        elif byte == b"?":
            pieces[-1].append(b"[^/]")
            at += 1
        elif byte == b"[":
            expression, at = _class(part, at)
            pieces[-1].append(expression)
        elif byte == b"\\":
            if at + 1 == len(part):
                raise BadRequest(f"the pattern {printable(glob)} ends in a backslash")
            pieces[-1].append(re.escape(part[at + 1 : at + 2]))
            at += 2
        else:
            pieces[-1].append(re.escape(byte))
            at += 1
    first, *rest = (b"".join(piece) for piece in pieces)
    if not rest:
        return first
    middle = b"".join(b"(?>[^/]*?" + piece + b")" for piece in rest[:-1])
    return first + middle + b"[^/]*" + rest[-1]


def _joined(components: list[bytes]) -> bytes:
    """Components with slashes between them, where `_DEEP` stands for any number of them."""
    runs: list[list[bytes]] = [[]]
    for component in components:
        if component != _DEEP:
            runs[-1].append(component)
        elif len(runs) == 1 or runs[-1]:
            runs.append([])
    if len(runs) == 1:
        return b"/".join(runs[0])
    expression = b"".join(component + b"/" for component in runs[0])
    for run in runs[1:-1]:
        expression += b"(?>(?:.*?/)??" + b"/".join(run) + b"/)"
    last = runs[-1]
    return expression + (b"(?:.*/)?" + b"/".join(last) if last else b".*")


def _class(glob: bytes, start: int) -> tuple[bytes, int]:
    """Expression for the class that opens at `start`, and the position behind it."""
    at = start + 1
    is_negated = glob[at : at + 1] == b"^"
    at += is_negated
    members: set[int] = set()
    while glob[at : at + 1] != b"]":
        if at >= len(glob):
            raise BadRequest(f"the pattern {printable(glob)} has a class without an end")
        if glob.startswith(b"[:", at):
            name, end = _class_name(glob, at)
            members |= _NAMED[name]
            at = end
            continue
        low, at = _member(glob, at)
        if glob[at : at + 1] == b"-" and glob[at + 1 : at + 2] not in (b"]", b""):
            high, at = _member(glob, at + 1)
            members.update(range(min(low, high), max(low, high) + 1))
        else:
            members.add(low)
    if is_negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", at + 1
    return b"[" + b"".join(b"\\x%02x" % member for member in sorted(members)) + b"]", at + 1


def _class_name(glob: bytes, at: int) -> tuple[bytes, int]:
    end = glob.find(b":]", at + 2)
    name = glob[at + 2 : end]
    if end < 0 or name not in _NAMED:
        raise BadRequest(f"the pattern {printable(glob)} has an unknown named class")
    return name, end + 2


def _member(glob: bytes, at: int) -> tuple[int, int]:
    if glob[at : at + 1] == b"\\":
        at += 1
    if at >= len(glob):
        raise BadRequest(f"the pattern {printable(glob)} has a class without an end")
    return glob[at], at + 1
