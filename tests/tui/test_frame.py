"""The frame of all views: switching, help, palette, prompt, read-only, the way back."""

import pytest
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until
from textual import events

from holdfast_tui.screens import VIEWS
from holdfast_tui.widgets.prompt import LineInput, PromptRow


async def test_number_keys_show_the_views_and_esc_comes_back(looked_at: Bench) -> None:
    async with opened(looked_at) as pilot:
        await settled(pilot)
        for number, name in enumerate([name for name in VIEWS if name != "detail"], start=1):
            await press(pilot, str(number))
            assert app_of(pilot).view_name == name


async def test_the_help_page_names_every_key_of_the_view(looked_at: Bench) -> None:
    async with opened(looked_at, view="tasks", size=(100, 50)) as pilot:
        await settled(pilot)
        await press(pilot, "question_mark")

        shown = screen_text(pilot)

        assert "ask the job to end cleanly" in shown
        assert "Everywhere" in shown
        await press(pilot, "escape")
        assert not app_of(pilot).screen.is_modal


async def test_the_palette_runs_what_a_key_would(looked_at: Bench) -> None:
    async with opened(looked_at) as pilot:
        await settled(pilot)
        await press(pilot, "colon")
        await press(pilot, *"verify", "enter")
        await settled(pilot)

        assert app_of(pilot).view_name == "verify"


async def test_the_palette_takes_words_with_arguments(looked_at: Bench) -> None:
    async with opened(looked_at) as pilot:
        await settled(pilot)
        await press(pilot, "ctrl+p")
        await press(pilot, *"theme", "space", *"paper", "enter")
        await settled(pilot)

        assert app_of(pilot).look.theme == "paper"


@pytest.mark.parametrize("key", ["V", "C", "B"])
async def test_read_only_says_why_a_capital_does_nothing(looked_at: Bench, key: str) -> None:
    async with opened(looked_at, read_only="started with --read-only") as pilot:
        await settled(pilot)
        await press(pilot, key)

        shown = screen_text(pilot)

        assert "is off (started with --read-only)" in shown
        assert "READ-ONLY" in shown.splitlines()[0]
        assert not app_of(pilot).screen.is_modal


async def test_ctrl_c_never_quits(looked_at: Bench) -> None:
    async with opened(looked_at) as pilot:
        await settled(pilot)
        await press(pilot, "ctrl+c")

        assert "q quits" in screen_text(pilot)
        assert app_of(pilot).is_running


async def test_a_store_configured_as_read_only_has_no_keys_that_change_it(bench: Bench) -> None:
    config = bench.home / "config.toml"
    config.write_text(
        config.read_text().replace("[stores.main]", "[stores.main]\nread-only = true")
    )
    async with opened(bench) as pilot:
        await settled(pilot)
        await until(pilot, lambda: "READ-ONLY" in screen_text(pilot).splitlines()[0])
        await press(pilot, "C")

        assert "main is configured as read-only" in screen_text(pilot)
        assert not app_of(pilot).screen.is_modal


async def test_letters_typed_at_once_after_a_key_that_asks_go_into_the_line(
    looked_at: Bench,
) -> None:
    """Goal: no letter acts as a key of its own. Method: all arrive before the first is handled."""
    async with opened(looked_at, view="snapshots") as pilot:
        await settled(pilot)
        app = app_of(pilot)
        keys = [("slash", "/"), ("p", "p"), ("q", "q"), ("B", "B")]

        for name, letter in keys:
            app.post_message(events.Key(name, letter))

        line = app.query_one(LineInput)
        await until(pilot, lambda: line.value == "pqB", what="the letters are in the line")
        assert app.query_one(PromptRow).is_asking
        assert "PAUSED" not in screen_text(pilot)
