"""Tasks: what runs and what ran, with the log of the one under the cursor as it grows."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast.upid import Upid
from holdfast_tui import keymap
from holdfast_tui.model.request import How, Request, Target
from holdfast_tui.model.rows import Column
from holdfast_tui.model.tasks import Task, TaskBoard
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.screens import cells
from holdfast_tui.screens.tasks.again import words_again
from holdfast_tui.screens.tasks.logtail import LogTail
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.logview import LogView
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line, Part


class TasksView(View):
    """A list above, the log of its row below, progress at the bottom while it runs."""

    VIEW: ClassVar[str] = "tasks"
    TITLE: ClassVar[str] = "Tasks"
    HELP: ClassVar[str] = (
        "Every task of this host's journal, whoever started it, newest first, and its log.\n"
        "/ narrows: failed, kind:verify, store:main, state:running, by:root, since:2d, -gc.\n"
        "Closing this program stops nothing: K stops a job, P lets it sleep, R runs it again."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("tasks")
    DEFAULT_CSS = """
    TasksView #tasks { height: 2fr; min-height: 6; }
    TasksView #log { height: 3fr; }
    TasksView #progress { height: auto; display: none; }
    TasksView.-running #progress { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._tail: LogTail | None = None
        self._shown_upid = ""
        self._wanted_upid = ""

    def compose(self) -> ComposeResult:
        yield RowList(
            self._columns(),
            key_of=lambda task: task.upid,
            facts_of=lambda task: dict(task.facts),
            age_of=lambda task: self.now_s - (task.ended or self.now_s),
            is_problem=lambda task: task.is_problem,
            id="tasks",
            classes="pane",
        )
        yield LogView(id="log", classes="pane")
        yield LinePane(id="progress", classes="pane -auto")

    def _columns(self) -> list[Column[Task]]:
        return [
            Column(
                title="state",
                cell=lambda t: cells.marked(self.look, t.mark, t.word),
                width=10,
                sort=lambda t: t.word,
            ),
            Column(title="kind", cell=lambda t: t.kind, width=10, sort=lambda t: t.kind),
            Column(
                title="target",
                cell=lambda t: t.subject,
                width_min=18,
                share=3,
                sort=lambda t: t.subject,
            ),
            Column(
                title="started",
                cell=lambda t: fmt.clock(t.started, self.now_s),
                width=11,
                right=True,
                sort=lambda t: -t.started,
            ),
            Column(
                title="took",
                cell=lambda t: fmt.span(t.took_s(self.hold.board.read_at)),
                width=8,
                right=True,
                sort=lambda t: t.took_s(self.now_s),
            ),
            Column(title="by", cell=lambda t: t.by, width=8, rank=3),
            Column(title="result", cell=self._result, width_min=14, share=3, rank=1),
        ]

    @staticmethod
    def _result(task: Task) -> tuple[str, str]:
        if not task.is_running:
            return task.message, "text"
        if task.progress is not None and task.progress.waiting_for:
            return task.progress.waiting_for, "dim"
        parts = [cells.percent(task).strip(), cells.left(task), cells.speed(task)]
        return "  ".join(part for part in parts if part), "run"

    # Facts ----------------------------------------------------------------------------------------

    def shown(self) -> None:
        self.set_interval_once()
        self._rows.set_empty("No task has run here yet.", "B on 1 backs up now.")

    def set_interval_once(self) -> None:
        """The log is read once a second while it grows and the view is shown."""
        if "_log_timer" not in self.__dict__:
            self.__dict__["_log_timer"] = self.set_interval(1.0, self._read_log)

    @property
    def _rows(self) -> RowList[Task]:
        return self.query_one("#tasks", RowList)

    @property
    def _log(self) -> LogView:
        return self.query_one(LogView)

    def tasks_seen(self, board: TaskBoard) -> None:
        rows = self._rows
        if board.error:
            rows.set_error(board.error, "The journal is below --state-dir.")
        else:
            rows.set_rows(board.tasks)
        if self._wanted_upid and rows.go_to(self._wanted_upid):
            self._wanted_upid = ""
        running = len(board.running)
        rows.title(f"Tasks ({len(board.tasks):,}, {running} running)", self.hold.watch_note)
        self._show_task()

    def open_target(self, target: Target) -> None:
        rows = self._rows
        if target.filter:
            rows.set_filter(target.filter)
        if target.upid:
            rows.set_filter("")
            if not rows.go_to(target.upid):
                self._wanted_upid = target.upid
            self._show_task()

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        self._show_task()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        self._log.focus()
        self.hold.action_zoom()

    def leave_state(self) -> bool:
        if self.has_class("-zoomed"):
            self.hold.action_zoom()
            self._rows.focus()
            return True
        return super().leave_state()

    def _show_task(self) -> None:
        task = self._rows.current
        if task is None:
            return
        self.store_name = task.store if task.store in self.hold.store_facts else ""
        if task.upid != self._shown_upid:
            self._shown_upid = task.upid
            path = self.hold.reader.journal.log_path(Upid.parse(task.upid))
            self._tail = LogTail(path)
            self._log.reset(f"Log: {task.kind} {clean(task.subject)}")
            self._read_log()
        self._show_progress(task)

    def _read_log(self) -> None:
        tail = self._tail
        if tail is None or not self.is_shown or self.hold.is_paused:
            return

        def then(lines: list[tuple[str, str]]) -> None:
            if tail is self._tail:
                self._log.append(lines)

        self.read(tail.more, then, group="log")

    def _show_progress(self, task: Task) -> None:
        self.set_class(task.is_running, "-running")
        if not task.is_running:
            return
        pane = self.query_one("#progress", LinePane)
        width = max(20, self.size.width - 4)
        progress = task.progress
        phase = clean(progress.phase) if progress is not None and progress.phase else task.kind
        first: list[Part] = [(" ", "text")]
        if progress is not None and progress.fraction is not None:
            first += cells.progress_bar(self.look, task, max(10, width // 3))
            first.append((f" {cells.percent(task)}  ", "strong"))
        facts = [cells.amount(task), cells.speed(task), cells.left(task)]
        if progress is not None and progress.new_bytes:
            facts.append(f"new {fmt.size(progress.new_bytes)}")
        if progress is not None and progress.dedup_share is not None and task.kind == "backup":
            facts.append(f"reuse {fmt.percent(progress.dedup_share).strip()}")
        first.append(("   ".join(fact for fact in facts if fact), "text"))
        item = clean(progress.item) if progress is not None else ""
        second: Line = [(f" {item}", "dim")]
        safe = f"process {task.pid} on {task.node}, its own session: safe to close"
        third: Line = [(f" {safe}", "dim")]
        pane.name_pane(f"Progress: {phase}")
        pane.set_lines([first, second, third] if self.size.height >= 20 else [first, second])  # noqa: PLR2004

    # Keys -----------------------------------------------------------------------------------------

    def crumbs(self) -> str:
        return "tasks"

    def twin(self) -> Sequence[str]:
        task = self._rows.current
        if task is None:
            return ("task", "list")
        follow = ("-f",) if task.is_running else ()
        return ("task", "log", *follow, task.upid)

    def twin_store(self) -> None:
        return None

    def copy_text(self) -> str:
        task = self._rows.current
        return "" if task is None else task.upid

    def refusal(self) -> str:
        """Stopping and pausing need no store; only a read-only run cannot."""
        return self.hold.gate.read_only

    def action_tail(self) -> None:
        """Follow the log, or stop following."""
        self._log.follow()

    def action_minute(self, step: int) -> None:
        """To the minute before or after."""
        self._log.go_by_minutes(step)

    def action_stop(self) -> None:
        """Ask the job to end."""
        task = self._running_task()
        if task is not None:
            self.do(
                Request(
                    title=f"Stop {task.kind} {task.subject}",
                    words=("task", "stop", task.upid),
                    how=How.SHORT,
                    facts=(
                        "It ends at the next safe place; what it stored already is kept.",
                        "Asked again, it ends at once.",
                    ),
                    done="asked to stop",
                )
            )

    def action_pause(self) -> None:
        """Let it sleep, or go on."""
        task = self._running_task()
        if task is not None:
            verb = "resume" if task.word == "paused" else "pause"
            self.do(
                Request(
                    title=f"{verb.capitalize()} {task.kind} {task.subject}",
                    words=("task", verb, task.upid),
                    how=How.SHORT,
                    confirm=verb == "pause",
                    facts=("A sleeping task keeps its locks until it goes on (P again).",),
                    done="it goes on" if verb == "resume" else "it sleeps; P lets it go on",
                )
            )

    def _running_task(self) -> Task | None:
        task = self._rows.current
        if task is None or not task.is_running:
            self.say("this task has ended already", "warn")
            return None
        return task

    def action_again(self) -> None:
        """Start the same work once more."""
        task = self._rows.current
        if task is None:
            return
        if task.is_running:
            self.say("this task is still running", "warn")
            return
        found = words_again(task, self.hold.job_board)
        if found is None:
            self.say(f"only its own command knows how to run {task.kind} again", "warn")
            return
        words, how, about = found
        store = task.store if task.store in self.hold.store_facts else None
        self.do(
            Request(
                title=f"Run {task.kind} {task.subject} again",
                store=None if words[0] == "job" else store,
                words=words,
                how=how,
                facts=(about,),
            )
        )
