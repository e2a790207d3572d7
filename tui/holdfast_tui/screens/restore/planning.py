"""From marks to a running restore: dry run, plan, confirmation, progress, going on later."""

import os
import threading
from dataclasses import dataclass, field, replace
from functools import partial

from holdfast.archive.restore_rules import Overwrite, RestoreOutcome
from holdfast.archive.restore_without import Without
from holdfast.errors import Stopped
from holdfast.host import files
from holdfast.jobs.journal import make_directories
from holdfast.operations.progress import NullProgress
from holdfast.operations.restore import RestoreRequest, restore
from holdfast_tui.archive_reader import ArchiveReader, HostFolder, key_of
from holdfast_tui.dialogs.checklist import Checklist
from holdfast_tui.dialogs.plan import PlanDialog
from holdfast_tui.model.files import FileRow, FileTable
from holdfast_tui.model.marks import PathMarks
from holdfast_tui.model.request import How, Request
from holdfast_tui.model.restore_plan import (
    POLICY_WORDS,
    Selection,
    is_system_path,
    paths_file,
    summary,
)
from holdfast_tui.model.rows import Column
from holdfast_tui.model.tasks import Task, TaskBoard
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import STYLE_OF_MARK
from holdfast_tui.screens.restore.place import Level
from holdfast_tui.screens.restore.shared import Shared
from holdfast_tui.widgets.strips import Line, Part

WITHOUT_WORDS = (
    (Without.OWNER, "owner", "owner and group: everything becomes yours"),
    (Without.SETID, "setid", "set-user and set-group bits, file capabilities"),
    (Without.DEVICES, "devices", "block and character devices"),
    (Without.XATTRS, "xattrs", "extended attributes"),
    (Without.ACLS, "acls", "access control lists"),
    (Without.FLAGS, "flags", "flags such as immutable"),
)
_STATE = "restore.plan"
_DAMAGED_SHOWN = 1000


@dataclass(slots=True)
class Plan:
    """What a dry run found.

    Attributes:
        rule: what the destination asks for.
        damaged: paths that will be missing, since their content is lost.
        image_bytes: of a disk image or blob.
    """

    selection: Selection
    rule: Overwrite
    host: HostFolder
    outcome: RestoreOutcome
    damaged: list[bytes] = field(default_factory=list)
    image_bytes: int | None = None
    target_exists: bool = False
    is_device: bool = False

    @property
    def replaced(self) -> int:
        """Files of somebody's that go; the other rules replace only what a restore had begun."""
        return self.outcome.replaced if self.rule in (Overwrite.IF_NEWER, Overwrite.ALWAYS) else 0


