"""Which jobs are due: pure decisions over schedules, states and the time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from holdfast.jobs.calendar import CalendarEvent, spread_s
from holdfast.jobs.job_state import JobState
from holdfast.units import MINUTE

LATE_S_MAX: Final = 10 * MINUTE  # later than this, a run counts as missed


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """When one job wants to run."""

    name: str
    events: tuple[CalendarEvent, ...] = ()
    random_delay_s: int = 0
    catch_up: bool = True
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Due:
    """A job that should start now. `due_s`: when it was meant to; `reason` for its log."""

    name: str
    due_s: int
    reason: str


def next_run_s(
    plan: JobPlan, state: JobState, now_s: float, zone: tzinfo | None = None
) -> int | None:
    """When the job will (or should have been) started by its schedule; None for never."""
    times = []
    for event in plan.events:
        moment = event.next_after(state.last_run, zone)
        if moment is not None and not plan.catch_up and moment + LATE_S_MAX < now_s:
            moment = event.next_after(now_s - LATE_S_MAX, zone)
        if moment is not None:
            times.append(moment + spread_s(plan.name, moment, plan.random_delay_s))
    return min(times, default=None)


def due_job(
    plan: JobPlan, states: Mapping[str, JobState], now_s: float, zone: tzinfo | None = None
) -> Due | None:
    """Whether a job is due at `now_s`, by its schedule or since another one has ended well.

    A run that was missed is made up for once, however many times were missed.
    """
    state = states.get(plan.name, JobState())
    due_s = next_run_s(plan, state, now_s, zone)
    if due_s is not None and due_s <= now_s:
        late = now_s - due_s > LATE_S_MAX
        return Due(plan.name, due_s, "a run was missed" if late else "its time has come")
    for other in plan.after:
        ended = states.get(other, JobState()).ended_well
        if ended > state.last_run:
            return Due(plan.name, ended, f"{other} has ended well")
    return None
