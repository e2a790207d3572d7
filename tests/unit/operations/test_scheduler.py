"""The scheduler on a driven clock: exactly the expected runs, and no more."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.harness.driven_clock import DrivenClock

from holdfast.config.jobs import JobSettings
from holdfast.jobs import job_state
from holdfast.jobs.job_state import RUN, JobState
from holdfast.jobs.journal import make_directories
from holdfast.jobs.request_flags import RequestFlags
from holdfast.operations.scheduler import Scheduler

BERLIN = ZoneInfo("Europe/Berlin")


@dataclass
class World:
    """A scheduler, its clock, and jobs that end at once and well unless told otherwise."""

    directory: Path
    clock: DrivenClock
    runs: list[tuple[str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    boot_s: float = 0
    run_job: Callable[[str], None] | None = None

    @property
    def state_directory(self) -> str:
        return str(self.directory / "state")

    def configure(self, text: str) -> None:
        (self.directory / "config.toml").write_text(text)

    def scheduler(self) -> Scheduler:
        return Scheduler(
            config_path=str(self.directory / "config.toml"),
            state_directory=self.state_directory,
            start=self.run_job or self.run_well,
            say=self.said.append,
            clock=self.clock,
            zone=BERLIN,
            boot_s=self.boot_s,
            look_s_max=5000,  # the wake-up time must come from the schedules
        )

    def run_well(self, name: str) -> None:
        now_s = int(self.clock.now_s())
        self.runs.append((name, datetime.fromtimestamp(now_s, BERLIN).strftime("%m-%d %H:%M%z")))
        state = job_state.read(self.state_directory, name)
        ended = replace(state, started=now_s, finished=now_s, ended_well=now_s, state="ok")
        job_state.write(self.state_directory, name, ended)

    def run_until(self, end: datetime, scheduler: Scheduler) -> None:
        while self.clock.now_s() < end.timestamp():
            scheduler.tick()
            self.clock.move(min(scheduler.wake_s(), end.timestamp() - self.clock.now_s()))


def world(tmp_path: Path, start: str) -> World:
    return World(tmp_path, DrivenClock(datetime.fromisoformat(start).timestamp()))


def nightly(days: range, offset: str, clock_time: str = "02:30", month: str = "10") -> list[str]:
    return [f"{month}-{day:02} {clock_time}{offset}" for day in days]


def test_a_month_with_a_clock_change_and_an_outage_has_exactly_the_expected_runs(
    tmp_path: Path,
) -> None:
    """Goal: no run too many or too few. Method: October 2026 on a driven clock, away for 3 days."""
    berlin = world(tmp_path, "2026-10-01T00:00:00+02:00")
    berlin.configure(
        '[jobs.nightly]\nkind = "gc"\nschedule = "02:30"\n'
        '[jobs.weekly]\nkind = "gc"\nschedule = "sun 06:00"\n'
        '[jobs.strict]\nkind = "gc"\nschedule = "04:00"\ncatch-up = false\n'
        '[jobs.off]\nkind = "gc"\nschedule = "hourly"\nenabled = false\n'
        '[jobs.follower]\nkind = "gc"\nafter = "weekly"\n'
    )
    berlin.run_until(datetime(2026, 10, 10, 12, tzinfo=BERLIN), berlin.scheduler())
    berlin.clock.move(timedelta(days=3).total_seconds())  # until the 13th, 12:00
    berlin.run_until(datetime(2026, 11, 1, tzinfo=BERLIN), berlin.scheduler())

    by_name = {
        name: [time for job, time in berlin.runs if job == name]
        for name in ("nightly", "weekly", "strict", "off", "follower")
    }
    caught_up = ["10-13 12:00+0200"]
    assert by_name["nightly"] == (
        nightly(range(1, 11), "+0200")
        + caught_up
        + nightly(range(14, 26), "+0200")
        + nightly(range(26, 32), "+0100")
    )
    assert by_name["strict"] == (
        nightly(range(1, 11), "+0200", "04:00")
        + nightly(range(14, 25), "+0200", "04:00")
        + nightly(range(25, 32), "+0100", "04:00")
    )
    weekly = ["10-04 06:00+0200", *caught_up, "10-18 06:00+0200", "10-25 06:00+0100"]
    assert by_name["weekly"] == weekly
    assert [time[:5] for time in by_name["follower"]] == [time[:5] for time in weekly]
    assert by_name["off"] == []


def test_a_spring_month_runs_once_in_the_night_that_lacks_the_hour(tmp_path: Path) -> None:
    berlin = world(tmp_path, "2026-03-27T00:00:00+01:00")
    berlin.configure('[jobs.nightly]\nkind = "gc"\nschedule = "02:30"\n')

    berlin.run_until(datetime(2026, 4, 1, tzinfo=BERLIN), berlin.scheduler())

    assert [time for _name, time in berlin.runs] == [
        "03-27 02:30+0100",
        "03-28 02:30+0100",
        "03-29 03:30+0200",
        "03-30 02:30+0200",
        "03-31 02:30+0200",
    ]


def test_a_random_delay_moves_runs_but_loses_and_doubles_none(tmp_path: Path) -> None:
    berlin = world(tmp_path, "2026-05-01T00:00:00+02:00")
    berlin.configure('[jobs.j]\nkind = "gc"\nschedule = "02:00"\nrandom-delay = "1h"\n')
    half = datetime(2026, 5, 15, 2, 20, tzinfo=BERLIN)  # a restart between due time and delay
    berlin.run_until(half, berlin.scheduler())
    berlin.run_until(datetime(2026, 5, 31, 23, tzinfo=BERLIN), berlin.scheduler())

    days = [time[:5] for _name, time in berlin.runs]
    minutes = {time[6:11] for _name, time in berlin.runs}
    assert days == [f"05-{day:02}" for day in range(1, 32)]
    assert len(minutes) > 15
    assert all("02:00" <= minute <= "03:00" for minute in minutes)


def test_a_run_that_was_cut_short_is_taken_up_at_the_next_look(tmp_path: Path) -> None:
    berlin = world(tmp_path, "2026-05-01T12:00:00+02:00")
    berlin.configure('[jobs.j]\nkind = "gc"\nschedule = "02:00"\n')
    scheduler = berlin.scheduler()
    assert scheduler.tick() == []
    path = job_state.flags_path(berlin.state_directory, "j")
    make_directories(str(Path(path).parent))
    with RequestFlags.open(path) as killed:
        killed.begin(RUN)
        killed.publish(RUN)
        state = job_state.read(berlin.state_directory, "j")
        started = int(berlin.clock.now_s())
        job_state.write(berlin.state_directory, "j", replace(state, started=started))
        assert scheduler.tick() == []  # it runs

    assert scheduler.tick() == ["j"]
    assert berlin.said[-1] == "starting job j: its last run was cut short"


def test_a_run_that_somebody_stopped_waits_for_its_time_unless_the_machine_went_down(
    tmp_path: Path,
) -> None:
    berlin = world(tmp_path, "2026-05-01T12:00:00+02:00")
    berlin.configure('[jobs.j]\nkind = "gc"\nschedule = "14:00"\n')
    berlin.scheduler().tick()
    path = job_state.flags_path(berlin.state_directory, "j")
    make_directories(str(Path(path).parent))
    with RequestFlags.open(path) as stopped:
        stopped.begin(RUN)
        stopped.publish(RUN)
    now_s = int(berlin.clock.now_s())
    state = job_state.read(berlin.state_directory, "j")
    ended = replace(state, started=now_s - 60, finished=now_s - 5, state="stopped")
    job_state.write(berlin.state_directory, "j", ended)

    assert berlin.scheduler().tick() == []  # also when the scheduler is a new one
    berlin.boot_s = now_s - 2
    assert berlin.scheduler().tick() == ["j"]
    berlin.boot_s = 0
    job_state.write(berlin.state_directory, "j", ended)
    berlin.clock.move(2 * 3600 + 1)
    assert berlin.scheduler().tick() == ["j"]


def test_a_start_that_is_slow_to_show_is_not_repeated_at_once(tmp_path: Path) -> None:
    berlin = world(tmp_path, "2026-05-01T12:00:00+02:00")
    berlin.configure('[jobs.j]\nkind = "gc"\nschedule = "hourly"\n')
    asked: list[str] = []
    berlin.run_job = asked.append
    scheduler = berlin.scheduler()
    scheduler.tick()
    berlin.clock.move(3600)

    assert scheduler.tick() == ["j"]
    berlin.clock.move(60)
    assert scheduler.tick() == []
    berlin.clock.move(600)
    assert scheduler.tick() == ["j"]


def test_a_broken_configuration_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    berlin = world(tmp_path, "2026-05-01T12:00:00+02:00")
    berlin.configure('[jobs.j]\nkind = "gc"\nschedule = "hourly"\n')
    scheduler = berlin.scheduler()
    scheduler.tick()
    berlin.configure("[jobs.j\n")
    berlin.clock.move(3600)

    assert scheduler.tick() == ["j"]
    assert any("line 1" in line and "stays in force" in line for line in berlin.said)


class ChangesAt:
    """Changes at moments the test sets."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.watched: list[str] = []

    def watch(self, jobs: list[JobSettings]) -> None:
        self.watched = [job.name for job in jobs]

    def last_change_s(self, name: str) -> float | None:
        return self.at.get(name)


