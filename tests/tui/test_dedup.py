"""Deduplication and garbage collection: figures, what would be freed, and the two jobs."""

import pytest
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until
from textual.pilot import Pilot

from holdfast.jobs.progress_record import ProgressRecord
from holdfast.jobs.task_end import TaskState
from holdfast_tui.model.tasks import Task
from holdfast_tui.render.look import ASCII, Look, Mark
from holdfast_tui.screens.dedup.view import DedupView, phase_lines
from holdfast_tui.widgets.strips import plain


async def _measured(pilot: Pilot[str]) -> DedupView:
    view = app_of(pilot).views["dedup"]
    assert isinstance(view, DedupView)
    await settled(pilot)
    await until(pilot, lambda: "stored for" in screen_text(pilot), what="a small store is measured")
    await settled(pilot)
    return view


async def test_figures_are_those_of_the_command(looked_at: Bench) -> None:
    found = looked_at.program.json("usage", "--read-only")
    async with opened(looked_at, view="dedup", size=(120, 40)) as pilot:
        view = await _measured(pilot)

        shown = screen_text(pilot)

        assert {holder.name: holder.only for holder in view._who.rows} == {
            one["group"]: one["exclusive_bytes"] for one in found["groups"]
        }
        assert f"{found['chunks']}, " in shown
        assert "1 lost" in shown
        for word in ("host/web1", "vm/100", "64.0 KiB", "2 to 9", "12 weeks", "Never ran here"):
            assert word in shown, word
        assert max(map(len, shown.splitlines())) <= 120


async def test_one_part_at_a_time_in_a_small_terminal(looked_at: Bench) -> None:
    async with opened(looked_at, view="dedup", size=(80, 24), look=ASCII) as pilot:
        await _measured(pilot)
        for title in ("Who uses the space", "Chunk sizes", "Sharing and growth", "Garbage coll"):
            assert f"-{title}" in screen_text(pilot)
            assert screen_text(pilot).isascii()
            await press(pilot, "right_square_bracket")


async def test_marked_groups_say_what_removing_them_frees(looked_at: Bench) -> None:
    async with opened(looked_at, view="dedup", size=(120, 40)) as pilot:
        view = await _measured(pilot)
        assert view._who.current is not None
        name, only = view._who.current.name, view._who.current.only
        await press(pilot, "space")
        await until(pilot, lambda: "frees" in screen_text(pilot))

        from holdfast_tui.render import fmt

        line = next(line for line in screen_text(pilot).splitlines() if "if removed" in line)
        assert name in line
        assert f"frees {fmt.size(only)}" in line


async def test_measuring_is_a_job_that_writes_only_its_figures(bench: Bench) -> None:
    before = sorted(path.stat().st_mtime_ns for path in bench.store.rglob("*"))
    async with opened(bench, view="dedup", size=(120, 40)) as pilot:
        await _measured(pilot)
        await press(pilot, "A")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        await press(pilot, "enter")
        await until(
            pilot,
            lambda: any(
                task.kind == "usage" and task.word in ("ok", "warning")
                for task in app_of(pilot).board.tasks
            ),
            what="the job ended",
        )

    assert bench.program.json("usage", "--cached")["groups"]
    assert sorted(path.stat().st_mtime_ns for path in bench.store.rglob("*")) == before


async def test_collecting_wants_the_name_of_the_store(bench: Bench) -> None:
    async with opened(bench, view="dedup", size=(120, 40)) as pilot:
        await _measured(pilot)
        await press(pilot, "C")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        assert "Type main" in screen_text(pilot)
        await press(pilot, *"main", "enter")
        await until(
            pilot, lambda: "freed" in screen_text(pilot) and "Never ran" not in screen_text(pilot)
        )

        assert app_of(pilot).board.tasks[0].kind == "gc"


async def test_read_only_can_look_but_not_collect(looked_at: Bench) -> None:
    async with opened(
        looked_at, view="dedup", size=(120, 40), read_only="started with --read-only"
    ) as pilot:
        await _measured(pilot)
        for key in "AC":
            await press(pilot, key)
            assert "is off (started with --read-only)" in screen_text(pilot)
        await press(pilot, "c")
        await until(pilot, lambda: "frees" in screen_text(pilot))


async def test_another_store_with_l(bench: Bench) -> None:
    second = bench.home / "second"
    (second / ".chunks").mkdir(parents=True)
    (second / ".lock").touch()
    config = bench.home / "config.toml"
    config.write_text(config.read_text() + f'[stores.second]\npath = "{second}"\n')
    async with opened(bench, view="dedup", size=(120, 40)) as pilot:
        await _measured(pilot)
        await press(pilot, "l")
        await until(pilot, lambda: "second: " in screen_text(pilot))
        await settled(pilot)

        assert "No group in this store." in screen_text(pilot)


@pytest.mark.parametrize("theme", ["harbour", "paper"])
async def test_a_picture_of_it_can_be_made(looked_at: Bench, theme: str) -> None:
    async with opened(looked_at, view="dedup", size=(80, 24), look=Look(theme=theme)) as pilot:
        await _measured(pilot)

        assert "host/web1" in app_of(pilot).export_screenshot()


def test_the_phases_of_a_collection() -> None:
    def shown(phase: str) -> str:
        task = Task(
            upid="u",
            target="",
            by="",
            node="",
            message="",
            pid=0,
            started=0,
            ended=0,
            kind="gc",
            store="main",
            state=TaskState.RUNNING,
            word="running",
            mark=Mark.RUN,
            progress=ProgressRecord(phase=phase, done_items=7, total_items=10),
        )
        return plain(phase_lines(task, ASCII, 20))

    assert shown("mark").splitlines()[0].startswith(" ~ phase 1 of 2, mark   [")
    assert "70%" in shown("mark")
    assert "7 of 10" in shown("mark")
    assert shown("mark").splitlines()[1] == " - phase 2 of 2, sweep  to come"
    assert shown("sweep").splitlines()[0] == " + phase 1 of 2, mark   done"
    assert shown("waiting").splitlines()[-1].startswith(" ~ running")
