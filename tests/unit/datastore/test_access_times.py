import os
import time
from pathlib import Path

import pytest

from holdfast.datastore.access_times import Age, AgeLimits, checked_clock_s


def ages(limits: AgeLimits, tmp_path: Path, *times_s: int) -> list[Age]:
    path = tmp_path / "chunk"
    path.touch()
    found = []
    for time_s in times_s:
        os.utime(path, (time_s, 0))
        found.append(limits.age_of(path.stat()))
    return found


def test_without_writers_the_cutoff_decides(tmp_path: Path) -> None:
    limits = AgeLimits.at(start_s=1_000_000, cutoff_s=86_700, oldest_writer_s=None)

    assert limits.removed_before_s == 913_300
    assert ages(limits, tmp_path, 900_000, 913_299, 913_300, 950_000, 1_000_000, 1_000_007) == [
        Age.REMOVABLE,
        Age.REMOVABLE,
        Age.PENDING,
        Age.PENDING,
        Age.IN_USE,
        Age.IN_USE,
    ]


def test_a_writer_older_than_the_cutoff_moves_the_limit_back(tmp_path: Path) -> None:
    limits = AgeLimits.at(start_s=1_000_000, cutoff_s=86_700, oldest_writer_s=827_200)

    assert limits.removed_before_s == 826_900
    assert ages(limits, tmp_path, 826_000, 827_000, 850_000) == [
        Age.REMOVABLE,
        Age.PENDING,
        Age.IN_USE,
    ]


@pytest.mark.parametrize("writer_s", [999_999, 1_000_000, 1_000_500])
def test_no_cutoff_is_short_enough_to_reach_a_running_writer(writer_s: int) -> None:
    limits = AgeLimits.at(start_s=1_000_000, cutoff_s=0, oldest_writer_s=writer_s)

    assert limits.removed_before_s <= writer_s - 300
    assert limits.pending_before_s <= 1_000_000


def test_the_file_systems_clock_is_ours_here_and_the_file_keeps_its_change_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / ".lock"
    path.touch()
    os.utime(path, (5, 7))

    assert abs(checked_clock_s(str(path)) - time.time()) < 5
    assert path.stat().st_mtime == 7
