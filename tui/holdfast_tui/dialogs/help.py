"""The help page of a view: what it shows, its keys, the marks; made from the registry of keys."""

from holdfast_tui import keymap
from holdfast_tui.dialogs.text import TextDialog
from holdfast_tui.render.look import STYLE_OF_MARK, Look, Mark
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.strips import Line

_HEADS = {"app": "Everywhere", "list": "Lists", "marks": "Marking rows"}
_MARKS = (
    (Mark.OK, "good, verified, finished"),
    (Mark.BAD, "failed, damaged: somebody must act"),
    (Mark.WARN, "with warnings, late, unfinished: look soon"),
    (Mark.OLD, "good, but verified too long ago"),
    (Mark.NONE, "never done, or does not apply"),
    (Mark.RUN, "running"),
    (Mark.WAIT, "waiting or paused"),
    (Mark.STOP, "stopped on request"),
    (Mark.LOST, "lost: its process is gone, or it cannot be read"),
)


def help_lines(view: View, gate: keymap.Gate, look: Look) -> list[Line]:
    """All lines of the page."""
    lines: list[Line] = [[(text, "text")] for text in view.HELP.strip().splitlines()]
    focused = view.hold.focused
    own = getattr(focused, "HELP", "") if focused is not view else ""
    if own and isinstance(own, str):
        lines += [[], *([(text, "dim")] for text in own.strip().splitlines())]
    for table in (view.VIEW, *(name for name in view.tables() if name != view.VIEW)):
        keys = [key for key in keymap.TABLES[table] if gate.allows(key) and not view.blocked(key)]
        if not keys:
            continue
        lines += [[], [(_HEADS.get(table, view.TITLE), "title")]]
        for key in keys:
            shown = key.shown if key.shown and "," not in key.keys else keymap.all_texts(key)
            style = "warn" if key.mutates else "key"
            lines.append([(f"  {shown:<14}", style), (key.help, "text")])
    lines += [[], [("Marks", "title")]]
    for mark, meaning in _MARKS:
        lines.append([(f"  {look.mark(mark):<14}", STYLE_OF_MARK[mark]), (meaning, "text")])
    if gate.read_only:
        lines += [[], [(f"Nothing can be changed: {gate.read_only}.", "warn")]]
    else:
        lines += [[], [("Capitals change something, small letters look.", "dim")]]
    return lines


class Help(TextDialog):
    """The page."""

    def __init__(self, view: View, gate: keymap.Gate, look: Look) -> None:
        super().__init__(f"Help: {view.TITLE}", help_lines(view, gate, look))
