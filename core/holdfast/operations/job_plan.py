"""What the scheduler and the dead-man rule take from a configured job."""

from dataclasses import dataclass

from holdfast.config.jobs import JobSettings
from holdfast.jobs.job_state import JobState
from holdfast.jobs.schedule import JobPlan
from holdfast.units import DAY, HOUR


def plan_of(job: JobSettings) -> JobPlan:
    """When the job wants to run."""
    return JobPlan(
        name=job.name,
        events=job.schedule,
        random_delay_s=job.random_delay_s,
        catch_up=job.catch_up,
        after=job.after,
    )


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job without a good end (or a good verification) for too long: as bad as a failed one."""

    job: str
    what: str  # "backup" (any good end) or "verification"
    since_s: int  # of the last good one, 0 for never
    message: str


def overdue(job: JobSettings, state: JobState, now_s: float) -> list[Overdue]:
    """The dead-man rule: what should have happened and did not, even if it never began."""
    found = []
    for what, limit_s, last_s in (
        ("backup", job.age_s_max, state.ended_well),
        ("verification", job.verify_age_s_max, state.verified),
    ):
        if limit_s is None:
            continue
        since = last_s or state.created
        if now_s - since <= limit_s:
            continue
        when = "ever" if not last_s else f"for {_hours(now_s - last_s)}"
        what_text = "good end" if what == "backup" else "good verification"
        found.append(
            Overdue(
                job.name,
                what,
                last_s,
                f"job {job.name}: no {what_text} {when}, limit {_hours(limit_s)}",
            )
        )
    return found


def _hours(seconds: float) -> str:
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:.1f} days"
    return f"{seconds / HOUR:.1f} hours"
