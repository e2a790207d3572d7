"""Tasks: names of targets, filters, the log that follows a real job, stopping and pausing it."""

from dataclasses import replace

import pytest
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until

from holdfast.jobs.journal import TaskView
from holdfast.jobs.task_end import TaskEnd
from holdfast.upid import Upid
from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.tasks import Task, task_of
from holdfast_tui.screens.tasks.again import words_again
from holdfast_tui.screens.tasks.view import TasksView

UPID = Upid(
    node="here",
    pid=1,
    pstart=2,
    task_id=3,
    start_s=1_768_370_400,
    worker_type="verify_snapshot",
    worker_id="main:ns/prod/ns/eu/host/web1/6967312A",
    auth_id="root@pam",
)


def _task(worker_type: str, worker_id: str) -> Task:
    upid = replace(UPID, worker_type=worker_type, worker_id=worker_id)
    return task_of(TaskView(upid, TaskEnd.ok(UPID.start_s + 5)), UPID.start_s + 9)


@pytest.mark.parametrize(
    ("worker_type", "worker_id", "subject"),
    [
        ("backup", "main:host/web1", "main host/web1"),
        ("garbage_collection", "main", "main"),
        ("prune", "main:prod/eu:host/web1", "main prod/eu/host/web1"),
        ("verify_group", "main:ns/prod/host/web1", "main prod/host/web1"),
        ("reader", "main:host/web1/6967312A", "main host/web1/2026-01-14T06:01:14Z"),
        (
            "verify_snapshot",
            "main:ns/prod/ns/eu/host/web1/6967312A",
            "main prod/eu/host/web1/2026-01-14T06:01:14Z",
        ),
        ("odd", "anything at all", "anything at all"),
    ],
)
def test_targets_are_named_as_people_name_them(
    worker_type: str, worker_id: str, subject: str
) -> None:
    assert _task(worker_type, worker_id).subject == subject


def test_a_verification_is_run_again_in_its_namespace() -> None:
    found = words_again(_task("verify_group", "main:ns/prod/host/web1"), JobBoard())

    assert found is not None
    assert found[0] == ("--ns", "prod", "verify", "host/web1")
    assert words_again(_task("backup", "main:host/web1"), JobBoard()) is None


async def test_the_filter_narrows_by_kind_and_state(looked_at: Bench) -> None:
    async with opened(looked_at, view="tasks") as pilot:
        await settled(pilot)
        await press(pilot, "slash", *"kind:verify state:failed", "enter")

        rows = app_of(pilot).query_one(TasksView)._rows
        assert [task.word for task in rows.shown_rows()] == ["failed"]
        await press(pilot, "escape")
        assert rows.shown_count > 3


async def test_a_running_job_is_followed_paused_resumed_and_stopped(bench: Bench) -> None:
    (bench.home / "slow.raw").write_bytes(bytes(range(256)) * 40_000)
    bench.program.run(
        *("backup", f"slow.img:{bench.home / 'slow.raw'}", "--type", "vm", "--id", "7"),
        *("--chunk-size", "64", "--read-limit", "400K", "--detach"),
    )
    async with opened(bench, view="tasks") as pilot:
        await settled(pilot)
        app = app_of(pilot)
        await until(pilot, lambda: app.board.running, what="the job is seen")
        upid = app.board.running[0].upid

        def word() -> str:
            return app.board.by_upid[upid].word

        await press(pilot, "P", "enter")
        await until(pilot, lambda: word() == "paused", what="it sleeps")
        await press(pilot, "P")
        await until(pilot, lambda: word() in ("running", "waiting"), what="it goes on")
        await press(pilot, "K", "enter")
        await until(pilot, lambda: word() == "stopped", what="it has stopped")
        await until(pilot, lambda: "TASK ERROR: stopped" in screen_text(pilot), what="its log")
