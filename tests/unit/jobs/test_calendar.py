"""Schedules: the recorded cases, and the two days a year on which clocks are changed."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.harness import vectors

from holdfast.errors import BadRequest
from holdfast.jobs.calendar import CalendarEvent, local_zone, spread_s

BERLIN = ZoneInfo("Europe/Berlin")
CASES = vectors.load("datastore", "calendar")


def following(text: str, after: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    event = CalendarEvent.parse(text)
    moment: float | None = datetime.fromisoformat(after).timestamp()
    times = []
    for _ in range(count):
        assert moment is not None
        moment = event.next_after(moment, zone)
        assert moment is not None
        times.append(datetime.fromtimestamp(moment, zone).strftime("%m-%d %H:%M%z"))
    return times


@pytest.mark.parametrize("case", [case for case in CASES if "next" in case])
def test_the_next_event_is_the_recorded_one(case: dict[str, Any]) -> None:
    assert CalendarEvent.parse(case["event"]).next_after(case["last"]) == case["next"]


@pytest.mark.parametrize(
    "text",
    [
        *(case["event"] for case in CASES if "error" in case),
        *("UTC", "*/0", "mon tue", "1-2-3-4", "sat 1:2 3", "hourly 3:00", "-1", "1..", "24:00"),
        "9" * 300,
    ],
)
def test_what_is_no_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest, match="schedule") as caught:
        CalendarEvent.parse(text)
    if len(text) < 100:
        assert caught.value.hint is not None


def test_a_date_that_never_comes_has_no_next_event() -> None:
    assert CalendarEvent.parse("02-30").next_after(0, BERLIN) is None
    assert CalendarEvent.parse("*-0 12:00").next_after(0, BERLIN) is None
    assert CalendarEvent.parse("2020-1-1").next_after(1_700_000_000, BERLIN) is None


def test_a_nightly_time_that_is_skipped_in_spring_still_runs_once() -> None:
    assert following("02:30", "2026-03-28T12:00:00+01:00", 3) == [
        "03-29 03:30+0200",
        "03-30 02:30+0200",
        "03-31 02:30+0200",
    ]


def test_a_nightly_time_that_comes_twice_in_autumn_runs_once() -> None:
    assert following("02:30", "2026-10-24T12:00:00+02:00", 2) == [
        "10-25 02:30+0200",
        "10-26 02:30+0100",
    ]


def test_half_hours_go_on_through_both_changes() -> None:
    assert following("*:0/30", "2026-10-25T01:29:00+02:00", 6) == [
        "10-25 01:30+0200",
        "10-25 02:00+0200",
        "10-25 02:30+0200",
        "10-25 02:00+0100",
        "10-25 02:30+0100",
        "10-25 03:00+0100",
    ]
    assert following("*:0/30", "2026-03-29T01:20:00+01:00", 3) == [
        "03-29 01:30+0100",
        "03-29 03:00+0200",
        "03-29 03:30+0200",
    ]


def test_a_schedule_in_utc_does_not_move_with_the_clock() -> None:
    assert following("01:30 UTC", "2026-03-28T12:00:00+01:00", 2) == [
        "03-29 03:30+0200",
        "03-30 03:30+0200",
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"])
def test_a_year_of_hours_has_every_hour_of_the_year_exactly_once(zone: str) -> None:
    event = CalendarEvent.parse("hourly")
    moment = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
    gaps = set()
    for _ in range(24 * 45):
        following_s = event.next_after(moment, ZoneInfo(zone))
        assert following_s is not None
        gaps.add(following_s - moment)
        moment = following_s
    assert gaps <= {1800, 3600, 5400}  # half hours only where a clock is moved by one
    assert (moment - int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())) / 3600 == pytest.approx(
        24 * 45, abs=1
    )


def test_the_zone_of_this_machine_is_known() -> None:
    assert local_zone().utcoffset(datetime(2026, 1, 1)) is not None  # noqa: DTZ001


def test_the_random_delay_is_the_same_in_every_process_and_stays_in_its_limit() -> None:
    delays = {spread_s("nightly", due, 600) for due in range(0, 86400 * 50, 86400)}

    assert len(delays) > 30
    assert all(0 <= delay <= 600 for delay in delays)
    assert spread_s("nightly", 1_700_000_000, 600) == 160
    assert spread_s("nightly", 1_700_000_000, 0) == 0
