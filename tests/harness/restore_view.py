"""Keys for the restore view in tests: going to a place, marking, planning, waiting for the end."""

import os
from pathlib import Path
from typing import Any

from textual import events
from textual.pilot import Pilot

from holdfast_tui.dialogs.plan import PlanDialog
from holdfast_tui.screens.restore.view import RestoreView
from holdfast_tui.widgets.strips import text_of
from tests.harness.tui import app_of, press, settled, until

_NAMES = {
    " ": "space",
    "/": "slash",
    ".": "full_stop",
    "-": "minus",
    "_": "underscore",
    "*": "asterisk",
    "?": "question_mark",
    "[": "left_square_bracket",
}


def keys_of(text: str) -> list[str]:
    """Keys that type a text."""
    return [_NAMES.get(letter, letter) for letter in text]


async def answer(pilot: Pilot[str], text: str) -> None:
    """Paste over what stands in the message row, and enter; typing takes 50 ms a letter."""
    await press(pilot, "ctrl+u")
    pilot.app.post_message(events.Paste(text))
    await press(pilot, "enter")
    await settled(pilot)


def view_of(pilot: Pilot[str]) -> RestoreView:
    view = app_of(pilot).view
    assert isinstance(view, RestoreView)
    return view


async def go(pilot: Pilot[str], *keys: str) -> None:
    """Press keys one after the other, each when the one before has had its effect."""
    for key in keys:
        await press(pilot, key)
        if not app_of(pilot).screen.is_modal:
            await settled(pilot)


async def files_of(pilot: Pilot[str], older: int = 0) -> RestoreView:
    """Into etc.pxar of host/web1: the newest snapshot, or one that is `older` steps back."""
    await settled(pilot)
    await go(pilot, "enter", *(["j"] * older), "enter", "enter")
    return view_of(pilot)


async def restore_to(pilot: Pilot[str], target: Path) -> None:
    await press(pilot, "w")
    await answer(pilot, str(target))


async def planned(pilot: Pilot[str], key: str = "R") -> str:
    """R (or c in a plan, for the next rule), and the text of the plan that comes."""
    before = pilot.app.screen
    await press(pilot, key)

    def is_there() -> bool:
        return isinstance(pilot.app.screen, PlanDialog) and pilot.app.screen is not before

    await until(pilot, is_there, what="the plan")
    screen = pilot.app.screen
    assert isinstance(screen, PlanDialog)
    return "\n".join(text_of(line) for line in screen._lines)


async def ended(pilot: Pilot[str]) -> Any:
    """Wait for the end of the restore that was started."""
    view = view_of(pilot)

    def is_over() -> bool:
        return view.job is not None and not view.job.is_running

    await until(pilot, is_over, what="the end of the restore")
    await settled(pilot)
    return view.job


async def mark(pilot: Pilot[str], *names: bytes) -> None:
    """Mark rows of the directory that is shown, by their names."""
    view = view_of(pilot)
    for name in names:
        assert view.left.go_to(view.place.path + b"/" + name if view.place.path else name), name
        await press(pilot, "space")


def marked(pilot: Pilot[str]) -> list[bytes]:
    """Paths of the rows that are marked as a whole."""
    left = view_of(pilot).left
    return [row.path for row in left.rows if left.mark_of(row) == "*"]


def contents(root: Path) -> dict[bytes, bytes | None]:
    """Every path below, with its bytes; None for directories."""
    top = os.fsencode(root)
    found: dict[bytes, bytes | None] = {}
    for folder, directories, names in os.walk(top):
        for name in directories:
            found[os.path.relpath(os.path.join(folder, name), top)] = None
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, top)] = Path(os.fsdecode(path)).read_bytes()
    return found
