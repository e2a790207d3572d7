"""The dead-man rule: what did not happen is found like damage."""

from pathlib import Path

import pytest

from holdfast.config import toml_source
from holdfast.config.settings import Settings
from holdfast.jobs import job_state
from holdfast.jobs.job_state import JobState
from holdfast.operations.findings import Level
from holdfast.operations.job_checks import check_jobs
from holdfast.units import HOUR

NOW = 1_800_000_000
SETTINGS = Settings.parse(
    toml_source.parse("c", b'[jobs.j]\nkind = "gc"\nmax-age = "24h"\nmax-verify-age = "48h"\n')
)


def levels(tmp_path: Path, state: JobState | None) -> list[tuple[Level, str]]:
    if state is not None:
        job_state.write(str(tmp_path), "j", state)
    return [(found.level, found.message) for found in check_jobs(SETTINGS, str(tmp_path), NOW)]


def test_a_job_that_never_started_is_as_bad_as_one_that_failed(tmp_path: Path) -> None:
    assert levels(tmp_path, None) == [
        (Level.DAMAGE, "no good end ever, limit 24.0 hours"),
        (Level.DAMAGE, "no good verification ever, limit 2.0 days"),
    ]


def test_a_job_in_time_is_good(tmp_path: Path) -> None:
    state = JobState(ended_well=NOW - HOUR, verified=NOW - 40 * HOUR, state="ok")

    assert levels(tmp_path, state) == [(Level.GOOD, "its last run: ok")]


@pytest.mark.parametrize(("hours", "is_found"), [(23, False), (25, True)])
def test_the_age_counts_from_the_last_good_end_not_the_last_run(
    tmp_path: Path, hours: int, is_found: bool
) -> None:
    state = JobState(
        started=NOW - 60,
        finished=NOW - 30,
        ended_well=NOW - hours * HOUR,
        verified=NOW,
        state="failed",
        message="no space",
    )

    found = levels(tmp_path, state)

    assert (
        (Level.DAMAGE, f"no good end for {hours}.0 hours, limit 24.0 hours") in found
    ) is is_found
    assert (Level.WARNING, "its last run failed: no space") in found


def test_a_stopped_run_is_not_forgotten(tmp_path: Path) -> None:
    state = JobState(ended_well=NOW - HOUR, verified=NOW - HOUR, finished=NOW, state="stopped")

    assert levels(tmp_path, state) == [
        (Level.WARNING, "its last run was stopped and is still owed")
    ]
