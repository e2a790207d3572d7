"""The dead-man rule and failed jobs, as findings of `doctor`."""

from collections.abc import Iterator

from holdfast.config.settings import Settings
from holdfast.errors import HoldfastError
from holdfast.jobs import job_state
from holdfast.jobs.task_end import TaskState
from holdfast.operations.findings import Finding, Level
from holdfast.operations.job_plan import overdue
from holdfast.operations.metrics import MetricsSettings


def check_jobs(settings: Settings, state_directory: str, now_s: float) -> Iterator[Finding]:
    """One finding per configured job.

    A job without a good end, or a good verification, for longer than it allows counts like damage
    (exit code 20): a run that never started is as bad as one that failed.
    """
    try:
        MetricsSettings.parse(settings.source.root.table("metrics"))
    except HoldfastError as error:
        yield Finding(level=Level.PROBLEM, area="configuration", message=str(error))
    for job in settings.jobs.values():
        area = f"job {job.name}"
        if not job.enabled:
            yield Finding(level=Level.GOOD, area=area, message="it is disabled")
            continue
        state = job_state.read(state_directory, job.name)
        late = overdue(job, state, now_s)
        for one in late:
            yield Finding(
                level=Level.DAMAGE,
                area=area,
                message=one.message.partition(": ")[2],
                advice=f"see `holdfast job show {job.name}`; is `holdfast scheduler` running?",
            )
        if state.state == TaskState.FAILED.value:
            yield Finding(
                level=Level.WARNING,
                area=area,
                message=f"its last run failed: {state.message}",
                advice=f"see `holdfast task log '{state.upid}'`",
            )
        elif state.state == TaskState.STOPPED.value:
            yield Finding(
                level=Level.WARNING,
                area=area,
                message="its last run was stopped and is still owed",
                advice=f"`holdfast job run {job.name}` makes up for it; else its next time does",
            )
        elif not late:
            word = f"its last run: {state.state}" if state.state else "it never ran so far"
            yield Finding(level=Level.GOOD, area=area, message=word)
