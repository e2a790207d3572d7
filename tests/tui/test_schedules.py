"""Schedules: jobs are run, switched and edited through the program's own checks."""

import os
from pathlib import Path

import pytest
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until

from holdfast_tui.editing import Draft

JOBS = """
[jobs.nightly]
kind = "backup"
store = "main"
sources = ["etc.pxar:{home}/etc"]
id = "web1"
schedule = "21:00"
max-age = "36h"

[jobs.sweep]
kind = "prune"
store = "main"
keep-last = 1
schedule = "sat 12:00"
"""


def _with_jobs(bench: Bench) -> Bench:
    config = bench.home / "config.toml"
    config.write_text(config.read_text() + JOBS.format(home=bench.home))
    return bench


async def test_jobs_are_shown_with_their_next_runs(bench: Bench) -> None:
    async with opened(_with_jobs(bench), view="schedules", size=(120, 40)) as pilot:
        await settled(pilot)
        shown = screen_text(pilot)

        assert "nightly" in shown
        assert "21:00" in shown
        assert "seven days" in shown
        assert "no good" in shown or "never" in shown


async def test_a_job_is_switched_off_and_on(bench: Bench) -> None:
    async with opened(_with_jobs(bench), view="schedules") as pilot:
        await settled(pilot)
        app = app_of(pilot)
        await press(pilot, "O")
        await until(pilot, lambda: not app.job_board.by_name["nightly"].settings.enabled)
        await press(pilot, "O")
        await until(pilot, lambda: app.job_board.by_name["nightly"].settings.enabled)


async def test_a_job_is_run_now(bench: Bench) -> None:
    async with opened(_with_jobs(bench), view="schedules") as pilot:
        await settled(pilot)
        app = app_of(pilot)
        await press(pilot, "T", "enter")
        await until(
            pilot, lambda: app.job_board.by_name["nightly"].state.state, what="it has ended"
        )
        await until(pilot, lambda: not app.job_board.by_name["nightly"].is_running)
        assert len(bench.program.json("snapshots", "host/web1")) == 4


async def test_prune_says_what_goes_and_wants_the_number(bench: Bench) -> None:
    async with opened(_with_jobs(bench), view="schedules") as pilot:
        await settled(pilot)
        await press(pilot, "j", "P")
        await until(pilot, lambda: app_of(pilot).screen.is_modal, what="the question")
        assert "removes 2 snapshots" in screen_text(pilot)
        await pilot.press("2", "enter")
        await settled(pilot)
        await until(pilot, lambda: len(bench.program.json("snapshots", "host/web1")) == 1)


async def test_a_broken_configuration_is_said_with_its_line(bench: Bench) -> None:
    config = bench.home / "config.toml"
    config.write_text(config.read_text() + '\n[jobs.x]\nkind = "nothing"\n')
    async with opened(bench, view="schedules") as pilot:
        await until(pilot, lambda: app_of(pilot).job_board.error)

        assert "config.toml" in screen_text(pilot)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[stores.a]\npath = "/srv/a"\n')
    return path


def test_a_draft_is_checked_before_it_counts(config: Path) -> None:
    draft = Draft.begin(str(config), added='\n[jobs.x]\nkind = "nothing"\n', at="[jobs.x]")

    assert draft.line == 4
    assert "config.toml" in draft.complaint()
    Path(draft.path).write_text('[stores.b]\npath = "/srv/b"\n')
    assert draft.complaint() == ""
    draft.put_in_place()
    assert config.read_text() == '[stores.b]\npath = "/srv/b"\n'
    assert not os.path.exists(draft.path)


def test_a_draft_does_not_overwrite_what_somebody_else_wrote(config: Path) -> None:
    from holdfast.errors import Refused

    draft = Draft.begin(str(config))
    config.write_text("# other\n")

    with pytest.raises(Refused, match="somebody else"):
        draft.put_in_place()
    draft.throw_away()
    assert config.read_text() == "# other\n"
