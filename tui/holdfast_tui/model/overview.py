"""What the dashboard says beyond bare facts: what needs attention, worst result per day, next runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.request import Target
from holdfast_tui.model.snapshots import OUTDATED_S
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import Task, TaskBoard
from holdfast_tui.render import fmt
from holdfast_tui.render.look import Mark

NEARLY_FULL: Final = 0.80
FULL: Final = 0.95
STRIP_KINDS: Final = ("backup", "verify", "prune", "gc", "restore", "sync")
_SEVERITY: Final = (
    Mark.NONE,
    Mark.RUN,
    Mark.OK,
    Mark.OLD,
    Mark.STOP,
    Mark.WARN,
    Mark.LOST,
    Mark.BAD,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One thing somebody should look at, and where it is dealt with.

    Attributes:
        word: what is wrong in one word.
        what: of what: a store, a job, a task's subject.
        text: a short sentence.
        when_s: since when, or when it happened; 0 for unknown.
        view, target: where enter goes.
        key: what a person presses there (or here) to deal with it.
    """

    mark: Mark
    word: str
    what: str
    text: str
    when_s: float = 0
    view: str
    target: Target
    key: str

    @property
    def name(self) -> str:
        return f"{self.word} {self.what} {self.target.upid}"

    @property
    def is_bad(self) -> bool:
        return self.mark in (Mark.BAD, Mark.LOST)


def attention(
    stores: Iterable[StoreFacts], board: TaskBoard, jobs: JobBoard, *, now_s: float, since_s: float
) -> list[Attention]:
    """Worst first: failed verification, failed tasks, stalled ones, late jobs, full disks, old."""
    found: list[Attention] = []
    if board.error:
        found.append(_journal_trouble(board))
    if jobs.error:
        found.append(_config_trouble(jobs))
    known = list(stores)
    for facts in known:
        working = sum(t.kind == "backup" and t.store == facts.name for t in board.running)
        found += _of_store(facts, now_s, unfinished=max(0, facts.unfinished - working))
    found += [_of_task(task) for task in board.failed_since(since_s)]
    for job in jobs.jobs:
        found += [
            Attention(
                mark=Mark.WARN,
                word="late",
                what=job.name,
                text=sentence,
                when_s=job.state.ended_well,
                view="schedules",
                target=Target(job=job.name),
                key="T runs it",
            )
            for sentence in job.late
        ]
    order = {Mark.BAD: 0, Mark.LOST: 1, Mark.WARN: 2, Mark.OLD: 3, Mark.NONE: 4}
    return sorted(found, key=lambda item: (order.get(item.mark, 5), item.word != "verify"))


def _journal_trouble(board: TaskBoard) -> Attention:
    return Attention(
        mark=Mark.BAD,
        word="journal",
        what="",
        text=board.error,
        view="tasks",
        target=Target(),
        key="ctrl+r",
    )


def _config_trouble(jobs: JobBoard) -> Attention:
    return Attention(
        mark=Mark.BAD,
        word="config",
        what="",
        text=jobs.error,
        view="schedules",
        target=Target(),
        key="E edits",
    )


def _of_task(task: Task) -> Attention:
    return Attention(
        mark=task.mark,
        word=task.kind,
        what=task.subject,
        text=task.message,
        when_s=task.ended,
        view="tasks",
        target=Target(upid=task.upid),
        key="enter log",
    )


