"""Damage: from the chunk to snapshots and files, the ways out, and how much is verified."""

import shutil
from pathlib import Path

import pytest
from tests.harness.restore_view import view_of
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until
from textual.pilot import Pilot

from holdfast_tui.render.look import ASCII, Look
from holdfast_tui.screens.verify.view import VerifyView

API = "nginx/conf.d/api.conf"
NEWEST = "host/web1/2026-01-03T06:00:00Z"


async def _traced(pilot: Pilot[str]) -> VerifyView:
    view = app_of(pilot).views["verify"]
    assert isinstance(view, VerifyView)
    await settled(pilot)
    await until(pilot, lambda: view._files.rows, what="the damage is traced to files")
    await settled(pilot)
    return view


async def test_damage_is_traced_to_snapshots_and_files(looked_at: Bench) -> None:
    found = looked_at.program.json("affected", looked_at.damaged)
    async with opened(looked_at, view="verify", size=(120, 40)) as pilot:
        view = await _traced(pilot)

        shown = screen_text(pilot)

        assert looked_at.damaged[:12] in shown
        assert "in no other store" in shown
        assert [str(hit.snapshot) for hit in view._hits.rows] == [NEWEST]
        assert {file.path for file in view._files.rows} == {
            path for one in found for path in one["paths"]
        }
        assert "the earlier backup of 2026-01-02" in shown
        assert "Verified: 75.0%" in shown
        assert "1 failed" in shown
        assert max(map(len, shown.splitlines())) <= 120


async def test_step_by_step_in_a_small_terminal(looked_at: Bench) -> None:
    async with opened(looked_at, view="verify", size=(80, 24), look=ASCII) as pilot:
        await _traced(pilot)
        await press(pilot, "enter")
        assert "-Snapshots hit (1) -- 1/4" in screen_text(pilot)
        await press(pilot, "enter")
        assert "-Files hit" in screen_text(pilot)
        await press(pilot, "right_square_bracket")
        assert "-Ways out" in screen_text(pilot)
        await press(pilot, "right_square_bracket")
        assert "(root)" in screen_text(pilot)
        assert screen_text(pilot).isascii()


async def test_a_way_out_leads_to_the_undamaged_backup(looked_at: Bench) -> None:
    async with opened(looked_at, view="verify", size=(120, 40)) as pilot:
        view = await _traced(pilot)
        view._ways.focus()
        await press(pilot, "enter")

        await until(pilot, lambda: app_of(pilot).view_name == "restore")


async def test_b_goes_to_the_last_good_version_of_the_file(looked_at: Bench) -> None:
    async with opened(looked_at, view="verify", size=(120, 40)) as pilot:
        view = await _traced(pilot)
        view._files.focus()
        assert view._files.go_to((view._files.rows[0].snapshot, "etc.pxar", API))
        await press(pilot, "b")
        await until(pilot, lambda: "api.conf" in screen_text(pilot), what="the file in Restore")
        await settled(pilot)

        place = view_of(pilot).place
        assert str(place.snapshot) == "host/web1/2026-01-02T06:00:00Z"
        assert place.path == b"nginx/conf.d"
        assert view_of(pilot).current.path == API.encode()


async def test_another_store_with_a_good_copy_is_found(bench: Bench) -> None:
    other = bench.home / "other"
    shutil.copytree(bench.store, other)
    _heal(bench, other)
    config = bench.home / "config.toml"
    config.write_text(config.read_text() + f'[stores.other]\npath = "{other}"\n')
    async with opened(bench, view="verify", size=(120, 40)) as pilot:
        await _traced(pilot)

        await until(pilot, lambda: "✓ other" in screen_text(pilot))
        assert "other holds a good copy of the chunk and this snapshot" in screen_text(pilot)


async def test_a_chunk_that_is_there_again_is_not_lost(bench: Bench) -> None:
    _heal(bench, bench.store)
    async with opened(bench, view="verify", size=(120, 40)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: "no chunk is lost" in screen_text(pilot))

        assert "V verifies again" in screen_text(pilot)


def _heal(bench: Bench, store: Path) -> None:
    """What a backup of the same data does: the chunk is there again, as it was."""
    bad = next(store.rglob("*.bad"))
    good = bytearray(bad.read_bytes())
    good[-1] ^= 1  # what the bench has flipped
    (bad.parent / bench.damaged).write_bytes(good)


async def test_v_verifies_the_snapshots_hit(bench: Bench) -> None:
    async with opened(bench, view="verify", size=(120, 40)) as pilot:
        await _traced(pilot)
        await press(pilot, "V")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)
        assert "Verify host/web1 2026-01-03" in screen_text(pilot)
        await press(pilot, "enter")
        await until(
            pilot,
            lambda: (
                len([task for task in app_of(pilot).board.tasks if task.kind == "verify"]) == 3
                and not app_of(pilot).board.running
            ),
            what="a third verification ended",
        )


async def test_a_store_without_damage_says_what_is_due(bench: Bench) -> None:
    bench.program.run("forget", NEWEST, "--yes")
    async with opened(bench, view="verify", size=(120, 40)) as pilot:
        await settled(pilot)
        assert "No snapshot failed its last verification." in screen_text(pilot)
        await press(pilot, "V")
        await until(pilot, lambda: app_of(pilot).screen.is_modal)

        assert "--outdated-after 29" in screen_text(pilot)


async def test_read_only_follows_but_changes_nothing(looked_at: Bench) -> None:
    async with opened(
        looked_at, view="verify", size=(120, 40), read_only="started with --read-only"
    ) as pilot:
        view = await _traced(pilot)
        for key in "VR":
            await press(pilot, key)
            assert "is off (started with --read-only)" in screen_text(pilot)
        view._ways.focus()
        await press(pilot, "G", "k", "enter")
        assert "verify is off" in screen_text(pilot)


async def test_no_content_shows_no_file_names(looked_at: Bench) -> None:
    async with opened(looked_at, view="verify", size=(120, 40), no_content=True) as pilot:
        await settled(pilot)
        await until(pilot, lambda: looked_at.damaged[:12] in screen_text(pilot))
        await settled(pilot)

        assert "File names are off" in screen_text(pilot)


@pytest.mark.parametrize("theme", ["harbour", "paper"])
async def test_a_picture_of_it_can_be_made(looked_at: Bench, theme: str) -> None:
    async with opened(looked_at, view="verify", size=(120, 40), look=Look(theme=theme)) as pilot:
        await _traced(pilot)

        assert looked_at.damaged[:12] in app_of(pilot).export_screenshot()
