"""The first two rows (where am I, which views are there) and the last one (which keys are there)."""

import time

from holdfast_tui import keymap
from holdfast_tui.render.clean import clean, fit
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.strips import Part, both_ends, length_of

TABS = (
    ("dashboard", "Dash"),
    ("snapshots", "Snaps"),
    ("restore", "Restore"),
    ("tasks", "Tasks"),
    ("dedup", "Dedup"),
    ("verify", "Verify"),
    ("schedules", "Sched"),
    ("stores", "Stores"),
)
_WIDE = 100


class TopBar(LinePane):
    """Host, crumbs, counters, mode, clock; below them the views with their numbers."""

    DEFAULT_CSS = """
    TopBar { height: 2; }
    """

    def update(self) -> None:
        """Draw again from the app's facts; lines that did not change are not painted."""
        self.set_lines([self._facts(), self._tabs()])

    def _facts(self) -> list[Part]:
        hold = self.hold
        width = self.size.width
        running = len(hold.board.running)
        failed = len(hold.board.failed_since(hold.week_ago_s))
        late = sum(bool(job.late) for job in hold.job_board.jobs)
        right: list[Part] = []
        for number, word, style in (
            (running, "running", "run"),
            (failed, "FAILED", "bad"),
            (late, "late", "warn"),
        ):
            if number:
                right.append((f"{number} {word}  ", style))
        if hold.is_paused:
            right.append(("PAUSED  ", "warn"))
        refusal = hold.refusal
        right.append((" READ-ONLY " if refusal else "rw", "badge" if refusal else "dim"))
        right.append((time.strftime("  %H:%M ", time.localtime(self.now_s)), "dim"))
        crumbs = clean(hold.crumbs())
        left: list[Part] = [(" holdfast ", "title"), (f" {hold.host_name}", "strong")]
        if crumbs:
            room = width - length_of(left) - length_of(right) - 4
            shown = crumbs if len(crumbs) <= room else fit(crumbs, max(0, room))
            left.append((f" {self.look.arrow} {shown}", "text"))
        return both_ends(left, right, width)

    def _tabs(self) -> list[Part]:
        current = self.hold.view_name
        wide = self.size.width >= _WIDE
        parts: list[Part] = []
        for number, (name, title) in enumerate(TABS, start=1):
            if name == current or (current == "detail" and name == "snapshots"):
                if self.look.theme in ("ansi", "mono"):
                    parts.append((f"[{number} {title}]", "strong"))
                else:
                    parts.append((f" {number} {title} ", "tab"))
            else:
                parts.append((f" {number}", "key"))
                parts.append((f" {title} ", "dim"))
        right: list[Part] = []
        if wide:
            right = [(":", "key"), (" command   ", "dim"), ("?", "key"), (" help ", "dim")]
        return both_ends(parts, right, self.size.width)


class KeyBar(LinePane):
    """Keys that do something here, most important first; what has no room is on the help page."""

    DEFAULT_CSS = """
    KeyBar { height: 1; }
    """

    def update(self) -> None:
        hold = self.hold
        view = hold.view
        width = self.size.width
        parts: list[Part] = []
        if hold.refusal:
            parts.append((" READ-ONLY ", "badge"))
        keys = [
            key
            for key in keymap.bar(hold.gate, view.tables() if view is not None else ("app",))
            if view is None or not view.blocked(key)
        ]
        last = [(" ?", "key"), (" help", "dim")]
        for key in keys:
            if key.id == "app.help":
                continue
            more: list[Part] = [(f" {keymap.text_of(key)}", "key"), (f" {key.label} ", "dim")]
            if length_of(parts) + length_of(more) + length_of(last) > width:
                break
            parts += more
        self.set_lines([[*parts, *last]])