class Watched(NullProgress):
    """A dry run that can be given up, and tells how far it is."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.entries = 0

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        del bytes
        self.entries += items
        if self.gone.is_set():
            raise Stopped(2)


class Planning(Shared):
    """The part of the restore view that restores."""

    def __init__(self) -> None:
        super().__init__()
        self.job: Task | None = None
        self._started_s = 0.0
        self._started_for = ("", "")  # store and snapshot
        self._watched: Watched | None = None
        self._kept: Selection | None = None

    # The pane at the bottom -----------------------------------------------------------------------

    def show_plan(self) -> None:
        """Marks, destination and rules; or how the restore goes."""
        pane = self.plan_pane
        if self.job is not None:
            pane.name_pane("Restore", "K stops" if self.job.is_running else "")
            pane.set_lines(self._task_lines(self.job))
            return
        pane.name_pane("Plan")
        if self.place.level is not Level.FILES or self.archive is None:
            lines: list[Line] = [[(" l goes in, h goes out; files are marked with space", "dim")]]
            if self._kept is not None:
                kept = self._kept
                what = f" with {kept.snapshot} to {clean(kept.target)}"
                lines.append([(" unfinished: ", "warn"), ("R goes on", "key"), (what, "text")])
            pane.set_lines(lines)
            return
        pane.set_lines(self._plan_lines(self.archive))

    def _plan_lines(self, archive: ArchiveReader) -> list[Line]:
        host = self.host
        marks = self.marks.get(self.place.archive)
        first: list[Part] = []
        if not archive.is_tree:
            first.append((f" the whole {archive.archive.kind.value}", "strong"))
            first.append((f", {fmt.size(archive.archive.size)}", "text"))
        elif marks:
            first.append((f" {summary(marks.decisions)}", "marked"))
        else:
            first.append((" nothing is marked", "dim"))
        is_taken = host is not None and not archive.is_tree and bool(host.problem)
        state = "" if host is None or host.exists or is_taken else " (new)"
        first += [("  to ", "dim"), (clean(self.target), "strong"), (state, "good")]
        if archive.bad_stretches:
            first.append((f"  X {archive.bad_stretches} damaged stretches", "bad"))
        rule = self.rule()
        second: list[Part] = []
        if is_taken:
            second.append((" what is there is overwritten", "warn"))
        elif rule is Overwrite.FRESH:
            second.append((" nothing is in the way there", "dim"))
        else:
            second += [(" files that differ: ", "dim"), (POLICY_WORDS[rule], "warn")]
            second.append((" (c)", "key"))
        left_out = [name for what, name, _about in WITHOUT_WORDS if what in self.without]
        text = f"without {', '.join(left_out)}" if left_out else "with owners, modes, attributes"
        second += [(f" {self.look.dot} {text}", "dim"), (" (m)", "key")]
        return [first, second]

    def _task_lines(self, task: Task) -> list[Line]:
        if not task.is_running:
            style = STYLE_OF_MARK[task.mark]
            said = f": {clean(task.message)}" if task.message else ""
            mark = self.look.mark(task.mark)
            head: Line = [(f" {mark} {task.word}", style), (f" {clean(task.target)}{said}", "text")]
            more = "enter in Tasks (4) shows the log; marking goes on here"
            if task.word in ("stopped", "lost", "failed"):
                more = "R goes on with what is left"
            return [head, [(f"   {more}", "dim")]]
        progress = task.progress
        done = progress.done_bytes if progress is not None else 0
        total = progress.total_bytes if progress is not None else None
        part = done / total if total else None
        width = max(10, min(40, self.size.width - 60))
        full, empty = self.look.bar(part, width)
        line: list[Part] = [(" ~ running  ", "run"), (full, "bar-run"), (empty, "empty")]
        line += [(f" {fmt.percent(part)}  {fmt.size(done)}", "text")]
        if progress is not None:
            line.append((f"  {fmt.rate(progress.rate)}", "dim"))
            line.append((f"  eta {fmt.eta(progress.eta_s)}" if progress.eta_s else "", "dim"))
        items = progress.done_items if progress is not None else 0
        return [line, [(f"   {items:,} entries, safe to close", "dim")]]

    # Metadata -------------------------------------------------------------------------------------

    def action_metadata(self) -> None:
        """What of each entry is left out."""

        async def ask() -> None:
            chosen = {name for what, name, _about in WITHOUT_WORDS if what in self.without}
            rows = [(name, about) for _what, name, about in WITHOUT_WORDS]
            answer = await self.hold.ask(Checklist("Leave out", rows, chosen))
            if answer is not None:
                self.without = Without.NOTHING
                for what, name, _about in WITHOUT_WORDS:
                    if name in answer:
                        self.without |= what
                self.show_plan()

        self.hold.background(ask, group="metadata")

    # The dry run ----------------------------------------------------------------------------------

    def action_review(self) -> None:
        """What the restore would do; without marks: go on with what was not finished."""
        selection = self.selection()
        if selection is None or (not selection.decisions and self._is_tree):
            if self._kept is not None and not self.marks.get(self.place.archive):
                self._go_on(self._kept)
            elif self._is_tree and self.current is not None and selection is not None:
                self.say("nothing is marked: space marks the row, then R", "warn")
            else:
                self.say("choose a snapshot and mark files first: l goes in, space marks", "warn")
            return
        self._plan(selection)

    @property
    def _is_tree(self) -> bool:
        return self.archive is None or self.archive.is_tree

    def _go_on(self, kept: Selection) -> None:
        """Open the place of an unfinished restore, with its marks."""
        self.target, self.policy, self.without = kept.target, kept.policy, kept.without
        path = next((path for path, taken in sorted(kept.decisions.items()) if taken), b"")
        self.open_snapshot(
            kept.store, kept.snapshot, archive=kept.archive, path=path.rpartition(b"/")[0]
        )
        marks = self.marks.setdefault(kept.archive, PathMarks())
        for one, taken in sorted(kept.decisions.items(), key=lambda item: item[0].count(b"/")):
            marks.set(one, marked=taken)
        self._kept = None
        self.job = None
        self.say("these were marked; R shows what is left to restore")

    def _plan(self, selection: Selection) -> None:
        archive = self.archive
        if archive is None:
            return
        self.stop_planning()
        watched = self._watched = Watched()
        self.say("planning: nothing is changed; esc gives up")
        reader, index = self.hold.reader, self.index

        def make() -> Plan:
            host = HostFolder(selection.target, room=reader.room)
            store = reader.open(selection.store)
            key = key_of(reader, selection.store) if _is_encrypted(archive) else None
            if not archive.is_tree:
                return _image_plan(selection, archive, host)
            there = host.exists and not host.is_empty
            rule = selection.policy if there else Overwrite.FRESH
            request = RestoreRequest(
                snapshot=selection.snapshot,
                target=selection.target,
                archive=selection.archive,
                paths=selection.decisions,
                overwrite=rule,
                without=selection.without,
                dry_run=True,
                key=key,
            )
            outcome = restore(store, request, watched).tree
            damaged = _damaged(archive, selection, index)
            return Plan(selection, rule, host, outcome, damaged)

        self.read(make, self._planned, failed=self._not_planned, group="plan")

    def _not_planned(self, error: Exception) -> None:
        self._watched = None
        if not isinstance(error, Stopped):
            self.hold.say_error(error)

    def stop_planning(self) -> bool:
        """Give up a dry run; whether there was one."""
        watched, self._watched = self._watched, None
        if watched is None:
            return False
        watched.gone.set()
        self.say("the plan was given up; nothing was changed")
        return True

    def _planned(self, plan: Plan) -> None:
        if self._watched is None:
            return
        self._watched = None
        self.host = plan.host
        self.say("")
        self.hold.background(partial(self._ask, plan), group="ask")

    async def _ask(self, plan: Plan) -> None:
        twin = self.hold.options.twin(plan.selection.store, self._words(plan, shown=True))
        answer = await self.hold.ask(PlanDialog(plan, twin, self.hold.look))
        if answer == "rule":
            at = (Overwrite.KEEP_BOTH, Overwrite.NEVER, Overwrite.IF_NEWER, Overwrite.ALWAYS)
            self.policy = at[(at.index(self.policy) + 1) % len(at)]
            self._plan(replace(plan.selection, policy=self.policy))
        elif answer == "start":
            self._start(plan)
        else:
            self.say("nothing was changed")

    # Starting -------------------------------------------------------------------------------------

    def _words(self, plan: Plan, *, shown: bool = False, list_file: str = "") -> tuple[str, ...]:
        if shown and plan.selection.needs_list:
            list_file = "LIST"
        return plan.selection.words(plan.rule, list_file=list_file)

    def _start(self, plan: Plan) -> None:
        selection = plan.selection
        if not selection.needs_list:
            self._request(plan, self._words(plan))
            return
        path = os.path.join(
            self.hold.options.state_dir, "tui", f"restore-{int(self.now_s)}-{os.getpid()}.paths"
        )

        def write() -> str:
            make_directories(os.path.dirname(path))
            with files.explained(f"writing {path}"):
                files.replace_file(path, [paths_file(selection.decisions)], mode=0o600)
            return path

        self.read(write, lambda name: self._request(plan, self._words(plan, list_file=name)))

    def _request(self, plan: Plan, words: tuple[str, ...]) -> None:
        word, facts = self._word(plan)
        self._started_s = self.now_s - 1
        self._started_for = (plan.selection.store, str(plan.selection.snapshot))
        self.job = None
        self._kept = None
        self.do(
            Request(
                title=f"Restore {plan.selection.snapshot}",
                store=plan.selection.store,
                words=words,
                how=How.DETACHED,
                facts=facts,
                confirm=bool(word),
                word=word,
                secret=self.hold.reader.keys.get(plan.selection.store, ("", b""))[1],
            )
        )
        text = plan.selection.to_text()
        self.hold.state.set(_STATE, text or None)
        self.read(self.hold.state.save, lambda _none: None, group="state")

    def _word(self, plan: Plan) -> tuple[str, tuple[str, ...]]:
        """What has to be typed: the host's name, the number of files, the image's target."""
        target = clean(plan.selection.target)
        if plan.image_bytes is not None:
            what = "the device" if plan.is_device else "the file"
            size = fmt.size(plan.image_bytes)
            there = f"{what} is overwritten with {size}:" if plan.target_exists else f"{size} to"
            return os.path.basename(plan.selection.target) or "/", (there, target)
        replaced = plan.replaced
        if is_system_path(plan.selection.target):
            facts = (f"{target} belongs to the running system", f"{replaced:,} files are replaced")
            return self.hold.host_name, facts
        if replaced:
            return str(replaced), (f"{fmt.plural(replaced, 'file')} in {target} will be replaced",)
        return "", ()

    # Afterwards -----------------------------------------------------------------------------------

    def follow(self, board: TaskBoard) -> None:
        """Show the restore that was started here, until something else is marked."""
        if not self._started_s:
            return
        mine = [
            task
            for task in board.tasks
            if task.kind == "restore"
            and task.started >= self._started_s - 1
            and task.store == self._started_for[0]
            and task.target.endswith(self._started_for[1])
        ]
        if not mine:
            return
        before, self.job = self.job, mine[0]
        if not self.job.is_running and (before is None or before.is_running):
            self._ended(self.job)
        self.show_plan()

    def _ended(self, task: Task) -> None:
        if task.word in ("ok", "warning"):
            self.policy = Overwrite.KEEP_BOTH  # a rule that replaces files is chosen each time
            self.hold.state.set(_STATE, None)
            self.read(self.hold.state.save, lambda _none: None, group="state")
        if self.archive is not None:
            self.look_at_target()

    def keep_plan(self) -> None:
        """Remember what is marked, for after a dropped line."""
        if self.job is not None and not self.job.is_running:
            self.job, self._started_s = None, 0.0
            self.show_plan()
        selection = self.selection()
        if selection is not None and selection.decisions:
            self.hold.state.set(_STATE, selection.to_text() or None)

    def remember_of_last_time(self) -> None:
        """Something was marked, or a restore did not end, before the app was closed."""
        if self._kept is None and not self.marks and not self._started_s:
            self._kept = Selection.from_text(self.hold.state.text(_STATE))
            if self._kept is not None:
                self.show_plan()

    def action_stop(self) -> None:
        task = self.job
        if task is None or not task.is_running:
            self.say("no restore of this screen is running; 4 shows all tasks")
            return
        self.do(
            Request(
                title="Stop the restore",
                words=("task", "stop", task.upid),
                how=How.SHORT,
                facts=("what is restored already stays; R goes on with the rest",),
                done="asked to stop",
            )
        )

    # Images ---------------------------------------------------------------------------------------

    def show_image(self, archive: ArchiveReader) -> None:
        """The page of an archive that holds no files."""
        kind = archive.archive.kind.value
        self.left.use(self._no_columns(), marks_allowed=False)
        name = archive.archive.name
        self.target = os.path.join(os.path.dirname(self.target), name)
        self.left.set_empty(
            f"{name} is a {'disk image' if kind == 'image' else 'single file'} "
            f"of {fmt.size(archive.archive.size)}.",
            "R restores it to the path below; w types another one: a file or a device.",
            "o looks at its first bytes.",
            style="text",
        )
        self.left.set_rows([])
        self.left.title(name, self.place.moment)
        self.show_plan()

    @staticmethod
    def _no_columns() -> list[Column[FileRow]]:
        return []


def _is_encrypted(archive: ArchiveReader) -> bool:
    return any(file.crypt_mode.value == "encrypt" for file in archive.archive.files)


def _image_plan(selection: Selection, archive: ArchiveReader, host: HostFolder) -> Plan:
    import stat

    target = selection.target
    exists = os.path.lexists(target)
    is_device = exists and stat.S_ISBLK(os.stat(target).st_mode)
    rule = Overwrite.ALWAYS if exists else Overwrite.FRESH
    return Plan(
        selection,
        rule,
        host,
        RestoreOutcome(),
        image_bytes=archive.archive.size,
        target_exists=exists,
        is_device=is_device,
    )


def _damaged(archive: ArchiveReader, selection: Selection, index: FileTable | None) -> list[bytes]:
    """Marked files whose content is known to be lost."""
    if not archive.bad_stretches:
        return []
    if index is None or not index.is_complete:
        index = FileTable()
        archive.read_all(index, lambda: True)
    marks = PathMarks()
    for path, taken in sorted(selection.decisions.items(), key=lambda item: item[0].count(b"/")):
        marks.set(path, marked=taken)
    found = [row.path for row in archive.damaged_among(index) if marks.is_marked(row.path)]
    return found[:_DAMAGED_SHOWN]
