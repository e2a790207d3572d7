"""The dashboard: stores, running jobs, what needs attention, results per day, next runs."""

import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.events import Resize

from holdfast_tui import keymap
from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.overview import Attention, attention, next_runs, quiet_since, strips
from holdfast_tui.model.request import Request, Target, run_job
from holdfast_tui.model.rows import Column
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import Task, TaskBoard
from holdfast_tui.model.throughput import Throughput
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean, fit
from holdfast_tui.render.look import STYLE_OF_MARK, Mark
from holdfast_tui.screens import cells
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line, Part, both_ends

_GRAPH_ROWS = 4
_BAR = 14


class DashboardView(View):
    """Facts of all stores and tasks on one screen; enter opens what a row is about."""

    VIEW: ClassVar[str] = "dashboard"
    TITLE: ClassVar[str] = "Dashboard"
    HELP: ClassVar[str] = (
        "Every store with its space, deduplication and verification; what runs now; what needs\n"
        "attention, worst first, with the key that deals with it; results per day; next runs.\n"
        "enter on a row goes to the screen where it is dealt with, esc comes back."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("dashboard")
    DEFAULT_CSS = """
    DashboardView #bottom { height: auto; }
    DashboardView #days { width: 3fr; height: 100%; }
    DashboardView #next { width: 2fr; height: 100%; }
    DashboardView #speed, DashboardView #recent { display: none; }
    DashboardView.-roomy #speed, DashboardView.-tall #recent { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._throughput = Throughput()
        self._items: list[Attention] = []
        self._is_due = False

    def compose(self) -> ComposeResult:
        yield RowList(
            self._store_columns(),
            key_of=lambda facts: facts.name,
            is_problem=lambda facts: bool(facts.error or facts.failed),
            id="stores",
            classes="pane",
        )
        yield RowList(
            self._running_columns(),
            key_of=lambda task: task.upid,
            has_head=False,
            id="running",
            classes="pane",
        )
        yield RowList(
            self._attention_columns(),
            key_of=lambda item: item.name,
            is_problem=lambda item: item.is_bad,
            has_head=False,
            id="attention",
            classes="pane",
        )
        yield RowList(
            self._recent_columns(),
            key_of=lambda task: task.upid,
            is_problem=lambda task: task.is_problem,
            has_head=False,
            id="recent",
            classes="pane",
        )
        yield LinePane(id="speed", classes="pane")
        with Horizontal(id="bottom"):
            yield LinePane(id="days", classes="pane")
            yield LinePane(id="next", classes="pane")

    # Columns --------------------------------------------------------------------------------------

    def _store_columns(self) -> list[Column[StoreFacts]]:
        return [
            Column(title="name", cell=lambda f: (f.name, "strong"), width_min=8, share=2),
            Column(title="state", cell=self._state_cell, width=10),
            Column(title="used", cell=self._bar_cell, width=_BAR + 5),
            Column(title="of", cell=lambda f: fmt.size(f.total), width=8, right=True, rank=6),
            Column(title="free", cell=lambda f: fmt.size(f.free), width=8, right=True, rank=3),
            Column(title="dedup", cell=lambda f: fmt.factor(f.dedup), width=6, right=True, rank=1),
            Column(title="snaps", cell=self._count_cell, width=6, right=True, rank=2),
            Column(
                title="last gc", cell=lambda f: self._ago(f.last_gc), width=7, right=True, rank=4
            ),
            Column(
                title="checked",
                cell=lambda f: self._ago(f.last_verify),
                width=7,
                right=True,
                rank=5,
            ),
            Column(title="verify", cell=self._verify_cell, width=14),
        ]

    def _state_cell(self, facts: StoreFacts) -> tuple[str, str]:
        if facts.error:
            return cells.marked(self.look, Mark.BAD, "error")
        if not facts.path:
            return cells.marked(self.look, Mark.WAIT, "reading")
        if facts.refusal:
            return cells.marked(self.look, Mark.WARN, "no write")
        return cells.marked(self.look, Mark.OK, "ok")

    def _bar_cell(self, facts: StoreFacts) -> list[tuple[str, str]]:
        if facts.used_part is None:
            return [("-", "dim")]
        bar = cells.usage_bar(self.look, facts.used_part, _BAR)
        return [*bar, (f" {fmt.percent(facts.used_part)}", "text")]

    @staticmethod
    def _count_cell(facts: StoreFacts) -> str:
        return fmt.count(facts.snapshots)

    def _verify_cell(self, facts: StoreFacts) -> list[tuple[str, str]]:
        if facts.snapshots is None:
            return [("reading" if facts.path and not facts.error else "-", "dim")]
        parts: list[tuple[str, str]] = []
        for number, mark in (
            (facts.failed, Mark.BAD),
            (facts.damaged, Mark.LOST),
            (facts.old, Mark.OLD),
            (facts.never, Mark.NONE),
        ):
            if number:
                parts.append((f"{self.look.mark(mark)} {number:,}  ", STYLE_OF_MARK[mark]))
        if not parts:
            none = facts.snapshots == 0
            return [("-", "dim")] if none else [cells.marked(self.look, Mark.OK, "all ok")]
        return parts

    def _running_columns(self) -> list[Column[Task]]:
        return [
            Column(title="", cell=lambda t: cells.marked(self.look, t.mark, t.kind), width=9),
            Column(title="", cell=lambda t: t.subject, share=3, width_min=14),
            Column(title="", cell=lambda t: cells.progress_bar(self.look, t, 18), width=18),
            Column(title="", cell=cells.percent, width=4, right=True),
            Column(title="", cell=cells.speed, width=10, right=True),
            Column(title="", cell=_new, width=14, rank=2),
            Column(title="", cell=cells.amount, width=21, rank=3),
            Column(title="", cell=cells.left, width=11, right=True, rank=1),
        ]

    def _attention_columns(self) -> list[Column[Attention]]:
        return [
            Column(title="", cell=lambda i: cells.marked(self.look, i.mark, i.word), width=12),
            Column(title="", cell=lambda i: i.what, width_min=14, share=2),
            Column(title="", cell=lambda i: i.text, width_min=22, share=4),
            Column(
                title="", cell=lambda i: (self._ago(i.when_s), "dim"), width=6, right=True, rank=1
            ),
            Column(title="", cell=self._way_cell, width=10, rank=2),
        ]

    def _ago(self, moment_s: float | None) -> str:
        return fmt.age(self.now_s - moment_s) if moment_s else "-"

    def _way_cell(self, item: Attention) -> tuple[str, str]:
        """The key that deals with it; where nothing may be changed a capital would be a lie."""
        off = self.refusal() and item.key[:1].isupper()
        return ("enter" if off else item.key, "key")

    def _recent_columns(self) -> list[Column[Task]]:
        return [
            Column(title="", cell=lambda t: cells.marked(self.look, t.mark, t.kind), width=12),
            Column(title="", cell=lambda t: t.subject, width_min=14, share=2),
            Column(title="", cell=_outcome, width_min=20, share=4),
            Column(title="", cell=lambda t: (self._ago(t.ended), "dim"), width=6, right=True),
            Column(title="", cell=lambda _: ("enter log", "key"), width=10, rank=2),
        ]

    # Facts ----------------------------------------------------------------------------------------

    def shown(self) -> None:
        self._rows("running").set_empty("No job runs. B backs up now.")
        self._rows("recent").set_empty("No task has ended yet.")
        self._rows("stores").set_empty("reading the configuration ...")
        self._show_all()

    def stores_seen(self, stores: Sequence[StoreFacts]) -> None:
        rows = self._rows("stores")
        if not stores and self.hold.has_looked_for_stores:
            rows.set_empty(
                "No store is configured.",
                "`holdfast init PATH` makes one; 8 shows more.",
            )
        rows.set_rows(list(stores))
        self._show_all()

    def tasks_seen(self, board: TaskBoard) -> None:
        self._throughput.add(board)
        self._rows("running").set_rows(board.running)
        self._show_all()

    def jobs_seen(self, board: JobBoard) -> None:
        del board
        self._show_all()

    def on_resize(self, event: Resize) -> None:
        del event
        self.call_after_refresh(self._show_all)

    def _rows(self, name: str) -> RowList[object]:
        return self.query_one(f"#{name}", RowList)

    def _show_all(self) -> None:
        """Once for all facts that come together."""
        if self.is_shown and not self._is_due:
            self._is_due = True
            self.call_later(self._show_now)

    def _show_now(self) -> None:
        self._is_due = False
        if not self.is_shown:
            return
        hold = self.hold
        now_s = self.now_s
        board, jobs = hold.board, hold.job_board
        stores = list(hold.store_facts.values())
        self._items = attention(stores, board, jobs, now_s=now_s, since_s=hold.week_ago_s)
        rows = self._rows("attention")
        if board.read_at:
            rows.set_empty("Nothing needs attention.", quiet_since(board, now_s), style="good")
        rows.set_rows(self._items)
        new = sum(1 for item in self._items if item.when_s > hold.last_visit_s > 0 and item.is_bad)
        note = f"{new} new since your last visit" if new else ""
        self._rows("stores").title(f"Stores ({len(stores)})", hold.watch_note)
        self._rows("running").title(f"Running ({len(board.running)})")
        rows.title(f"Needs attention ({len(self._items)})", note)
        ended = [task for task in board.tasks if not task.is_running]
        recent = self._rows("recent")
        recent.set_rows(ended)
        recent.title("Recent tasks")
        self._arrange()
        self._show_days()
        self._show_next()
        self._show_speed()

    # Heights --------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Give each pane what it needs, the most important ones first; the rest is for history."""
        height = self.size.height
        if not height:
            return
        frame = 2 if self.screen.has_class("-h30") and self.look.unicode else 1
        needs = {
            "stores": max(2, len(self._rows("stores").rows) + 1),
            "running": max(1, len(self.hold.board.running)),
            "attention": max(2, len(self._items)),
            "bottom": 6 if self.screen.has_class("-h30") else 5,
        }
        least = {"stores": 2, "running": 1, "attention": min(4, needs["attention"]), "bottom": 3}
        left = height - len(needs) * frame
        while sum(needs.values()) > left:
            name = max(needs, key=lambda each: needs[each] - least[each])
            if needs[name] <= least[name]:
                break
            needs[name] -= 1
        spare = left - sum(needs.values())
        graph = _GRAPH_ROWS + frame if self._throughput.values else 0
        self.set_class(bool(graph) and spare >= graph, "-roomy")
        spare -= graph if self.has_class("-roomy") else 0
        self.set_class(spare > frame + 1, "-tall")
        if self.has_class("-tall"):
            needs["recent"] = spare - frame
        else:
            needs["attention"] += spare
        needs["speed"] = _GRAPH_ROWS
        for name, rows in needs.items():
            wanted = rows + frame
            styles = self.query_one(f"#{name}").styles
            if styles.height is None or styles.height.value != wanted:
                styles.height = wanted

    # Lower panes ----------------------------------------------------------------------------------

    def _show_days(self) -> None:
        pane = self.query_one("#days", LinePane)
        width = pane.content_size.width
        if width < 20:  # noqa: PLR2004  # no room for a strip
            return
        days = max(7, min(30, width - 30))
        lines: list[Line] = []
        today = datetime.fromtimestamp(self.now_s).date()  # noqa: DTZ006  # local days
        for strip in strips(self.hold.board, days=days, today=today):
            parts: list[Part] = [(f" {fit(clean(strip.kind), 10)} ", "text")]
            for mark in strip.days:
                shown = self.look.dot if mark is None else self.look.mark(mark)
                shown = "." if shown == "|" else shown
                parts.append((shown, "dim" if mark is None else STYLE_OF_MARK[mark]))
            tail: list[Part] = [(f"{strip.good:5}{self.look.mark(Mark.OK)}", "good")]
            for number, mark in ((strip.warned, Mark.WARN), (strip.bad, Mark.BAD)):
                text = f"{number:4}{self.look.mark(mark)}" if number else " " * 5
                tail.append((text, STYLE_OF_MARK[mark]))
            lines.append(both_ends(parts, tail, width))
        if not lines:
            lines = [[(" No task has ended in this time.", "dim")]]
        pane.name_pane(f"Worst result per day, {days} days")
        pane.set_lines(_cut(lines, pane.content_size.height))

    def _show_next(self) -> None:
        pane = self.query_one("#next", LinePane)
        height, width = pane.content_size.height, pane.content_size.width
        now_s = self.now_s
        lines: list[Line] = []
        for run in next_runs(self.hold.job_board, limit=max(1, height)):
            due = run.at_s - now_s
            when = "now" if due <= 0 else f"in {fmt.age(due)}"
            left: list[Part] = [
                (f" {datetime.fromtimestamp(run.at_s):%a %H:%M}  ", "text"),  # noqa: DTZ006
                (fit(run.kind, 8), "dim"),
                (clean(run.name), "strong"),
            ]
            lines.append(both_ends(left, [(f"{when} ", "text")], width))
        if not lines:
            text = self.hold.job_board.error or "No schedule. A on 7 adds one."
            lines = [[(f" {clean(text)}", "dim")]]
        pane.name_pane("Next runs")
        pane.set_lines(lines)

    def _show_speed(self) -> None:
        if not self.has_class("-roomy"):
            return
        pane = self.query_one("#speed", LinePane)
        width = pane.content_size.width
        peak = f"peak {fmt.rate(self._throughput.peak)}"
        pane.name_pane(f"Throughput {fmt.rate(self._throughput.now) or '0 B/s'}", peak)
        graph = self.look.graph(list(self._throughput.values), max(1, width - 2), _GRAPH_ROWS)
        pane.set_lines([[(" ", "text"), (line, "graph")] for line in graph])

    # Going and doing ------------------------------------------------------------------------------

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        row = message.row
        if isinstance(row, StoreFacts):
            name = "stores" if row.error else "snapshots"
            self.hold.go(name, Target(store=row.name))
        elif isinstance(row, Task):
            self.hold.go("tasks", Target(upid=row.upid))
        elif isinstance(row, Attention):
            self.hold.go(row.view, row.target)

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        if isinstance(message.row, StoreFacts):
            self.store_name = message.row.name

    def crumbs(self) -> str:
        return "dashboard"

    def twin(self) -> Sequence[str]:
        row = self._focused_row()
        if isinstance(row, Task):
            return ("task", "show", row.upid)
        if isinstance(row, StoreFacts):
            return ("stats",)
        return ("task", "list")

    def twin_store(self) -> str | None:
        return self.store_name if isinstance(self._focused_row(), StoreFacts) else None

    def copy_text(self) -> str:
        row = self._focused_row()
        if isinstance(row, Task):
            return row.upid
        return row.path if isinstance(row, StoreFacts) else ""

    def _focused_row(self) -> object:
        focused = self.hold.focused
        return focused.current if isinstance(focused, RowList) else None

    def _with_store(self, then: Callable[[StoreFacts], None]) -> None:
        facts = self.hold.store_facts.get(self.store_name)
        if facts is None:
            self.say("there is no store yet", "warn")
        else:
            then(facts)

    def action_verify(self) -> None:
        """Verify the store under the cursor."""
        self._with_store(
            lambda facts: self.do(
                Request(
                    title=f"Verify {facts.name}",
                    store=facts.name,
                    words=("verify",),
                    facts=(
                        f"Reads {fmt.size(facts.stored)} in {fmt.count(facts.chunks)} chunks again"
                        if facts.stored
                        else "Reads every chunk of the store again",
                        f"and checks {fmt.count(facts.snapshots)} snapshots. Backups go on.",
                    ),
                )
            )
        )

    def action_collect(self) -> None:
        """Collect garbage in the store under the cursor."""
        self._with_store(
            lambda facts: self.do(
                Request(
                    title=f"Collect garbage in {facts.name}",
                    store=facts.name,
                    words=("gc",),
                    facts=(
                        "Removes chunks that no snapshot names and nobody touched for a day.",
                        f"Last time: {fmt.size(facts.removed)} freed, {fmt.size(facts.pending)} too young.",
                    ),
                    word=facts.name,
                )
            )
        )

    def action_backup(self) -> None:
        """Run a configured backup job, or back up directories."""
        self.hold.background(self._backup, group="backup")

    async def _backup(self) -> None:
        from holdfast_tui.dialogs.picker import Choice, Picker

        jobs = [job for job in self.hold.job_board.jobs if job.settings.kind.value == "backup"]
        choices = [Choice(f"job {job.name}", job.name, "", job.target) for job in jobs]
        choices.append(Choice("paths", "directories ...", "", "back up paths you name now"))
        if len(choices) == 1:
            self._ask_paths()
            return
        answer = await self.hold.ask(Picker("Back up", choices))
        if answer == "paths":
            self._ask_paths()
        elif answer:
            self.do(run_job(answer.removeprefix("job ")))

    def _ask_paths(self) -> None:
        self.hold.ask_line("back up (paths, options)", self._back_up_paths)

    def _back_up_paths(self, text: str) -> None:
        try:
            specs = shlex.split(text)
        except ValueError as error:
            self.say(f"{text!r}: {error}", "warn")
            return
        if specs:
            self.do(
                Request(
                    title=f"Back up {' '.join(specs)}",
                    store=self.store_name or None,
                    words=("backup", *specs),
                    facts=("One snapshot of this host with these archives.",),
                )
            )


def _outcome(task: Task) -> tuple[str, str]:
    took = fmt.span(task.took_s(task.ended))
    about = f"{task.word}, {task.message}" if task.message else task.word
    return (f"{about} after {took}", "text" if task.word == "ok" else "warn")


def _new(task: Task) -> str:
    progress = task.progress
    return f"new {fmt.size(progress.new_bytes)}" if progress and progress.new_bytes else ""


def _cut(lines: list[Line], height: int) -> list[Line]:
    """At most `height` lines; what is hidden is counted."""
    if len(lines) <= height or height < 1:
        return lines
    return [*lines[: height - 1], [(f" (+{len(lines) - height + 1} more)", "dim")]]
