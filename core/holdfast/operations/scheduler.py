"""Starts configured jobs when they are due, and notices those that should have run and did not.

Every decision is taken from the configuration, the jobs' states and the clock, so a scheduler that
was away for three days goes on where the world is: one run makes up for all that were missed. Jobs
run in processes of their own; ending the scheduler ends none of them. A run that somebody stopped is
still owed, but waits for the job's next time: whoever stopped it had a reason.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Final, Protocol

from holdfast.config.jobs import JobSettings
from holdfast.config.settings import Settings
from holdfast.errors import HoldfastError
from holdfast.host import process
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.jobs import job_state
from holdfast.jobs.job_state import JobState
from holdfast.jobs.request_flags import RequestFlags
from holdfast.jobs.schedule import due_job, next_run_s
from holdfast.operations import notify
from holdfast.operations.job_plan import overdue, plan_of
from holdfast.operations.notify import Message

PATIENCE_S: Final = 300  # a job that was asked to start and did not is asked again after this
LOOK_S_MAX: Final = 20.0
WAKE_S_MIN: Final = 0.2


class Changes(Protocol):
    """Who knows when something below a job's sources changed last."""

    def watch(self, jobs: list[JobSettings]) -> None:
        """Watch these jobs' sources from now on."""
        ...

    def last_change_s(self, name: str) -> float | None:
        """When, in seconds since 1970; None for not since the watch began."""
        ...


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """One scheduler; call `tick` when `wake_s` says so.

    Attributes:
        start: starts `holdfast job run NAME` in its own process and returns at once.
        say: one line for the service's own log.
        zone: of schedules without UTC; None for this machine's.
        look_s_max: at least this often everything is looked at.
        boot_s: when this machine started, in seconds since 1970.
    """

    config_path: str
    state_directory: str
    start: Callable[[str], None]
    say: Callable[[str], None]
    clock: Clock = SYSTEM_CLOCK
    zone: tzinfo | None = None
    changes: Changes | None = None
    look_s_max: float = LOOK_S_MAX
    boot_s: float = field(default_factory=process.boot_s)
    settings: Settings | None = None
    _stamp: tuple[int, int, int] | None = None
    _asked: dict[str, tuple[int, float]] = field(default_factory=dict)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def tick(self) -> list[str]:
        """Look once at everything; the names of the jobs that were started."""
        self._reload()
        now_s = self.clock.now_s()
        jobs = self._jobs()
        states = {job.name: self._state(job, now_s) for job in jobs}
        started = []
        for job in jobs:
            reason = self._reason(job, states, now_s) if job.enabled else None
            if reason is None:
                continue
            self._asked[job.name] = (states[job.name].last_run, now_s)
            self.say(f"starting job {job.name}: {reason}")
            try:
                self.start(job.name)
            except HoldfastError as error:
                self.say(f"job {job.name} cannot be started: {error}")
                continue
            started.append(job.name)
        self._look_for_overdue(jobs, states, now_s)
        return started

    def wake_s(self) -> float:
        """Seconds until the next look is worth it."""
        now_s = self.clock.now_s()
        times = [now_s + self.look_s_max]
        for job in self._jobs():
            if job.enabled and job.on_change:
                times.append(now_s + 1)
            state = job_state.read(self.state_directory, job.name)
            upcoming = next_run_s(plan_of(job), state, now_s, self.zone) if job.enabled else None
            if upcoming is not None and upcoming > now_s:
                times.append(upcoming)
        return max(WAKE_S_MIN, min(times) - now_s)

    # Configuration and state ----------------------------------------------------------------------

    def _jobs(self) -> list[JobSettings]:
        return list(self.settings.jobs.values()) if self.settings else []

    def _reload(self) -> None:
        """Read the configuration again if it changed; a broken one leaves the old one in force."""
        try:
            info = os.stat(self.config_path)
            stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
        except OSError:
            stamp = (0, 0, 0)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.settings = Settings.read(self.config_path)
        except HoldfastError as error:
            if self.settings is None:
                raise
            self.say(f"the configuration is not used, the one before stays in force: {error}")
            return
        self.say(f"{len(self.settings.jobs)} jobs configured in {self.config_path}")
        if self.changes is not None:
            self.changes.watch([job for job in self._jobs() if job.on_change and job.enabled])

    def _state(self, job: JobSettings, now_s: float) -> JobState:
        state = job_state.read(self.state_directory, job.name)
        if not state.created:
            state = replace(state, created=int(now_s))
            job_state.write(self.state_directory, job.name, state)
        return state

    # Decisions ------------------------------------------------------------------------------------

    def _reason(self, job: JobSettings, states: dict[str, JobState], now_s: float) -> str | None:
        state = states[job.name]
        asked = self._asked.get(job.name)
        if asked is not None and asked[0] == state.last_run and now_s - asked[1] < PATIENCE_S:
            return None
        is_owed, is_running = self._flags(job.name)
        if is_running:
            return None
        if is_owed and state.finished < max(state.started, self.boot_s):
            return "its last run was cut short"  # killed, or stopped because the machine went down
        due = due_job(plan_of(job), states, now_s, self.zone)
        if due is not None:
            return due.reason
        return self._changed(job, state, now_s)

    def _changed(self, job: JobSettings, state: JobState, now_s: float) -> str | None:
        if not job.on_change or self.changes is None:
            return None
        changed_s = self.changes.last_change_s(job.name)
        if changed_s is None or changed_s <= state.started:
            return None
        if now_s - changed_s < job.quiet_s or now_s - state.started < job.distance_s_min:
            return None
        return "its sources have changed"

    def _flags(self, name: str) -> tuple[bool, bool]:
        try:
            path = job_state.flags_path(self.state_directory, name)
            with RequestFlags.open_to_watch(path) as flags:
                return flags.flags().owed != 0, flags.is_worker_alive()
        except OSError:
            return False, False

    # Dead-man rule --------------------------------------------------------------------------------

    def _look_for_overdue(
        self, jobs: list[JobSettings], states: dict[str, JobState], now_s: float
    ) -> None:
        """Tell once of each job that has had no good end for too long."""
        found = {
            (late.job, late.what): late
            for job in jobs
            if job.enabled
            for late in overdue(job, states[job.name], now_s)
        }
        for key, late in found.items():
            if key not in self._told:
                self.say(late.message)
                self._tell(late.job, late.message)
        self._told = set(found)

    def _tell(self, name: str, text: str) -> None:
        assert self.settings is not None
        message = Message(job=name, state="missing", host=process.node_name(), text=text)
        for notifier_name in self.settings.jobs[name].notify:
            try:
                notify.send(self.settings.notifiers[notifier_name], message)
            except HoldfastError as error:
                self.say(f"cannot tell {notifier_name}: {error}")
