"""One snapshot in detail: what it shows, and what can be done with it."""

import pytest
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until
from textual.pilot import Pilot

from holdfast_tui.model.request import Target
from holdfast_tui.render.look import ASCII, Look
from holdfast_tui.screens.detail.view import DetailView

NEWEST = "host/web1/2026-01-03T06:00:00Z"
MIDDLE = "host/web1/2026-01-02T06:00:00Z"
TARGET = Target(store="main", group="host/web1", snapshot=NEWEST)


async def _read(pilot: Pilot[str]) -> DetailView:
    view = app_of(pilot).views["detail"]
    assert isinstance(view, DetailView)
    await settled(pilot)
    await until(pilot, lambda: view._facts is not None, what="the snapshot was read")
    await settled(pilot)
    return view


async def test_everything_at_once_where_there_is_room(looked_at: Bench) -> None:
    async with opened(looked_at, view="detail", target=TARGET, size=(120, 40)) as pilot:
        await _read(pilot)

        shown = screen_text(pilot)

        for word in ("etc.pxar", "web.conf", "1 lost", "Manifest", "upload", "not encrypted"):
            assert word in shown, word
        assert "failed" in shown.split("Verify history")[1]
        assert looked_at.damaged[:12] in shown
        assert "2026-01-02 06:00" in shown.split("Shares its chunks with")[1]
        assert max(map(len, shown.splitlines())) <= 120


async def test_one_part_at_a_time_where_there_is_not(looked_at: Bench) -> None:
    async with opened(looked_at, view="detail", target=TARGET, size=(80, 24), look=ASCII) as pilot:
        await _read(pilot)
        for title in ("Manifest", "Verify history", "Chunks", "Shares its chunks with", "Manifest"):
            assert f"-{title} -- " in screen_text(pilot)
            assert screen_text(pilot).isascii()
            await press(pilot, "right_square_bracket")


async def test_h_and_l_go_through_the_group(looked_at: Bench) -> None:
    async with opened(looked_at, view="detail", target=TARGET, size=(120, 40)) as pilot:
        await _read(pilot)
        await press(pilot, "l")
        assert "this is the newest snapshot" in screen_text(pilot)
        await press(pilot, "h")
        await _read(pilot)

        assert MIDDLE in screen_text(pilot)
        assert "all there" in screen_text(pilot)


async def test_enter_in_the_explorer_comes_here_and_esc_goes_back(looked_at: Bench) -> None:
    async with opened(looked_at, view="snapshots", size=(120, 40)) as pilot:
        await settled(pilot)
        await press(pilot, "e", "enter")
        await until(pilot, lambda: app_of(pilot).view_name == "detail")
        await _read(pilot)
        assert NEWEST in screen_text(pilot)
        await press(pilot, "escape")

        await until(pilot, lambda: app_of(pilot).view_name == "snapshots")


async def test_protecting_and_writing_a_note_are_shown_at_once(bench: Bench) -> None:
    async with opened(bench, view="detail", target=TARGET, size=(120, 40)) as pilot:
        await _read(pilot)
        await press(pilot, "L")
        await until(pilot, lambda: "yes, L lifts it" in screen_text(pilot))
        await press(pilot, "E", *"mine", "enter")
        await until(pilot, lambda: "note       mine" in screen_text(pilot))

        assert bench.program.json("show", NEWEST)["protected"] is True


async def test_a_snapshot_that_goes_says_so(bench: Bench) -> None:
    async with opened(bench, view="detail", target=TARGET, size=(120, 40)) as pilot:
        await _read(pilot)
        await press(pilot, "D")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        await press(pilot, *"web1", "enter")
        await until(pilot, lambda: "is gone" in screen_text(pilot))

        left = [row["snapshot"] for row in bench.program.json("snapshots", "host/web1")]
        assert NEWEST not in left


async def test_the_difference_to_the_one_before(looked_at: Bench) -> None:
    async with opened(looked_at, view="detail", target=TARGET, size=(120, 40)) as pilot:
        await _read(pilot)
        await press(pilot, "h")
        await _read(pilot)
        await press(pilot, "d")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)

        assert "api.conf" in screen_text(pilot)


@pytest.mark.parametrize("theme", ["harbour", "paper"])
async def test_a_picture_of_it_can_be_made(looked_at: Bench, theme: str) -> None:
    import xml.etree.ElementTree as ET

    async with opened(
        looked_at, view="detail", target=TARGET, size=(120, 40), look=Look(theme=theme)
    ) as pilot:
        await _read(pilot)

        picture = app_of(pilot).export_screenshot()

        assert ET.fromstring(picture) is not None
        assert "etc.pxar" in picture
