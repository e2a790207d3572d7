"""The registry of keys: bindings, key bar, help page, palette and the read-only filter come from it.

The tables are in holdfast_tui.keys, one module for each view. Lower case looks, UPPER CASE changes
something (G, N and Q excepted, as everywhere), so that read-only mode has nothing to hide but
capitals. A key belongs to a table (`app`, `list`, `marks` or a view); the same letter may mean one
thing in each view.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from textual.binding import Binding, BindingType

from holdfast_tui.keys import (
    dashboard,
    dedup,
    detail,
    everywhere,
    restore,
    schedules,
    snapshots,
    stores,
    tasks,
    verify,
)
from holdfast_tui.keys.key import Key

TABLES: Final[dict[str, tuple[Key, ...]]] = {
    "app": everywhere.APP,
    "list": everywhere.LIST,
    "marks": everywhere.MARKS,
    "dashboard": dashboard.KEYS,
    "snapshots": snapshots.KEYS,
    "detail": detail.KEYS,
    "restore": restore.KEYS,
    "tasks": tasks.KEYS,
    "dedup": dedup.KEYS,
    "verify": verify.KEYS,
    "schedules": schedules.KEYS,
    "stores": stores.KEYS,
}
HARMLESS_CAPITALS: Final = frozenset("GNQ")
_SHOWN: Final = {
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "exclamation_mark": "!",
    "plus": "+",
    "minus": "-",
    "asterisk": "*",
    "full_stop": ".",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "escape": "esc",
    "space": "spc",
    "pagedown": "pgdn",
    "pageup": "pgup",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What this run may do.

    Attributes:
        read_only: why nothing may be changed; empty when it may.
        no_content: file names and contents are not shown.
    """

    read_only: str = ""
    no_content: bool = False

    def allows(self, key: Key) -> bool:
        return not (key.mutates and self.read_only) and not (key.needs_content and self.no_content)

    def refusal(self, key: Key) -> str:
        """Why the key does nothing; empty when it does something."""
        if key.mutates and self.read_only:
            return f"read-only: {key.label} is off ({self.read_only})"
        if key.needs_content and self.no_content:
            return f"{key.label} is off (started with --no-content)"
        return ""


def bindings(*tables: str) -> list[BindingType]:
    """For the BINDINGS of a widget class."""
    return [
        Binding(
            key.keys,
            key.action,
            key.label or key.help,
            id=key.id,
            show=False,
            priority=key.id == "app.interrupt",
        )
        for table in tables
        for key in TABLES[table]
    ]


def of_action(action: str, tables: Iterable[str]) -> Key | None:
    """The entry for an action with or without parameters, in the first table that has it."""
    for table in tables:
        for key in TABLES[table]:
            if key.action.partition("(")[0] == action:
                return key
    return None


def of_key(name: str, tables: Iterable[str]) -> Key | None:
    """The entry for a pressed key."""
    for table in tables:
        for key in TABLES[table]:
            if name in key.keys.split(","):
                return key
    return None


def text_of(key: Key) -> str:
    """How the key is written for people: `/`, `esc`, `D`, `ctrl+r`."""
    if key.shown:
        return key.shown
    first = key.keys.partition(",")[0]
    return _SHOWN.get(first, first)


def all_texts(key: Key) -> str:
    """Every key of an entry, `j, down`."""
    return ", ".join(_SHOWN.get(name, name) for name in key.keys.split(","))


def allowed(gate: Gate, tables: Iterable[str]) -> list[Key]:
    """Entries of the tables that exist in this run."""
    return [key for table in tables for key in TABLES[table] if gate.allows(key)]


def bar(gate: Gate, tables: Iterable[str]) -> list[Key]:
    """Entries for the key bar, in its order."""
    return sorted((key for key in allowed(gate, tables) if key.bar), key=lambda key: key.bar)
