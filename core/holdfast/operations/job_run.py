"""One run of a configured job: hooks, commands, retries, state, messages.

Asking for a job that runs already adds one more run after it; a run whose process was killed is
owed and taken up by whoever asks next. A run that fails for good is not owed: it is recorded, told,
and tried again at its next time.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from holdfast.config.jobs import Hooks, JobSettings, NotifierSettings
from holdfast.errors import HoldfastError, Stopped, TemporaryFailure
from holdfast.host import process
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.jobs import job_state
from holdfast.jobs.hooks import run_hook
from holdfast.jobs.job_state import RUN, JobState
from holdfast.jobs.journal import make_directories
from holdfast.jobs.request_flags import RequestFlags, Round
from holdfast.jobs.retry import RetryPolicy, run_with_retries
from holdfast.jobs.task_end import TaskState, one_line
from holdfast.operations import notify
from holdfast.operations.job_steps import group_of, steps_of
from holdfast.operations.notify import Message, Ping


class TaskWriter(Protocol):
    """The part of a journal's task that a job needs."""

    def say(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...


@dataclass(slots=True, kw_only=True)
class JobRun:
    """Everything one process needs to run one job.

    Attributes:
        run_command: runs words of the command line inside the current task; returns its exit code
            (0 or 3 for good) or raises HoldfastError.
        open_task: enters a run into the journal; a context manager that gives the log and the UPID.
    """

    job: JobSettings
    notifiers: Mapping[str, NotifierSettings]
    state_directory: str
    run_command: Callable[[Sequence[str]], int]
    open_task: Callable[[], AbstractContextManager[tuple[TaskWriter, str]]]
    clock: Clock = SYSTEM_CLOCK
    last: JobState = field(default_factory=JobState)

    def run(self) -> bool:
        """Run the job until it is owed no more; False when another process was told to do it.

        Raises:
            HoldfastError: the last run failed for good.
        """
        path = job_state.flags_path(self.state_directory, self.job.name)
        make_directories(path.rpartition("/")[0])
        failure: list[HoldfastError] = []

        def one_round(_round: Round) -> int:
            failure.clear()
            try:
                self._one_run()
            except Stopped:
                raise
            except HoldfastError as error:
                failure.append(error)
            return 0

        with RequestFlags.open(path) as flags:
            worked = flags.serve(RUN, one_round)
        if failure:
            raise failure[0]
        return worked

    def _one_run(self) -> None:
        before = job_state.read(self.state_directory, self.job.name)
        started = int(self.clock.now_s())
        with self.open_task() as (task, upid):
            state = replace(before, started=started, upid=upid)
            job_state.write(self.state_directory, self.job.name, state)
            self._ping(task, Ping.START)
            warnings_before = getattr(task, "warnings", 0)
            try:
                verified = self._attempts(task)
            except BaseException as error:
                self._ended(task, state, before, error, verified=False)
                raise
            warned = getattr(task, "warnings", 0) > warnings_before
            self._ended(task, state, before, None, verified=verified, warned=warned)

    # The work -------------------------------------------------------------------------------------

    def _attempts(self, task: TaskWriter) -> bool:
        def say_failure(error: HoldfastError, pause_s: float) -> None:
            task.say(f"failed: {error}; trying again in {pause_s:g} s")

        def attempt() -> bool:
            return self._attempt(task)

        try:
            verified = run_with_retries(
                attempt, self.job.retry, on_failure=say_failure, clock=self.clock
            )
        except HoldfastError as error:
            self._hook(task, "failure", {"HOLDFAST_ERROR": one_line(str(error))})
            raise
        self._hook(task, "after", {})
        return verified

    def _attempt(self, task: TaskWriter) -> bool:
        self._hook(task, "before", {})
        verified = False
        for step in steps_of(self.job):
            task.say(f"holdfast {' '.join(step.words)}")
            code = self.run_command(step.words)
            if code == TemporaryFailure.exit_code:
                raise TemporaryFailure(f"`holdfast {step.words[0]}` failed for now")
            if code not in (0, 3):
                raise HoldfastError(f"`holdfast {step.words[0]}` ended with exit code {code}")
            verified = verified or step.verifies
        self._carry_away(task)
        return verified

    def _carry_away(self, task: TaskWriter) -> None:
        """The backup script: endlessly repeated until it succeeds, in its directory."""
        hooks = self.job.hooks
        if not hooks.backup:
            return
        moment = str(int(self.clock.now_s()))

        def call() -> None:
            name = hooks.directory.rstrip("/").rpartition("/")[2]
            try:
                self._call(task, "backup", (*hooks.backup, name, moment), {}, hooks.directory)
            except HoldfastError as error:
                raise TemporaryFailure(str(error)) from error

        policy = RetryPolicy(retries_max=None, first_pause_s=5, factor=1.25, pause_s_max=300)
        run_with_retries(
            call,
            policy,
            on_failure=lambda error, pause_s: task.say(f"{error}; again in {pause_s:g} s"),
            clock=self.clock,
        )

    def _hook(self, task: TaskWriter, name: str, facts: Mapping[str, str]) -> None:
        words = getattr(self.job.hooks, name)
        if not words:
            return
        try:
            self._call(task, name, words, facts, None)
        except HoldfastError as error:
            if name == "before":
                raise
            task.warn(str(error))

    def _call(
        self,
        task: TaskWriter,
        name: str,
        words: Sequence[str],
        facts: Mapping[str, str],
        directory: str | None,
    ) -> None:
        hooks: Hooks = self.job.hooks
        environment = {
            "HOLDFAST_JOB": self.job.name,
            "HOLDFAST_HOOK": name,
            "HOLDFAST_GROUP": group_of(self.job),
            **facts,
        }
        run_hook(
            name,
            words,
            say=task.say,
            environment=environment,
            timeout_s=hooks.timeout_s,
            directory=directory,
        )

    # The end --------------------------------------------------------------------------------------

    def _ended(
        self,
        task: TaskWriter,
        state: JobState,
        before: JobState,
        error: BaseException | None,
        *,
        verified: bool,
        warned: bool = False,
    ) -> None:
        now_s = int(self.clock.now_s())
        word = _word(error, warned=warned)
        well = error is None
        message = one_line(str(error)) if error is not None else ""
        self.last = replace(
            state,
            finished=now_s,
            duration_s=now_s - state.started,
            state=word.value,
            message=message,
            ended_well=now_s if well else before.ended_well,
            verified=now_s if well and verified else before.verified,
            failures=0 if well else before.failures + 1,
        )
        job_state.write(self.state_directory, self.job.name, self.last)
        self._ping(task, Ping.SUCCESS if well else Ping.FAIL, message)
        self.tell(task, before.state, message or f"job {self.job.name}: {word.value}")

    def tell(self, task: TaskWriter, before: str, text: str) -> None:
        """Send what the job's notifiers want to know; failures go into the log."""
        message = Message(
            job=self.job.name,
            state=self.last.state,
            host=process.node_name(),
            started=self.last.started,
            finished=self.last.finished,
            before=before,
            upid=self.last.upid,
            text=text,
        )
        for name in self.job.notify:
            notifier = self.notifiers[name]
            if not notify.is_wanted(notifier, message):
                continue
            try:
                notify.send(notifier, message)
                task.say(f"told {name}")
            except HoldfastError as error:
                task.warn(f"cannot tell {name}: {error}")

    def _ping(self, task: TaskWriter, moment: Ping, text: str = "") -> None:
        if not self.job.ping:
            return
        try:
            notify.ping(self.job.ping, moment, text)
        except HoldfastError as error:
            task.warn(f"cannot ping the monitor: {error}")


def _word(error: BaseException | None, *, warned: bool) -> TaskState:
    if error is None:
        return TaskState.WARNING if warned else TaskState.OK
    if isinstance(error, Stopped | KeyboardInterrupt):
        return TaskState.STOPPED
    return TaskState.FAILED
