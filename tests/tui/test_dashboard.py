"""The dashboard on a real store with damage in it, and the pure parts behind it."""

from dataclasses import replace
from datetime import date

from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled

from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.overview import attention, strips
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import TaskBoard
from holdfast_tui.render.look import ASCII, Look

FINE = StoreFacts(name="main", path="/srv/main", total=100, free=50, snapshots=4)


async def test_it_shows_the_store_what_failed_and_where_to_go(looked_at: Bench) -> None:
    async with opened(looked_at, size=(120, 40)) as pilot:
        await settled(pilot)
        shown = screen_text(pilot)

        assert "main" in shown
        assert "1 snapshot failed verification" in shown
        assert "FAILED" in shown.splitlines()[0]
        assert "No job runs. B backs up now." in shown


async def test_enter_on_a_failed_task_opens_its_log_and_esc_comes_back(looked_at: Bench) -> None:
    async with opened(looked_at) as pilot:
        await settled(pilot)
        await press(pilot, "tab", "tab", "slash", *"damaged data", "enter", "enter")
        await settled(pilot)

        assert app_of(pilot).view_name == "tasks"
        assert "TASK ERROR" in screen_text(pilot)
        await press(pilot, "escape")
        await settled(pilot)
        assert app_of(pilot).view_name == "dashboard"


async def test_ascii_mode_shows_nothing_but_ascii(looked_at: Bench) -> None:
    async with opened(looked_at, size=(80, 24), look=ASCII) as pilot:
        await settled(pilot)

        assert screen_text(pilot).isascii()


async def test_every_size_is_survived(looked_at: Bench) -> None:
    async with opened(looked_at, look=Look(theme="ansi")) as pilot:
        await settled(pilot)
        for size in ((200, 60), (80, 24), (60, 15), (40, 10), (120, 40)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
            lines = screen_text(pilot).splitlines()
            assert "holdfast" in lines[0]
            assert len(lines) <= size[1]


async def test_collecting_garbage_wants_the_name_of_the_store(bench: Bench) -> None:
    async with opened(bench) as pilot:
        await settled(pilot)
        await press(pilot, "C")
        assert "Type main to go on" in screen_text(pilot)
        await pilot.press(*"mian", "enter")
        assert app_of(pilot).screen.is_modal
        await pilot.press("backspace", "backspace", "backspace", *"ain", "enter")
        await settled(pilot)

        assert any(task.kind == "gc" for task in app_of(pilot).board.tasks)


def test_attention_is_sorted_by_how_bad_it_is() -> None:
    stores = [
        replace(FINE, never=3, old=2),
        replace(FINE, name="full", free=1),
        replace(FINE, name="broken", error="no such directory"),
    ]

    found = attention(stores, TaskBoard(), JobBoard(), now_s=0, since_s=0)

    assert [(item.word, item.what) for item in found] == [
        ("space", "full"),
        ("store", "broken"),
        ("old", "main"),
        ("never", "main"),
    ]


def test_nothing_needs_attention_when_all_is_well() -> None:
    assert attention([FINE], TaskBoard(), JobBoard(), now_s=0, since_s=0) == []


def test_no_strip_without_tasks() -> None:
    assert strips(TaskBoard(), days=30, today=date(2026, 1, 14)) == []
