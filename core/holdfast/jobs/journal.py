"""The journal: every long action as a task that anybody can watch and that outlives its terminal.

    <state directory>/tasks/{active,archive,...}   see task_lists
    <state directory>/tasks/XX/UPID                the log, XX = low byte of PSTART; see task_log
    <state directory>/progress/UPID                live progress; see progress_record

Any number of processes write; all changes of the lists happen under one lock. Readers need read
access only and never write: a task whose process has vanished is shown as such, and the next
writer closes it.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Final, Self

from holdfast.errors import BadRequest, HoldfastError, NotFound, Stopped
from holdfast.host import files, process
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.jobs import progress_record, task_log
from holdfast.jobs.progress_record import ProgressRecord
from holdfast.jobs.task_end import TaskEnd, TaskState
from holdfast.jobs.task_lists import Ended, TaskLists
from holdfast.jobs.task_log import TaskLog
from holdfast.upid import Upid

_TARGET_MAX: Final = 60  # characters; escaped, it still fits into a file name
_FIND_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class TaskView:
    """What a reader knows of one task."""

    upid: Upid
    end: TaskEnd | None
    progress: ProgressRecord | None = None
    is_paused: bool = False

    @property
    def state(self) -> TaskState:
        return TaskState.RUNNING if self.end is None else self.end.state

    @property
    def message(self) -> str:
        """Why it failed, or what it waits for; empty when there is nothing to say."""
        if self.end is None:
            return self.progress.waiting_for if self.progress else ""
        if self.end.state is TaskState.WARNING:
            return f"{self.end.warnings} warning{'s' if self.end.warnings != 1 else ''}"
        if self.end.state is TaskState.UNKNOWN:
            return "its process ended without a word"
        return self.end.message


class RunningTask:
    """A task of this process, open for writing. Use as a context manager.

    An exception that passes through ends it as failed or stopped; leaving without `finish` ends it
    as OK, or with warnings when `warn` was called.
    """

    def __init__(self, journal: "Journal", upid: Upid, log: TaskLog) -> None:
        self.journal = journal
        self.upid = upid
        self.warnings = 0
        self._log = log
        self._is_over = False

    @property
    def log_fd(self) -> int:
        """The open log, for the output of programs the task starts."""
        return self._log.fd

    @property
    def progress_path(self) -> str:
        return self.journal.progress_path(self.upid)

    def say(self, message: str) -> None:
        """Add to the log. A log that cannot be written does not stop the work it tells of."""
        with suppress(OSError, ValueError):
            self._log.line(self.journal.clock.now_s(), message)

    def warn(self, message: str) -> None:
        self.warnings += 1
        self.say(f"WARN: {message}")

    def finish(self, end: TaskEnd) -> None:
        """Write the last line and move the task to the archive list; only the first call counts."""
        if self._is_over:
            return
        self._is_over = True
        self.say(end.log_text)
        self._log.close()
        with suppress(OSError):
            files.unlink(self.progress_path)
        with suppress(OSError, HoldfastError):  # the next writer closes it by its log
            self.journal.close_tasks()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        now_s = int(self.journal.clock.now_s())
        if error is None:
            self.finish(TaskEnd.ok(now_s, warnings=self.warnings))
        elif isinstance(error, HoldfastError):
            self.finish(TaskEnd.failed(now_s, str(error)))
        elif isinstance(error, KeyboardInterrupt):
            self.finish(TaskEnd.failed(now_s, str(Stopped(signal.SIGINT))))
        else:
            self.finish(TaskEnd.failed(now_s, f"{type(error).__name__}: {error}"))


class Journal:
    """All tasks below one state directory."""

    def __init__(self, state_directory: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.state_directory = state_directory
        self.clock = clock
        self._tasks = os.path.join(state_directory, "tasks")
        self._lists = TaskLists(self._tasks)

    def log_path(self, upid: Upid) -> str:
        return os.path.join(self._tasks, upid.log_directory, str(upid))

    def progress_path(self, upid: Upid) -> str:
        return os.path.join(self.state_directory, "progress", str(upid))

    # Reading --------------------------------------------------------------------------------------

    def running(self) -> list[TaskView]:
        """Tasks whose process lives, and those that vanished since the last writer, oldest first."""
        return [self._view(upid) for upid in self._lists.active()]

    def tasks(self, *, limit: int | None = None) -> list[TaskView]:
        """Running and ended tasks, newest start first; at most `limit` of the ended ones."""
        active = self._lists.active()
        ended = {str(entry.upid): entry for entry in islice(self._lists.ended(), limit)}
        views = [TaskView(entry.upid, entry.end) for entry in ended.values()]
        views += [self._view(upid) for upid in active if str(upid) not in ended]
        return sorted(views, key=_age, reverse=True)

    def find(self, text: str) -> TaskView:
        """The task somebody means: its UPID, the start of it, `last`, or a process number.

        Raises:
            NotFound: there is none.
            BadRequest: there are several.
        """
        try:
            upid = Upid.parse(text)
        except BadRequest:
            return self._find_by_part(text)
        if any(str(active) == str(upid) for active in self._lists.active()):
            return self._view(upid)
        ended = self._lists.find_ended(upid)
        if ended is not None:
            return TaskView(upid, ended.end)
        if os.path.exists(self.log_path(upid)):
            return self._view(upid)
        raise NotFound(f"no task is called {text}", hint="see `holdfast task list`")

    def view(self, upid: Upid) -> TaskView:
        """The same task again, a moment later."""
        return self.find(str(upid))

    def _find_by_part(self, text: str) -> TaskView:
        views = self.tasks(limit=_FIND_MAX)
        if text == "last" and views:
            return views[0]
        hits = [
            view
            for view in views
            if str(view.upid).startswith(text)
            or text == str(view.upid.pid)
            or text == f"{view.upid.worker_type}:{view.upid.worker_id}"
        ]
        if not hits:
            raise NotFound(f"no task is called {text!r}", hint="see `holdfast task list`")
        if len(hits) > 1:
            running = [view for view in hits if view.end is None]
            if len(running) == 1:
                return running[0]
            raise BadRequest(f"{len(hits)} tasks are called {text!r}", hint="give the whole UPID")
        return hits[0]

    def _view(self, upid: Upid) -> TaskView:
        end = task_log.end_of(self.log_path(upid))
        if end is not None:
            return TaskView(upid, end)
        if process.is_running(upid.pid, upid.pstart):
            record = progress_record.read(self.progress_path(upid))
            return TaskView(upid, None, record, process.is_paused(upid.pid))
        return TaskView(upid, self._end_of_vanished(upid))

    def _end_of_vanished(self, upid: Upid) -> TaskEnd:
        return task_log.end_of_silent(self.log_path(upid), otherwise_s=upid.start_s)

    # Writing --------------------------------------------------------------------------------------

    def start(self, worker_type: str, target: str) -> RunningTask:
        """Enter a new task of this process (HoldfastError when the journal cannot be written)."""
        upid = Upid.for_this_process(worker_type, target[:_TARGET_MAX])
        with files.explained(f"writing the task journal in {self.state_directory}"):
            path = self.log_path(upid)
            for directory in (os.path.dirname(path), os.path.dirname(self.progress_path(upid))):
                make_directories(directory)
            log = TaskLog(path)
            try:
                self.close_tasks(also_active=upid)
            except BaseException:
                log.close()
                with suppress(OSError):
                    files.unlink(path)
                raise
        return RunningTask(self, upid, log)

    def close_tasks(self, *, also_active: Upid | None = None) -> list[Upid]:
        """Move tasks that have ended, or whose process has vanished, to the archive list.

        Args:
            also_active: a task that begins at the same moment.

        Returns:
            Those that vanished without a word.
        """
        silent: list[Upid] = []
        with self._lists.locked(self.clock):
            staying: list[Upid] = [] if also_active is None else [also_active]
            ended: list[Ended] = []
            for upid in self._lists.active():
                end = task_log.end_of(self.log_path(upid))
                if end is None and process.is_running(upid.pid, upid.pstart):
                    staying.append(upid)
                    continue
                if end is None:
                    silent.append(upid)
                ended.append(Ended(upid, end or self._end_of_vanished(upid)))
            forgotten = self._lists.append_ended(ended)
            if ended or also_active is not None:
                self._lists.replace_active(staying)
        for upid in silent:
            with suppress(OSError):
                files.unlink(self.progress_path(upid))
        for upid in forgotten:
            with suppress(OSError):
                files.unlink(self.log_path(upid))
        return silent

    def end_stopped_at_once(self, upid: Upid) -> None:
        """Write the last line for a task that was ended before it could do so itself."""
        path = self.log_path(upid)
        if task_log.end_of(path) is None and not process.is_running(upid.pid, upid.pstart):
            log = TaskLog(path)
            now_s = self.clock.now_s()
            log.line(now_s, TaskEnd.failed(int(now_s), "stopped on request, at once").log_text)
            log.close()
        self.close_tasks()


def _age(view: TaskView) -> tuple[int, int, int]:
    """Order of starting; processes of one second by the tick they began in."""
    return view.upid.start_s, view.upid.pstart, view.upid.task_id


def make_directories(path: str) -> None:
    """`path` and what is missing above it, readable by everybody (OSError)."""
    if os.path.isdir(path):
        return
    make_directories(os.path.dirname(path))
    with suppress(FileExistsError):
        files.make_directory(path)


def follow_log(journal: Journal, upid: Upid, *, clock: Clock = SYSTEM_CLOCK) -> Iterator[bytes]:
    """The log's bytes as they come, until the task has ended and everything was given.

    Raises:
        NotFound: there is no log.
    """
    try:
        fd = files.open_read(journal.log_path(upid), extra_flags=os.O_NOFOLLOW)
    except FileNotFoundError:
        raise NotFound(f"the log of {upid} is gone") from None
    try:
        while True:
            is_over = journal.view(upid).end is not None
            while data := os.read(fd, 1 << 16):
                yield data
            if is_over:
                return
            clock.wait(0.2)
    finally:
        os.close(fd)
