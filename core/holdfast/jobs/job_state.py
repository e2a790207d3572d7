"""What is remembered of one configured job between its runs.

<state directory>/jobs/NAME.json    this record, replaced in one step
<state directory>/jobs/NAME.flags   who works and what is owed; see request_flags
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from holdfast.errors import HoldfastError
from holdfast.host import files
from holdfast.jobs.journal import make_directories
from holdfast.units import KIB

RUN: Final = 1  # the flag that asks for one run
_BYTES_MAX: Final = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """All moments in seconds since 1970; 0 is never.

    Attributes:
        created: when the schedule was first looked at; runs due before then are not made up for.
        started, finished: of the last run.
        ended_well: end of the last run that was ok or had warnings only.
        verified: end of the last run that verified, and found all well.
        state: of the last finished run: ok, warning, failed or stopped; empty for none.
        failures: failed runs in a row.
    """

    created: int = 0
    started: int = 0
    finished: int = 0
    ended_well: int = 0
    verified: int = 0
    state: str = ""
    message: str = ""
    upid: str = ""
    failures: int = 0
    duration_s: int = 0

    @property
    def last_run(self) -> int:
        """What the next time of a schedule counts from."""
        return max(self.created, self.started)


def flags_path(state_directory: str, name: str) -> str:
    return os.path.join(state_directory, "jobs", f"{name}.flags")


def _path(state_directory: str, name: str) -> str:
    return os.path.join(state_directory, "jobs", f"{name}.json")


def read(state_directory: str, name: str) -> JobState:
    """The record, or a fresh one when there is none that can be read."""
    try:
        values = json.loads(files.read_file(_path(state_directory, name), size_max=_BYTES_MAX))
    except (OSError, ValueError, RecursionError, HoldfastError):
        return JobState()
    if not isinstance(values, dict):
        return JobState()
    good: dict[str, Any] = {}
    for field in fields(JobState):
        value = values.get(field.name)
        if type(value) is type(field.default):
            good[field.name] = value
    return JobState(**good)


def write(state_directory: str, name: str, state: JobState) -> None:
    """Replace the record (OSError)."""
    path = _path(state_directory, name)
    make_directories(os.path.dirname(path))
    files.replace_file(path, [json.dumps(asdict(state)).encode()], sync=True)
