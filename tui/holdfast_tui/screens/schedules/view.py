"""Schedules: configured jobs, their last and next runs, the next day and week; run, switch, edit."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.events import Resize

from holdfast_tui import keymap
from holdfast_tui.dialogs.picker import Choice, Picker
from holdfast_tui.model.calendar_ruler import crowded, ruler, week
from holdfast_tui.model.jobs import Job, JobBoard
from holdfast_tui.model.request import How, Request, Target
from holdfast_tui.model.rows import Column
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean, fit
from holdfast_tui.render.look import STYLE_OF_MARK, Mark
from holdfast_tui.screens import cells
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line, Part

if TYPE_CHECKING:
    from holdfast_tui.editing import Draft

_KINDS = ("backup", "verify", "gc", "prune", "command")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_STATE_MARKS = {"ok": Mark.OK, "warning": Mark.WARN, "failed": Mark.BAD, "stopped": Mark.STOP}


class SchedulesView(View):
    """A list of jobs, the next day as a ruler, and what is known of the job under the cursor."""

    VIEW: ClassVar[str] = "schedules"
    TITLE: ClassVar[str] = "Schedules"
    HELP: ClassVar[str] = (
        "Jobs of the configuration: when they run, how the last run ended, what is overdue.\n"
        "They are started by `holdfast scheduler` or by systemd timers; T starts one now.\n"
        "E opens the configuration in $EDITOR; it counts only when it has no mistake."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("schedules")
    DEFAULT_CSS = """
    SchedulesView #jobs { height: 1fr; }
    SchedulesView #ruler { height: auto; }
    SchedulesView #lower { height: auto; max-height: 50%; }
    SchedulesView #job { width: 1fr; height: auto; }
    SchedulesView #week { width: 1fr; height: 100%; display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._utc = False
        self._wanted = ""

    def compose(self) -> ComposeResult:
        yield RowList(
            self._columns(),
            key_of=lambda job: job.name,
            facts_of=lambda job: dict(job.facts),
            is_problem=lambda job: bool(job.late) or job.mark is Mark.BAD,
            id="jobs",
            classes="pane",
        )
        yield LinePane(id="ruler", classes="pane -auto")
        with Horizontal(id="lower"):
            yield LinePane(id="job", classes="pane -auto")
            yield LinePane(id="week", classes="pane")

    def _columns(self) -> list[Column[Job]]:
        return [
            Column(title="on", cell=self._on_cell, width=3),
            Column(
                title="name",
                cell=lambda j: (j.name, "strong"),
                width_min=12,
                share=2,
                sort=lambda j: j.name,
            ),
            Column(
                title="kind",
                cell=lambda j: j.settings.kind.value,
                width=7,
                sort=lambda j: j.settings.kind.value,
            ),
            Column(title="target", cell=lambda j: j.target, width_min=16, share=3, rank=3),
            Column(title="when", cell=lambda j: j.when, width_min=12, share=2),
            Column(title="last", cell=self._last_cell, width=14, sort=lambda j: -j.state.finished),
            Column(
                title="next",
                cell=self._next_cell,
                width=12,
                right=True,
                sort=lambda j: j.upcoming[0] if j.upcoming else 1 << 40,
            ),
            Column(title="note", cell=self._note_cell, width_min=10, share=2, rank=2),
        ]

    @staticmethod
    def _on_cell(job: Job) -> tuple[str, str]:
        return ("on", "good") if job.settings.enabled else ("off", "dim")

    def _last_cell(self, job: Job) -> tuple[str, str]:
        if job.is_running:
            return cells.marked(self.look, Mark.RUN, "running")
        if not job.state.finished:
            return cells.marked(self.look, Mark.NONE, "never")
        when = fmt.clock(job.state.finished, self.now_s, utc=self._utc)[:11]
        mark = _STATE_MARKS.get(job.state.state, Mark.NONE)
        return cells.marked(self.look, mark, when)

    def _next_cell(self, job: Job) -> str:
        if not job.settings.enabled or not job.upcoming:
            return "-"
        return fmt.moment(job.upcoming[0], utc=self._utc)[5:]

    @staticmethod
    def _note_cell(job: Job) -> tuple[str, str]:
        if job.late:
            return job.late[0], "warn"
        if job.state.failures > 1:
            return f"{job.state.failures} failures in a row", "bad"
        if job.state.message and job.mark is Mark.BAD:
            return job.state.message, "bad"
        return ("a run is owed", "run") if job.is_owed and not job.is_running else ("", "dim")

    # Facts ----------------------------------------------------------------------------------------

    @property
    def _rows(self) -> RowList[Job]:
        return self.query_one("#jobs", RowList)

    def jobs_seen(self, board: JobBoard) -> None:
        rows = self._rows
        if board.error:
            rows.set_error(board.error, board.hint or "E opens the configuration.")
        else:
            rows.set_empty(
                "No job is configured.", "A adds one; `holdfast job list` shows them too."
            )
            rows.set_rows(board.jobs)
        if self._wanted and rows.go_to(self._wanted):
            self._wanted = ""
        zone = "UTC" if self._utc else time.strftime("%Z")
        rows.title(f"Schedules ({len(board.jobs)})", f"times in {zone} (c)")
        self._show_ruler(board)
        self._show_job()

    def open_target(self, target: Target) -> None:
        if target.job and not self._rows.go_to(target.job):
            self._wanted = target.job

    def on_resize(self, event: Resize) -> None:
        del event
        self.call_after_refresh(self.jobs_seen, self.hold.job_board)

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        self._show_job()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        job = message.row
        if isinstance(job, Job):
            if job.state.upid:
                self.hold.go("tasks", Target(upid=job.state.upid))
            else:
                self.say("it has not run yet; T runs it now")

    def _show_ruler(self, board: JobBoard) -> None:
        pane = self.query_one("#ruler", LinePane)
        hours = ruler(board.jobs, self.now_s, utc=self._utc)
        width = max(2, (pane.content_size.width or self.size.width - 2) // len(hours))
        labels: list[Part] = [(" ", "dim")]
        letters: list[Part] = [(" ", "text")]
        for hour in hours:
            labels.append((fit(hour.label, width), "dim"))
            shown = hour.letters if len(hour.letters) <= width else f"{len(hour.letters)}!"
            letters.append(
                (
                    fit(shown, width) if shown else fit(self.look.dot, width),
                    "key" if shown else "dim",
                )
            )
        both = crowded(board.jobs, self.now_s)
        pane.name_pane(
            "Next 24 hours", f"together: {clean(both[0])}" if both else "b v p g c: kind"
        )
        pane.set_lines([labels, letters])

    def _show_job(self) -> None:
        pane = self.query_one("#job", LinePane)
        job = self._rows.current
        if job is None:
            pane.name_pane("Job")
            pane.set_lines([[(" No job under the cursor.", "dim")]])
            return
        pane.name_pane(f"Job {job.name}")
        pane.set_lines(self._job_lines(job))
        lines: list[Line] = []
        for day, starts in week([job], self.now_s, utc=self._utc):
            text = "  ".join(start.partition(" ")[0] for start in starts) or self.look.dot
            lines.append([(f" {day:8}", "dim"), (text, "text")])
        calendar = self.query_one("#week", LinePane)
        calendar.name_pane("Its next seven days")
        calendar.set_lines(lines)

    def _job_lines(self, job: Job) -> list[Line]:
        settings, state = job.settings, job.state
        rows: list[tuple[str, str, str]] = [("does", f"{settings.kind.value} {job.target}", "text")]
        keep = [
            f"{name} {count}"
            for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
            if (count := getattr(settings.keep, name)) is not None
        ]
        if keep:
            rows.append(("keeps", ", ".join(keep), "text"))
        rows.append(("when", job.when, "text"))
        nexts = ", ".join(fmt.moment(at, utc=self._utc)[5:] for at in job.upcoming[:4])
        rows.append(("next", nexts or "never by itself", "text"))
        if state.finished:
            mark = _STATE_MARKS.get(state.state, Mark.NONE)
            about = f", {state.message}" if state.message else ""
            text = f"{self.look.mark(mark)} {state.state}{about} after {fmt.span(state.duration_s)}"
            rows.append(("last", text, STYLE_OF_MARK[mark]))
        rows += [("late", sentence, "warn") for sentence in job.late]
        return [[(f" {name:8}", "dim"), (clean(text), style)] for name, text, style in rows]

    # Keys -----------------------------------------------------------------------------------------

    def crumbs(self) -> str:
        return "schedules"

    def refusal(self) -> str:
        """Jobs belong to the configuration, not to one store."""
        return self.hold.gate.read_only

    def twin(self) -> Sequence[str]:
        job = self._rows.current
        return ("job", "list") if job is None else ("job", "show", job.name)

    def twin_store(self) -> None:
        return None

    def copy_text(self) -> str:
        job = self._rows.current
        return "" if job is None else job.name

    def action_utc(self) -> None:
        """UTC or local times."""
        self._utc = not self._utc
        self.jobs_seen(self.hold.job_board)
        self._rows.refresh()

    def _job(self) -> Job | None:
        job = self._rows.current
        if job is None:
            self.say("there is no job here", "warn")
        return job

    def action_run_now(self) -> None:
        """Run the job now."""
        job = self._job()
        if job is not None:
            self.do(
                Request(
                    title=f"Run {job.name} now",
                    words=("job", "run", job.name, "--detach"),
                    how=How.SHORT,
                    facts=(f"{job.settings.kind.value} {job.target}", f"scheduled: {job.when}"),
                    done=f"{job.name} has been started, safe to close",
                )
            )

    def action_switch(self) -> None:
        """Let the scheduler start it, or not."""
        job = self._job()
        if job is not None:
            verb = "disable" if job.settings.enabled else "enable"
            self.do(
                Request(
                    title=f"{verb.capitalize()} {job.name}",
                    words=("job", verb, job.name),
                    how=How.SHORT,
                    confirm=False,
                    done=f"{job.name} is {verb}d; O turns it back",
                )
            )

    def action_edit(self) -> None:
        """The configuration in $EDITOR, at this job."""
        job = self._rows.current
        self._edit(at="" if job is None else f"[jobs.{job.name}]")

    def action_add(self) -> None:
        """A new job, in $EDITOR."""
        self.hold.background(self._add, group="add")

    async def _add(self) -> None:
        about = {
            "backup": "one snapshot of directories and images",
            "verify": "read everything again and check it",
            "gc": "remove chunks that no snapshot needs",
            "prune": "forget snapshots by a policy",
            "command": "any other holdfast command",
        }
        choices = [Choice(kind, kind, "", about[kind]) for kind in _KINDS]
        kind = await self.hold.ask(Picker("Add a job of which kind?", choices))
        if kind:
            self.hold.ask_line("name of the new job", lambda name: self._add_named(kind, name))

    def _add_named(self, kind: str, name: str) -> None:
        if not _NAME.fullmatch(name) or name in self.hold.job_board.by_name:
            self.say(
                f"{name!r} cannot name a new job: letters, digits, . _ -, and not yet used", "warn"
            )
            return
        from holdfast_tui.editing import TEMPLATE

        stores = list(self.hold.store_facts)
        store = f'store = "{stores[0]}"\n' if stores else ""
        sources = 'sources = ["etc.pxar:/etc"]\n' if kind == "backup" else ""
        keep = "keep-daily = 7\nkeep-weekly = 4\n" if kind == "prune" else ""
        command = 'command = ["doctor"]\n' if kind == "command" else ""
        added = TEMPLATE.format(name=name, kind=kind, store=store, sources=sources + keep + command)
        self._edit(at=f"[jobs.{name}]", added=added)

    def _edit(self, *, at: str = "", added: str = "") -> None:
        if self.hold.gate.read_only:
            return
        self.hold.background(partial(self._edit_until_right, at, added), group="edit")

    async def _edit_until_right(self, at: str, added: str) -> None:
        from holdfast.errors import HoldfastError
        from holdfast_tui.dialogs.confirm import Confirm
        from holdfast_tui.editing import Draft

        try:
            draft = await asyncio.to_thread(
                Draft.begin, self.hold.options.config, at=at, added=added
            )
            draft.command()
        except (HoldfastError, OSError) as error:
            self.hold.say_error(error)
            return
        while True:
            if not self._run_editor(draft):
                draft.throw_away()
                return
            if not await asyncio.to_thread(lambda: draft.is_changed):
                self.say("nothing was changed")
                draft.throw_away()
                return
            complaint = await asyncio.to_thread(draft.complaint)
            if not complaint:
                break
            again = Request(
                title="The configuration has a mistake",
                words=("job", "list"),
                facts=(complaint, "enter edits again, esc leaves the old one as it was"),
            )
            if not await self.hold.ask(Confirm(again, "holdfast job list")):
                self.say("the configuration was left as it was")
                draft.throw_away()
                return
        try:
            await asyncio.to_thread(draft.put_in_place)
        except HoldfastError as error:
            self.hold.say_error(error)
            return
        self.say("the configuration was checked and saved", "good")
        self.hold.look_soon()

    def _run_editor(self, draft: "Draft") -> bool:
        """The terminal belongs to the editor until it ends; False when it cannot be lent."""
        try:
            with self.hold.suspend():
                draft.edit()
        except SuspendNotSupported:
            self.say("this terminal cannot be lent to an editor", "warn")
            return False
        return True

    def action_prune(self) -> None:
        """What the job's retention would remove; then, if wanted, remove it."""
        job = self._job()
        if job is None:
            return
        keep = job.settings.keep
        options = [
            word
            for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
            if (count := getattr(keep, name)) is not None
            for word in (f"--keep-{name}", str(count))
        ]
        if not options:
            self.say(f"{job.name} keeps everything: it has no keep-... rule", "warn")
            return
        space = ("--ns", job.settings.ns) if job.settings.ns else ()
        group = (job.settings.group,) if job.settings.group else ()
        self.hold.background(
            partial(self._preview, job, (*space, "prune", *group, *options)),
            group="prune",
            exclusive=True,
        )

    async def _preview(self, job: Job, words: tuple[str, ...]) -> None:
        self.say("looking what would go ...")
        hold = self.hold
        store = await asyncio.to_thread(hold.store_word, job.settings.store)
        outcome = await asyncio.to_thread(hold.launch, How.SHORT, store, ("--json", *words, "-n"))
        try:
            decisions = json.loads(outcome.out)
        except ValueError:
            self.say(outcome.said or "prune gave no answer", "bad")
            return
        gone = [each for each in decisions if not each["keep"]]
        freed = sum(each.get("freed_bytes") or 0 for each in gone)
        kept = len(decisions) - len(gone)
        facts = [
            f"keeps {kept:,}, removes {fmt.plural(len(gone), 'snapshot')}",
            f"frees about {fmt.size(freed)} at the next gc",
            *(f"- {each['snapshot']}" for each in gone),
        ]
        if not gone:
            self.say(f"nothing to prune: all {kept:,} snapshots are kept by a rule")
            return
        self.do(
            Request(
                title=f"Prune by the rules of {job.name}",
                store=job.settings.store,
                words=(*words, "--yes"),
                facts=tuple(facts),
                word=str(len(gone)),
            )
        )
