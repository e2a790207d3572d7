"""A TOML file as typed answers; every mistake is reported with its file and line."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NoReturn, TypeVar

from holdfast.errors import BadRequest
from holdfast.host import files
from holdfast.units import MIB

CONFIG_BYTES_MAX: Final = 4 * MIB
_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?")
_ASSIGNMENT: Final = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[^=\s]+)*)\s*="""
)
_KEY_PART: Final = re.compile(r""""([^"]*)"|'([^']*)'|([^.\s"']+)""")

Choice = TypeVar("Choice", bound=StrEnum)
Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TomlSource:
    """The parsed file and where each key stands in it."""

    path: str
    data: Mapping[str, object]
    lines: Mapping[Keys, int]

    def line_of(self, keys: Keys) -> int | None:
        """The line of a key, or of the nearest table around it, counted from 1."""
        while keys:
            if keys in self.lines:
                return self.lines[keys]
            keys = keys[:-1]
        return None

    def complain(self, keys: Keys, problem: str, *, hint: str | None = None) -> NoReturn:
        """Raise BadRequest that names the file and the line."""
        line = self.line_of(keys)
        where = self.path if line is None else f"{self.path}, line {line}"
        raise BadRequest(f"{where}: {problem}", hint=hint)

    @property
    def root(self) -> "Section":
        return Section(self, (), self.data)


def read(path: str) -> TomlSource:
    """Read and parse `path`; a file that is not there is empty.

    Raises:
        BadRequest: no TOML, no UTF-8, or unreasonably large.
        Refused, HoldfastError: it cannot be read.
    """
    with files.explained(f"reading the configuration {path}"):
        try:
            raw = files.read_file(os.path.realpath(path), size_max=CONFIG_BYTES_MAX)
        except FileNotFoundError:
            return TomlSource(path, {}, {})
    return parse(path, raw)


def parse(path: str, raw: bytes) -> TomlSource:
    """Parse the bytes of a file called `path` (BadRequest)."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadRequest(f"{path}, line {line}: not UTF-8 text") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)|\(at end of document\)", str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        reason = str(error).partition(" (at ")[0]
        hint = 'values are written like name = "text", tables like [stores.local]'
        raise BadRequest(f"{path}, line {line}: {reason}", hint=hint) from error
    except RecursionError as error:
        raise BadRequest(f"{path}: nested too deeply") from error
    return TomlSource(path, data, _key_lines(text))


def _key_lines(text: str) -> dict[Keys, int]:
    """Where tables and keys begin; for messages only, so multi-line values need no exactness."""
    lines: dict[Keys, int] = {}
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = _key_parts(header[1])
            for depth in range(1, len(table) + 1):
                lines.setdefault(table[:depth], number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault(table + _key_parts(assignment[1]), number)
    return lines


def _key_parts(text: str) -> Keys:
    return tuple(a or b or c for a, b, c in _KEY_PART.findall(text))


@dataclass(slots=True)
class Section:
    """One table of the file; asks once for every key it knows, then refuses the rest.

    Every question raises BadRequest with file and line when the value is of the wrong kind.
    """

    source: TomlSource
    keys: Keys
    values: Mapping[str, object]
    _known: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.keys[-1] if self.keys else ""

    def complain(self, key: str, problem: str, *, hint: str | None = None) -> NoReturn:
        self.source.complain((*self.keys, key), problem, hint=hint)

    def has(self, key: str) -> bool:
        self._known.add(key)
        return key in self.values

    def text(self, key: str) -> str | None:
        value = self._value(key)
        if value is None or isinstance(value, str):
            return value
        return self._wrong(key, 'text in quotes, like "this"')

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; a single text counts as a list of one; missing is empty."""
        value = self._value(key)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        return self._wrong(key, 'a list of texts, like ["one", "two"]')

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._value(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        return self._wrong(key, "true or false")

    def integer(self, key: str, *, low: int = 0, high: int = 1 << 62) -> int | None:
        value = self._value(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            return self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def choice(self, key: str, choices: type[Choice], *, default: Choice) -> Choice:
        text = self.text(key)
        if text is None:
            return default
        try:
            return choices(text)
        except ValueError:
            names = [choice.value for choice in choices]
            self.complain(
                key, f"{key} = {text!r} is none of {', '.join(names)}", hint=_meant(text, names)
            )

    def table(self, key: str) -> "Section":
        """The table `key` below this one; empty when missing."""
        value = self._value(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self._wrong(key, f"a table, like [{'.'.join((*self.keys, key))}]")
        return Section(self.source, (*self.keys, key), value)

    def tables(self, key: str) -> list["Section"]:
        """Every named table below the table `key`, in the file's order."""
        parent = self.table(key)
        return [parent.table(name) for name in parent.values]

    def refuse_unknown(self, *, also: Iterable[str] = ()) -> None:
        """Complain of the first key that nobody asked for."""
        known = self._known | set(also)
        for key in self.values:
            if key not in known:
                table = f"in [{'.'.join(self.keys)}]" if self.keys else "here"
                hint = _meant(key, sorted(known)) or f"known are: {', '.join(sorted(known))}"
                self.complain(key, f"{key!r} means nothing {table}", hint=hint)

    def _value(self, key: str) -> object:
        self._known.add(key)
        return self.values.get(key)

    def _wrong(self, key: str, wanted: str) -> NoReturn:
        self.complain(key, f"{key} should be {wanted}, not {self.values[key]!r}")


def _meant(text: str, names: list[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else None