def _of_store(facts: StoreFacts, now_s: float, *, unfinished: int) -> list[Attention]:
    if facts.error:
        return [_item(facts, Mark.BAD, ("store", facts.error), ("stores", "enter"))]
    part = facts.used_part or 0.0
    gc_is_old = facts.last_gc is not None and now_s - facts.last_gc > OUTDATED_S
    checked_s, collected_s = facts.last_verify or 0, facts.last_gc or 0
    # whether, mark, word and sentence, view and key, since when
    rules = (
        (
            facts.failed,
            Mark.BAD,
            ("verify", f"{fmt.plural(facts.failed, 'snapshot')} failed verification"),
            ("verify", "enter"),
            checked_s,
        ),
        (
            facts.damaged,
            Mark.LOST,
            ("damage", f"{fmt.plural(facts.damaged, 'snapshot')} cannot be read"),
            ("snapshots", "enter"),
            0,
        ),
        (
            facts.bad_chunks,
            Mark.BAD,
            ("chunks", f"{fmt.plural(facts.bad_chunks, 'damaged chunk')} set aside"),
            ("verify", "enter"),
            collected_s,
        ),
        (
            part >= NEARLY_FULL,
            Mark.BAD if part >= FULL else Mark.WARN,
            ("space", f"{fmt.percent(part).strip()} full, {fmt.size(facts.free)} free"),
            ("dedup", "C collects"),
            0,
        ),
        (
            unfinished,
            Mark.WARN,
            ("unfinished", f"{fmt.plural(unfinished, 'snapshot')} unfinished"),
            ("snapshots", "enter"),
            0,
        ),
        (
            facts.old,
            Mark.OLD,
            ("old", f"{fmt.plural(facts.old, 'snapshot')} not verified for 30 days"),
            ("snapshots", "V verifies"),
            0,
        ),
        (
            facts.never,
            Mark.NONE,
            ("never", f"{fmt.plural(facts.never, 'snapshot')} never verified"),
            ("snapshots", "V verifies"),
            0,
        ),
        (
            gc_is_old,
            Mark.OLD,
            ("gc", "garbage not collected for 30 days"),
            ("dedup", "C collects"),
            collected_s,
        ),
    )
    return [
        _item(facts, mark, said, way, when_s) for holds, mark, said, way, when_s in rules if holds
    ]


def _item(
    facts: StoreFacts, mark: Mark, said: tuple[str, str], way: tuple[str, str], when_s: float = 0
) -> Attention:
    return Attention(
        mark=mark,
        word=said[0],
        what=facts.name,
        text=said[1],
        when_s=when_s,
        view=way[0],
        target=Target(store=facts.name),
        key=way[1],
    )


@dataclass(frozen=True, slots=True)
class Strip:
    """The worst result of each day for one kind of task; the last one is today."""

    kind: str
    days: tuple[Mark | None, ...]
    good: int
    warned: int
    bad: int


def strips(board: TaskBoard, *, days: int, today: date) -> list[Strip]:
    """For the kinds that ran in the last `days` days."""
    first = today - timedelta(days=days - 1)
    worst: dict[str, list[Mark | None]] = {}
    counts: dict[str, list[int]] = {}
    for task in board.tasks:
        if task.is_running:
            continue
        at = (datetime.fromtimestamp(task.ended).date() - first).days  # noqa: DTZ006  # local days
        if not 0 <= at < days:
            continue
        row = worst.setdefault(task.kind, [None] * days)
        row[at] = _worse(row[at], task.mark)
        good, warned, bad = counts.setdefault(task.kind, [0, 0, 0])
        counts[task.kind] = [
            good + (task.mark is Mark.OK),
            warned + (task.mark in (Mark.WARN, Mark.STOP)),
            bad + (task.mark in (Mark.BAD, Mark.LOST)),
        ]
    kinds: list[str] = [kind for kind in STRIP_KINDS if kind in worst]
    kinds += sorted(set(worst) - set(kinds))
    return [Strip(kind, tuple(worst[kind]), *counts[kind]) for kind in kinds]


def _worse(left: Mark | None, right: Mark) -> Mark:
    if left is None:
        return right
    return max(left, right, key=_SEVERITY.index)


@dataclass(frozen=True, slots=True)
class NextRun:
    """One start that a schedule will bring."""

    at_s: int
    kind: str
    name: str


def next_runs(jobs: JobBoard, *, limit: int) -> list[NextRun]:
    """The soonest starts of all enabled jobs."""
    found = [
        NextRun(at, job.settings.kind.value, job.name) for job in jobs.jobs for at in job.upcoming
    ]
    return sorted(found, key=lambda run: (run.at_s, run.name))[:limit]


def quiet_since(board: TaskBoard, now_s: float) -> str:
    """`Last failure 12 d ago.`, or since when nothing failed."""
    bad: Sequence[Task] = [task for task in board.tasks if task.mark in (Mark.BAD, Mark.LOST)]
    if bad:
        return f"Last failure {fmt.age(now_s - max(task.ended for task in bad))} ago."
    return "No task has failed so far." if board.tasks else "No task has run yet."
