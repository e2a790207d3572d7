"""Which paths to leave out or take in: lists of patterns in which the last match wins.

    [!]GLOB[/]    `!` turns the meaning round, a trailing `/` matches directories only

A pattern is tried against the whole path, which begins with `/`, and unless it is anchored against
every end of it that begins behind a slash: `a/b` matches at any depth, `/a` at the top only.
Source: docs/formats/pxar.md, "Exclude patterns".
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self

from holdfast.archive.globs import translate
from holdfast.errors import BadRequest
from holdfast.shown import printable

EXCLUDE_FILE_BYTES_MAX: Final = 1 << 20
LOST_AND_FOUND: Final = b"lost+found"


class Match(Enum):
    EXCLUDE = "exclude"
    INCLUDE = "include"

    @property
    def opposite(self) -> "Match":
        return Match.INCLUDE if self is Match.EXCLUDE else Match.EXCLUDE


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a list, checked and compiled."""

    glob: bytes
    match: Match
    dirs_only: bool = False
    anchored: bool = False
    _regex: re.Pattern[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expression = translate(self.glob)
        if not self.anchored:
            expression = b"(?:.*/)?" + expression
        object.__setattr__(self, "_regex", re.compile(expression, re.DOTALL))

    @classmethod
    def parse(cls, text: bytes, *, default: Match = Match.EXCLUDE, anchored: bool = False) -> Self:
        """Read `[!]GLOB[/]`; BadRequest when the glob is empty or malformed."""
        match = default
        if text.startswith(b"!"):
            match, text = default.opposite, text[1:]
        glob = text.rstrip(b"/") or text[:1]
        return cls(glob, match, dirs_only=text.endswith(b"/"), anchored=anchored)

    def matches(self, path: bytes, *, is_dir: bool) -> bool:
        """Whether the entry at `path` (from the root, with a leading slash) is meant."""
        return (is_dir or not self.dirs_only) and self._regex.fullmatch(path) is not None

    @property
    def text(self) -> bytes:
        """The line it is written as."""
        mark = b"!" if self.match is Match.INCLUDE else b""
        slash = b"/" if self.dirs_only and not self.anchored and self.glob != b"/" else b""
        return mark + self.glob + slash


class PatternList:
    """Patterns in order; a walk appends a directory's own and drops them when it leaves."""

    def __init__(self, patterns: Iterable[Pattern] = ()) -> None:
        self._patterns = list(patterns)
        self._wants_kind = any(pattern.dirs_only for pattern in self._patterns)

    def __len__(self) -> int:
        return len(self._patterns)

    @property
    def needs_kind(self) -> bool:
        """Whether a match may depend on the entry being a directory."""
        return self._wants_kind

    def extend(self, patterns: Iterable[Pattern]) -> int:
        """Append; returns the length before, for `truncate`."""
        before = len(self._patterns)
        self._patterns.extend(patterns)
        self._wants_kind = any(pattern.dirs_only for pattern in self._patterns)
        return before

    def truncate(self, length: int) -> None:
        """Forget all patterns but the first `length`."""
        del self._patterns[length:]
        self._wants_kind = any(pattern.dirs_only for pattern in self._patterns)

    def match(self, path: bytes, *, is_dir: bool) -> Match | None:
        """What the last matching pattern says of `path`; None when no pattern matches."""
        for pattern in reversed(self._patterns):
            if pattern.matches(path, is_dir=is_dir):
                return pattern.match
        return None

    @property
    def text(self) -> bytes:
        """One line for each pattern, as `.pxarexclude-cli` and the prelude hold them."""
        return b"".join(pattern.text + b"\n" for pattern in self._patterns)


def normalized(text: bytes) -> bytes:
    """Without `.` and `..` components and doubled slashes; a trailing slash stays."""
    mark = b"!" if text.startswith(b"!") else b""
    body = text[len(mark) :]
    parts = [part for part in body.split(b"/") if part not in (b"", b".", b"..")]
    if not parts:
        return mark + body[:1].strip(b".")
    lead = b"/" if body.startswith(b"/") else b""
    trail = b"/" if body.endswith(b"/") else b""
    return mark + lead + b"/".join(parts) + trail


def parse_arguments(texts: Iterable[bytes], *, default: Match = Match.EXCLUDE) -> list[Pattern]:
    """Patterns given by a person: unanchored, in order (BadRequest names the bad one)."""
    patterns = []
    for text in texts:
        try:
            patterns.append(Pattern.parse(normalized(text), default=default))
        except (BadRequest, re.error) as error:
            raise BadRequest(f"pattern {printable(text)}: {error}") from error
    return patterns


@dataclass(frozen=True, slots=True)
class ExcludeFile:
    """What a `.pxarexclude` holds; lines that are no patterns are reported, not obeyed."""

    patterns: tuple[Pattern, ...]
    problems: tuple[str, ...]


def parse_exclude_file(data: bytes, directory: bytes) -> ExcludeFile:
    """Read the exclude file of `directory`, its path from the root without slashes at the ends.

    A line that begins with `/` is anchored at that directory.
    """
    patterns: list[Pattern] = []
    problems: list[str] = []
    for line in data.split(b"\n"):
        text = line.strip(b" \t\r\v\f")
        if not text or text.startswith(b"#"):
            continue
        try:
            patterns.append(_exclude_line(text, directory))
        except (BadRequest, re.error) as error:
            problems.append(f"{printable(text)}: {error}")
    return ExcludeFile(tuple(patterns), tuple(problems))


def _exclude_line(text: bytes, directory: bytes) -> Pattern:
    body = text.removeprefix(b"!")
    if not body.startswith(b"/"):
        return Pattern.parse(normalized(text))
    mark = text[: len(text) - len(body)]
    top = b"/" + _literal(directory) if directory else b""
    return Pattern.parse(mark + top + normalized(body), anchored=True)


def _literal(path: bytes) -> bytes:
    """A path as a glob that matches nothing else."""
    return re.sub(rb"([\\*?\[])", rb"\\\1", path)


def prelude(patterns: PatternList) -> bytes | None:
    """What a version 2 archive keeps of the patterns of the command line; None for no patterns.

    Raises:
        BadRequest: a pattern that is no UTF-8, which the prelude cannot hold.
    """
    if not len(patterns):
        return None
    try:
        text = patterns.text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("patterns for an archive have to be UTF-8") from error
    content = {"exclude-patterns": text}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
