from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.harness import vectors

from holdfast.datastore.retention import Candidate, Mark, RetentionPolicy, decide
from holdfast.errors import BadRequest
from holdfast.ids import epoch_to_name, name_to_epoch


def at(name: str) -> Candidate:
    return Candidate(time_s=name_to_epoch(name))


def marks(policy: RetentionPolicy, *names: str, zone: tzinfo = UTC) -> list[Mark]:
    return [d.mark for d in decide([at(name) for name in names], policy, zone=zone)]


@pytest.mark.parametrize("case", vectors.load("datastore", "prune"), ids=lambda case: case["name"])
def test_recorded_choices_are_reproduced(case: Any) -> None:
    policy = RetentionPolicy(
        **{option.replace("-", "_"): count for option, count in case["options"].items()}
    )
    candidates = [
        Candidate(
            time_s=name_to_epoch(one["t"]),
            is_finished=not one.get("partial", False),
            is_protected=one.get("prot", False),
        )
        for one in case["snapshots"]
    ]

    decisions = decide(candidates, policy, zone=ZoneInfo(case["time_zone"]))

    assert [
        {"snapshot": epoch_to_name(one.candidate.time_s), "mark": str(one.mark)}
        for one in decisions
    ] == case["result_newest_first"]


def test_without_any_rule_everything_stays_even_unfinished_ones() -> None:
    candidates = [
        Candidate(time_s=1_000),
        Candidate(time_s=2_000, is_finished=False),
        Candidate(time_s=3_000, is_protected=True),
    ]

    decisions = decide(candidates, RetentionPolicy(keep_last=0), zone=UTC)

    assert [one.mark for one in decisions] == [Mark.PROTECTED, Mark.KEEP, Mark.KEEP]


def test_weeks_belong_to_the_iso_year() -> None:
    assert marks(
        RetentionPolicy(keep_weekly=2),
        "2021-01-04T10:00:00Z",
        "2021-01-03T10:00:00Z",
        "2021-01-02T10:00:00Z",
        "2020-12-28T10:00:00Z",
        "2020-12-27T10:00:00Z",
    ) == [Mark.KEEP, Mark.KEEP, Mark.REMOVE, Mark.REMOVE, Mark.REMOVE]


def test_a_snapshot_beyond_one_quota_may_be_kept_by_a_coarser_rule() -> None:
    names = ("2024-06-10T10:00:00Z", "2024-06-09T10:00:00Z", "2024-05-31T10:00:00Z")

    decisions = decide(
        [at(name) for name in names], RetentionPolicy(keep_daily=1, keep_monthly=1), zone=UTC
    )

    assert [one.mark for one in decisions] == [Mark.KEEP, Mark.REMOVE, Mark.KEEP]
    assert [one.reason for one in decisions] == [
        "daily 1 of 1: 2024-06-10",
        "no rule keeps it",
        "monthly 1 of 1: 2024-05",
    ]


def test_the_loser_of_a_period_is_not_rescued_by_a_later_rule() -> None:
    names = ("2024-06-10T12:00:00Z", "2024-06-10T10:00:00Z")

    decisions = decide(
        [at(name) for name in names], RetentionPolicy(keep_daily=1, keep_yearly=5), zone=UTC
    )

    assert decisions[1].mark is Mark.REMOVE
    assert decisions[1].reason == "daily: a newer snapshot stands for 2024-06-10"


def test_the_last_second_of_the_calendar_has_a_period_in_every_zone() -> None:
    last = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())

    decisions = decide(
        [Candidate(time_s=last)], RetentionPolicy(keep_daily=1), zone=ZoneInfo("Europe/Berlin")
    )

    assert decisions[0].mark is Mark.KEEP


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(BadRequest, match="keep-daily"):
        RetentionPolicy(keep_daily=-1)
