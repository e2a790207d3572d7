"""The command line of the app (`:` and ctrl+p): every action by name, and words with arguments.

Entries come from the registry of keys, so what may not be done here is not there either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast_tui import keymap
from holdfast_tui.dialogs.picker import Choice
from holdfast_tui.model.request import Target
from holdfast_tui.render.theme import NAMES

if TYPE_CHECKING:
    from holdfast_tui.app import HoldfastApp


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the command line that takes arguments."""

    name: str
    arguments: str
    about: str
    run: Callable[["HoldfastApp", str], None]


def _theme(app: "HoldfastApp", text: str) -> None:
    if text in NAMES:
        app.use_theme(text)
    else:
        app.say(f"themes are {', '.join(NAMES)}", "warn")


def _snaps(app: "HoldfastApp", text: str) -> None:
    """`STORE/NS/TYPE/ID`, or any part of it."""
    parts = [part for part in text.split("/") if part]
    store = parts.pop(0) if parts and parts[0] in app.store_facts else ""
    group = ""
    if len(parts) > 1 and parts[-2] in ("host", "vm", "ct"):
        group = "/".join(parts[-2:])
        parts = parts[:-2]
    app.go("snapshots", Target(store=store, ns="/".join(parts), group=group))


def _tasks(app: "HoldfastApp", text: str) -> None:
    app.go("tasks", Target(filter=text))


def _help(app: "HoldfastApp", text: str) -> None:
    if text in app.views:
        app.go(text, then=app.action_help)
    else:
        app.action_help()


def _report(app: "HoldfastApp", text: str) -> None:
    del text
    view = app.view
    if view is not None:
        app.say(" ".join(view.plain().split())[:300])


WORDS: Final = (
    Word("snaps", "STORE/NS/TYPE/ID", "go to a group of snapshots", _snaps),
    Word("task", "FILTER", "tasks, narrowed: `failed since:2d`, `kind:verify`", _tasks),
    Word("theme", "|".join(NAMES), "other colours", _theme),
    Word("help", "VIEW", "the help page of a view", _help),
    Word("speak", "", "this screen as one plain line in the message row", _report),
)


def choices(app: "HoldfastApp") -> list[Choice]:
    """Everything that can be done here."""
    view = app.view
    tables = view.tables() if view is not None else ("app",)
    found = []
    for table in dict.fromkeys((view.VIEW if view is not None else "app", *tables)):
        for key in keymap.TABLES[table]:
            if not key.label or not app.gate.allows(key) or (view and view.blocked(key)):
                continue
            found.append(Choice(f"key {key.id}", key.label, keymap.text_of(key), key.help))
    found += [
        Choice(f"word {w.name}", f"{w.name} {w.arguments}".strip(), ":", w.about) for w in WORDS
    ]
    for name in NAMES:
        found.append(Choice(f"theme {name}", f"theme {name}", ":", "other colours"))
    return found


def is_typed_command(text: str) -> bool:
    """Whether what was typed is a word with arguments rather than letters to search."""
    name, blank, rest = text.strip().partition(" ")
    return bool(blank and rest.strip()) and any(word.name == name for word in WORDS)


def carry_out(app: "HoldfastApp", answer: str) -> None:
    """Do what was chosen or typed."""
    kind, _blank, rest = answer.partition(" ")
    if kind == "key":
        _press(app, rest)
    elif kind == "word":
        word = next(word for word in WORDS if word.name == rest)
        if word.arguments:
            app.ask_line(f":{word.name}", lambda text: word.run(app, text.strip()))
        else:
            word.run(app, "")
    else:
        for word in WORDS:
            if word.name == kind:
                word.run(app, rest.strip())
                return
        app.say(f"there is no command {kind!r}", "warn")


def _press(app: "HoldfastApp", key_id: str) -> None:
    for table in keymap.TABLES.values():
        for key in table:
            if key.id == key_id:
                app.run_key(key)
                return