def test_a_change_starts_a_job_after_quiet_and_not_too_often(tmp_path: Path) -> None:
    berlin = world(tmp_path, "2026-05-01T12:00:00+02:00")
    berlin.configure(
        '[jobs.j]\nkind = "backup"\nsources = ["/etc"]\non-change = true\nquiet = 10\n'
        'distance = "10m"\n'
    )
    changes = ChangesAt()
    scheduler = berlin.scheduler()
    scheduler.changes = changes
    scheduler.tick()
    assert changes.watched == ["j"]

    changes.at["j"] = berlin.clock.now_s()
    berlin.clock.move(5)
    assert scheduler.tick() == []
    berlin.clock.move(6)
    assert scheduler.tick() == ["j"]
    berlin.clock.move(60)
    changes.at["j"] = berlin.clock.now_s()
    berlin.clock.move(60)
    assert scheduler.tick() == []  # quiet, but too soon after the last start
    berlin.clock.move(600)
    assert scheduler.tick() == ["j"]
    assert scheduler.tick() == []


def test_a_job_that_never_ran_is_told_of_once_when_its_time_is_over(tmp_path: Path) -> None:
    berlin = world(tmp_path, "2026-05-01T12:00:00+02:00")
    berlin.configure('[jobs.j]\nkind = "gc"\nmax-age = "24h"\n')
    scheduler = berlin.scheduler()
    scheduler.tick()
    berlin.clock.move(25 * 3600)
    scheduler.tick()
    scheduler.tick()

    told = [line for line in berlin.said if "no good end" in line]
    assert told == ["job j: no good end ever, limit 24.0 hours"]
    berlin.run_well("j")
    scheduler.tick()
    berlin.clock.move(3 * 24 * 3600)
    scheduler.tick()
    assert berlin.said[-1] == "job j: no good end for 3.0 days, limit 24.0 hours"


def test_a_state_that_cannot_be_read_is_a_fresh_one(tmp_path: Path) -> None:
    path = tmp_path / "jobs" / "j.json"
    path.parent.mkdir()
    for raw in (b"", b"[1]", b'{"started": "x", "state": 3}', b"\xff", b"[" * 9999):
        path.write_bytes(raw)
        assert job_state.read(str(tmp_path), "j") == JobState()
