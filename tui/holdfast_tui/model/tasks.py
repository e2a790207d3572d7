"""Tasks as the screens show them, made from the journal's views."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.errors import BadRequest
from holdfast.ids import epoch_to_name
from holdfast.jobs.journal import TaskView
from holdfast.jobs.progress_record import ProgressRecord
from holdfast.jobs.task_end import TaskState
from holdfast_tui.render.look import Mark

_KINDS: Final = {
    "backup": "backup",
    "reader": "restore",
    "verify": "verify",
    "verify_group": "verify",
    "verify_snapshot": "verify",
    "verificationjob": "verify",
    "garbage_collection": "gc",
    "prune": "prune",
    "prunejob": "prune",
    "syncjob": "sync",
    "backupjob": "backup job",
    "verifyjob": "verify job",
    "gcjob": "gc job",
}
_MARKS: Final = {
    TaskState.RUNNING: Mark.RUN,
    TaskState.OK: Mark.OK,
    TaskState.WARNING: Mark.WARN,
    TaskState.FAILED: Mark.BAD,
    TaskState.STOPPED: Mark.STOP,
    TaskState.UNKNOWN: Mark.LOST,
}
_WORDS: Final = {TaskState.UNKNOWN: "lost"}
STALE_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        upid: its name; what `holdfast task` wants.
        kind: backup, restore, verify, gc, prune, sync, or the journal's own word.
        store, target: of what; target is empty for a whole store.
        started, ended: seconds since 1970; 0 while it runs.
        word: running, paused, waiting, stale, ok, warning, failed, stopped, lost.
    """

    upid: str
    kind: str
    store: str
    target: str
    by: str
    pid: int
    node: str
    started: int
    ended: int
    state: TaskState
    word: str
    mark: Mark
    message: str
    progress: ProgressRecord | None = None

    @property
    def is_running(self) -> bool:
        return self.ended == 0

    @property
    def is_problem(self) -> bool:
        return self.mark in (Mark.BAD, Mark.WARN, Mark.LOST)

    @property
    def subject(self) -> str:
        """`main host/web1`."""
        return f"{self.store} {self.target}".strip()

    @property
    def facts(self) -> Mapping[str, str]:
        """For filters."""
        return {
            "state": self.word,
            "kind": self.kind,
            "store": self.store,
            "target": self.target,
            "by": self.by,
            "message": self.message,
            "upid": self.upid,
        }

    def took_s(self, now_s: float) -> float:
        return (self.ended or now_s) - self.started


def task_of(view: TaskView, now_s: float) -> Task:
    """From what the journal knows."""
    upid = view.upid
    store, target = _split(upid.worker_type, upid.worker_id)
    word, mark = _state_of(view, now_s)
    return Task(
        upid=str(upid),
        kind=_KINDS.get(upid.worker_type, upid.worker_type),
        store=store,
        target=target,
        by=upid.auth_id.partition("@")[0],
        pid=upid.pid,
        node=upid.node,
        started=upid.start_s,
        ended=0 if view.end is None else view.end.end_s,
        state=view.state,
        word=word,
        mark=mark,
        message=view.message,
        progress=view.progress,
    )


def _state_of(view: TaskView, now_s: float) -> tuple[str, Mark]:
    if view.end is not None:
        state = view.end.state
        return _WORDS.get(state, state.value), _MARKS[state]
    if view.is_paused:
        return "paused", Mark.WAIT
    if view.progress is not None and view.progress.waiting_for:
        return "waiting", Mark.WAIT
    if view.progress is not None and 0 < view.progress.updated < now_s - STALE_S:
        return "quiet", Mark.RUN
    return "running", Mark.RUN


def _split(worker_type: str, worker_id: str) -> tuple[str, str]:
    store, colon, rest = worker_id.partition(":")
    if not colon:
        return store, ""
    if worker_type == "prune":
        ns, _colon, group = rest.partition(":")
        return store, f"{ns}/{group}" if ns else group
    head, _slash, last = rest.rpartition("/")
    parts = head.split("/")
    spaces = []
    while len(parts) > 1 and parts[0] == "ns":
        spaces.append(parts[1])
        parts = parts[2:]
    name = "/".join([*spaces, *parts])
    if len(last) == 8 and head.count("/") >= 1:  # noqa: PLR2004  # a time as hex digits
        try:
            return store, f"{name}/{epoch_to_name(int(last, 16))}"
        except (ValueError, BadRequest):
            pass
    return store, f"{name}/{last}" if name else last


@dataclass(frozen=True, slots=True)
class TaskBoard:
    """All tasks at one moment, newest first.

    Attributes:
        read_at: seconds since 1970.
        error: why the journal could not be read; empty when it could.
    """

    tasks: tuple[Task, ...] = ()
    read_at: float = 0
    error: str = ""
    by_upid: dict[str, Task] = field(default_factory=dict)

    @classmethod
    def of(cls, views: Iterable[TaskView], now_s: float) -> "TaskBoard":
        tasks = tuple(task_of(view, now_s) for view in views)
        return cls(tasks, now_s, by_upid={task.upid: task for task in tasks})

    @property
    def running(self) -> list[Task]:
        """Oldest first, so that rows stay where they are."""
        return [task for task in reversed(self.tasks) if task.is_running]

    def failed_since(self, moment_s: float) -> list[Task]:
        """Ended badly since then, and no later task of the same kind and target ended well."""
        good: set[tuple[str, str]] = set()
        found = []
        for task in self.tasks:
            what = (task.kind, task.subject)
            if task.state in (TaskState.OK, TaskState.WARNING):
                good.add(what)
            elif task.mark in (Mark.BAD, Mark.LOST) and what not in good:
                good.add(what)  # one line is enough for each kind and target
                if task.ended >= moment_s:
                    found.append(task)
        return found
