"""The restore view with keys alone: find, mark, plan, restore; and compare what came back."""

import os
from pathlib import Path

import pytest
from tests.harness import loops
from tests.harness.restore_view import (
    answer,
    contents,
    ended,
    files_of,
    go,
    keys_of,
    mark,
    marked,
    planned,
    restore_to,
    view_of,
)
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until
from textual.pilot import Pilot

from holdfast.archive.open import OpenSnapshot
from holdfast.datastore.store import Access, Datastore
from holdfast.ids import SnapshotId

API = "nginx/conf.d/api.conf"


async def test_a_file_of_an_old_snapshot_comes_back_from_the_dashboard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(bench.home))
    async with opened(bench, size=(80, 24)) as pilot:
        await settled(pilot)
        await go(pilot, "3", "enter", "j", "j", "enter", "enter", "f", "a", "p", "i", "enter")
        assert API in screen_text(pilot)
        await go(pilot, "space")
        plan = await planned(pilot)
        assert "1 new" in plan
        await press(pilot, "enter")
        job = await ended(pilot)

        assert job.word == "ok"
        (target,) = (bench.home / "restore").iterdir()
        assert contents(target)[API.encode()] == b"server { # first\n}\n" * 9
        assert "ok" in screen_text(pilot)


async def test_hostile_names_are_shown_harmlessly_and_restored_exactly(bench: Bench) -> None:
    target = bench.home / "back"
    async with opened(bench, view="restore", size=(100, 30)) as pilot:
        await files_of(pilot, older=2)
        shown = screen_text(pilot)
        assert "\x1b" not in shown
        assert "\\x1b]0;owned\\x07title" in shown
        assert "\\u202egnp.exe" in shown
        await restore_to(pilot, target)
        # everything but the directory, one by one: exact patterns
        view = view_of(pilot)
        names = [row.path for row in view.left.rows if not row.is_directory]
        assert len(names) > 7
        await mark(pilot, *names)
        await planned(pilot)
        await press(pilot, "enter")
        await ended(pilot)

        before = contents(bench.files)
        assert set(contents(target)) == set(names)
        for name in names:
            assert contents(target)[name] == before[name]


async def test_names_that_are_no_text_are_copied_and_offered_harmlessly(bench: Bench) -> None:
    odd = b"\xff\x1b]0;x\x07"
    os.mkdir(os.path.join(os.fsencode(bench.home), odd))
    async with opened(bench, view="restore", size=(100, 30)) as pilot:
        view = await files_of(pilot, older=2)
        assert view.left.go_to(b"\xff\xfe not utf-8")
        await press(pilot, "y")
        assert "copied: \\xff\\xfe not utf-8" in screen_text(pilot)
        await restore_to(pilot, bench.home)
        await press(pilot, "tab")
        assert view.right.go_to(odd)
        await go(pilot, "l", "w")

        assert "\x1b" not in screen_text(pilot)
        assert os.fsencode(view.target).endswith(odd)


async def test_a_marked_directory_leaves_out_what_is_unmarked_in_it(bench: Bench) -> None:
    target = bench.home / "back"
    async with opened(bench, view="restore", size=(120, 40)) as pilot:
        view = await files_of(pilot, older=2)
        await restore_to(pilot, target)
        await mark(pilot, b"nginx")
        await go(pilot, "k", "l")
        assert view.place.path == b"nginx"
        assert [view.left.mark_of(row) for row in view.left.rows] == ["*", "*"]
        await mark(pilot, b"nginx.conf")
        assert [view.left.mark_of(row) for row in view.left.rows] == ["*", " "]
        await go(pilot, "h")
        assert "/nginx/" in screen_text(pilot)
        assert "1 marked, 1 left out" in screen_text(pilot)
        await planned(pilot)
        await press(pilot, "enter")
        await ended(pilot)

        assert set(contents(target)) == {b"nginx", b"nginx/conf.d", API.encode()}


async def test_patterns_mark_and_the_marks_stay_in_other_snapshots(bench: Bench) -> None:
    folder = bench.home / "pair"
    folder.mkdir()
    for day, name in ((1, "new-first.txt"), (2, "new-second.txt")):
        (folder / name).write_text(name)
        (folder / "other").write_text(name)
        at = f"2026-01-0{day}T06:00:00Z"
        bench.program.run("backup", f"pair.pxar:{folder}", "--id", "pair", "--time", at)
    async with opened(bench, view="restore") as pilot:
        await settled(pilot)
        view = view_of(pilot)
        row = next(row for row in view.left.rows if row.group.id == "pair")
        view.left.go_to(row.key)
        await go(pilot, "enter", "enter")
        await press(pilot, "plus")
        await answer(pilot, "new-*")
        assert marked(pilot) == [b"new-first.txt", b"new-second.txt"]
        await press(pilot, "minus")
        await answer(pilot, "second")
        await go(pilot, "left_square_bracket")

        assert view.place.snapshot is not None
        assert view.place.snapshot.time_name == "2026-01-01T06:00:00Z"
        assert marked(pilot) == [b"new-first.txt"]
        await go(pilot, "right_square_bracket", "right_square_bracket")
        assert "there is no newer snapshot" in screen_text(pilot)


async def test_a_restore_that_was_interrupted_goes_on_with_what_is_left(bench: Bench) -> None:
    target = bench.home / "back"
    async with opened(bench, view="restore", size=(120, 40)) as pilot:
        view = await files_of(pilot, older=2)
        assert view.right.display
        assert view.right.size.width > 30
        await restore_to(pilot, target)
        await mark(pilot, b"nginx", b"plain.txt")
        await planned(pilot)
        await press(pilot, "enter")
        await ended(pilot)
        whole = contents(target)
        # as if it had been stopped: one file is missing, one was begun
        (target / API).unlink()
        (target / "plain.txt").write_bytes(b"beg")
        (target / "plain.txt").chmod(0o200)
        plan = await planned(pilot)
        assert "1 the same already" in plan
        assert "1 begun before" in plan
        await press(pilot, "enter")
        await ended(pilot)

        assert contents(target) == whole


async def test_conflicts_are_counted_before_and_follow_the_rule(bench: Bench) -> None:
    target = bench.home / "back"
    (target / "nginx" / "conf.d").mkdir(parents=True)
    (target / API).write_text("mine\n")
    async with opened(bench, view="restore") as pilot:
        view = await files_of(pilot, older=2)
        await restore_to(pilot, target)
        await mark(pilot, b"nginx")
        plan = await planned(pilot)
        assert "restored beside, as NAME.restored" in plan
        await press(pilot, "escape")
        await go(pilot, "c")
        assert "left as they are" in await planned(pilot)
        await planned(pilot, "c")
        assert "1 replaced" in await planned(pilot, "c")
        await press(pilot, "enter")
        await pilot.pause(0.2)
        assert "Type 1 to go on" in screen_text(pilot)
        await press(pilot, "2", "enter")
        assert "that is another word" in screen_text(pilot)
        assert (target / API).read_text() == "mine\n"
        await press(pilot, "backspace", "1", "enter")
        await ended(pilot)

        assert (target / API).read_text() == "server { # first\n}\n" * 9
        await go(pilot, "space")
        assert "keep both" in screen_text(pilot)  # replacing is chosen for each restore
        assert view.host is not None
        assert view.host.exists


async def test_files_are_viewed_as_text_or_hex_and_never_reach_the_terminal_raw(
    bench: Bench,
) -> None:
    async with opened(bench, view="restore", size=(100, 40)) as pilot:
        view = await files_of(pilot, older=2)
        view.left.go_to(b"big.bin")
        await go(pilot, "o")
        assert "00000010" in screen_text(pilot)
        view.left.go_to(b"nginx")
        await go(pilot, "l", "l")
        assert "1 server { # first" in screen_text(pilot)
        await go(pilot, "o")
        assert "1 server { # first" not in screen_text(pilot)


async def test_d_shows_what_differs_from_the_disk(bench: Bench) -> None:
    async with opened(bench, view="restore", size=(100, 40)) as pilot:
        view = await files_of(pilot, older=2)
        await restore_to(pilot, bench.files)
        view.left.go_to(b"nginx")
        await go(pilot, "l", "l")
        assert "c differs" in screen_text(pilot)
        await go(pilot, "d")

        shown = screen_text(pilot)
        assert "-server { # first" in shown
        assert "+server { # third" in shown


async def test_versions_of_one_path_collapse_and_lead_to_their_snapshot(bench: Bench) -> None:
    async with opened(bench, view="restore", size=(100, 40)) as pilot:
        view = await files_of(pilot, older=2)
        view.left.go_to(b"plain.txt")
        await go(pilot, "t")
        await pilot.pause(0.1)
        assert "plain.txt: 1 version in " in screen_text(pilot)
        await go(pilot, "escape")
        view.left.go_to(b"nginx")
        await go(pilot, "l", "l", "t")
        await pilot.pause(0.1)
        assert "api.conf: " in screen_text(pilot)
        await go(pilot, "G", "enter")

        assert str(view.place.snapshot) == bench.snapshots[0]
        assert view.place.path == b"nginx/conf.d"


async def test_a_name_is_found_in_all_snapshots_of_the_group(bench: Bench) -> None:
    async with opened(bench, view="restore", size=(100, 40)) as pilot:
        view = await files_of(pilot, older=2)
        await press(pilot, "e", *keys_of("new-first"), "enter")
        await until(pilot, lambda: pilot.app.screen.is_modal, what="the list")
        assert "new-first.txt" in screen_text(pilot)
        await go(pilot, "enter")

        assert str(view.place.snapshot) in bench.snapshots
        assert view.left.current_key == b"new-first.txt"


def lose_chunks(bench: Bench, snapshot: str, filename: str, path: bytes | None) -> None:
    """Remove the chunks of one file, or of a whole stream, from the store."""
    store = Datastore.open(str(bench.store), Access.READ_ONLY)
    opened = OpenSnapshot(store, SnapshotId.parse(snapshot))
    with opened:
        if path is None:
            index = store.open_index(opened.snapshot, filename)
            digests = [index.digest_at(at) for at in range(index.chunk_count)]
        else:
            tree = opened.tree(filename)
            entry = tree.accessor.lookup(path)
            assert entry is not None
            digests = [digest for digest, _start, _length in tree.extents(entry)]
    for digest in digests:
        (bench.store / ".chunks" / digest.hex()[:4] / digest.hex()).unlink()


async def test_damaged_files_are_marked_and_said_in_the_plan(bench: Bench) -> None:
    lose_chunks(bench, bench.snapshots[0], "etc.pxar", b"big.bin")
    async with opened(bench, view="restore", size=(100, 40)) as pilot:
        await files_of(pilot, older=2)
        shown = screen_text(pilot)
        assert "X damaged" in next(line for line in shown.splitlines() if "big.bin" in line)
        await go(pilot, "asterisk")
        plan = await planned(pilot)

        assert "1 damaged" in plan
        assert "damaged files are left out" in plan


async def test_an_archive_that_cannot_be_read_says_so(bench: Bench) -> None:
    lose_chunks(bench, bench.snapshots[0], "etc.mpxar.didx", None)
    async with opened(bench, view="restore", size=(80, 24)) as pilot:
        await files_of(pilot, older=2)

        shown = screen_text(pilot)
        assert "X chunk" in shown or "✗ chunk" in shown
        await go(pilot, "h")
        assert "web.conf" in screen_text(pilot)


async def test_an_image_wants_its_target_typed(bench: Bench) -> None:
    target = bench.home / "disk.back"
    async with opened(bench, view="restore", size=(80, 24)) as pilot:
        await settled(pilot)
        await go(pilot, "j", "enter", "enter")
        assert "disk image" in screen_text(pilot)
        await restore_to(pilot, target)
        assert "into a new file" in await planned(pilot)
        await press(pilot, "enter")
        await pilot.pause(0.2)
        assert "Type disk.back to go on" in screen_text(pilot)
        await press(pilot, *"disk", "full_stop", *"back", "enter")
        await ended(pilot)

        assert target.read_bytes() == (bench.home / "disk.raw").read_bytes()


async def test_an_image_overwrites_a_file_only_when_its_name_is_typed(bench: Bench) -> None:
    target = bench.home / "disk.old"
    target.write_bytes(b"mine" * 1000)
    async with opened(bench, view="restore", size=(80, 24)) as pilot:
        await _over(pilot, target)
        assert "the file is overwritten with 4.0 MiB:" in screen_text(pilot)
        assert "what is there is overwritten" in screen_text(pilot)
        await press(pilot, *"disk", "enter")
        assert "that is another word" in screen_text(pilot)
        assert target.read_bytes() == b"mine" * 1000
        await press(pilot, "ctrl+u", *keys_of("disk.old"), "enter")
        await ended(pilot)

        assert target.read_bytes() == (bench.home / "disk.raw").read_bytes()


@pytest.mark.skipif(not loops.are_possible(), reason="only root can make loop devices")
async def test_an_image_is_written_onto_a_device_when_its_name_is_typed(bench: Bench) -> None:
    wanted = (bench.home / "disk.raw").read_bytes()
    disk = bench.home / "disk.back"
    disk.write_bytes(bytes(range(256)) * (len(wanted) // 256))
    with loops.device_of(disk) as device:
        async with opened(bench, view="restore", size=(80, 24)) as pilot:
            await _over(pilot, device)
            shown = screen_text(pilot)
            assert "the device is overwritten with 4.0 MiB:" in shown
            assert str(device) in shown
            await press(pilot, "escape")
            assert disk.read_bytes()[:256] == bytes(range(256))
            await planned(pilot)
            await press(pilot, "enter")
            await until(pilot, lambda: "to go on:" in screen_text(pilot), what="the question")
            await press(pilot, *device.name, "enter")
            assert (await ended(pilot)).word == "ok"
    assert disk.read_bytes() == wanted


async def _over(pilot: Pilot[str], target: Path) -> None:
    """To the question before the image of vm/100 is written over `target`."""
    await settled(pilot)
    await go(pilot, "j", "enter", "enter")
    await restore_to(pilot, target)
    await planned(pilot)
    await press(pilot, "enter")
    await until(pilot, lambda: "to go on:" in screen_text(pilot), what="the question")


async def test_many_marks_go_through_a_list_of_exact_paths(bench: Bench) -> None:
    folder = bench.home / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"file[{number}]*").write_text(str(number))
    bench.program.run("backup", f"many.pxar:{folder}", "--id", "many")
    target = bench.home / "back"
    async with opened(bench, view="restore") as pilot:
        await settled(pilot)
        view = view_of(pilot)
        row = next(row for row in view.left.rows if row.group.id == "many")
        view.left.go_to(row.key)
        await go(pilot, "enter", "enter")
        await restore_to(pilot, target)
        await go(pilot, "asterisk")
        await mark(pilot, b"file[7]*")
        assert "--include-from0" in await planned(pilot)
        await press(pilot, "enter")
        await ended(pilot)

        expected = {f"file[{number}]*".encode() for number in range(60) if number != 7}
        assert set(contents(target)) == expected


async def test_what_was_marked_is_offered_again_after_a_dropped_line(bench: Bench) -> None:
    target = bench.home / "back"
    async with opened(bench, view="restore") as pilot:
        await files_of(pilot, older=2)
        await restore_to(pilot, target)
        await mark(pilot, b"plain.txt")
        app_of(pilot)._leave_at_once()
    async with opened(bench, view="restore") as pilot:
        await settled(pilot)
        await go(pilot, "2", "3")
        assert "R goes on" in screen_text(pilot)
        await go(pilot, "R")
        assert "1 marked" in screen_text(pilot)
        await planned(pilot)
        await press(pilot, "enter")
        await ended(pilot)

        assert set(contents(target)) == {b"plain.txt"}


async def test_metadata_is_left_out_when_asked(bench: Bench) -> None:
    async with opened(bench, view="restore", size=(100, 40)) as pilot:
        await files_of(pilot, older=2)
        await go(pilot, "m", "space", "enter")
        assert "without owner" in screen_text(pilot)
        await mark(pilot, b"plain.txt")

        assert "--no-owner" in await planned(pilot)


async def test_read_only_browses_but_has_no_capitals(looked_at: Bench) -> None:
    async with opened(looked_at, view="restore", read_only="started with --read-only") as pilot:
        view = await files_of(pilot, older=1)
        await mark(pilot, b"plain.txt")
        await go(pilot, "R")

        assert "review is off (started with --read-only)" in screen_text(pilot)
        assert view.left.rows


async def test_without_content_no_name_is_shown(looked_at: Bench) -> None:
    async with opened(looked_at, view="restore", no_content=True) as pilot:
        await files_of(pilot, older=1)

        shown = screen_text(pilot)
        assert "not shown (started with --no-content)" in shown
        assert "plain.txt" not in shown


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 15)])
async def test_every_level_fits_the_terminal(
    looked_at: Bench, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    async with opened(looked_at, view="restore", size=size) as pilot:
        await settled(pilot)
        for keys in ([], ["enter"], ["j", "enter"], ["enter"], ["o"], ["tab"]):
            await go(pilot, *keys)
            lines = screen_text(pilot).splitlines()
            assert len(lines) == size[1]
            assert all(len(line) <= size[0] for line in lines)


async def test_the_twin_is_the_command_line_of_the_same(looked_at: Bench) -> None:
    async with opened(looked_at, view="restore") as pilot:
        view = await files_of(pilot, older=1)
        await restore_to(pilot, Path("/tmp/x y"))
        await mark(pilot, b"with blank")

        assert view.twin() == (
            *("restore", looked_at.snapshots[1], "/tmp/x y", "--archive", "etc.pxar"),
            *("--include", "/with blank", "--dry-run"),
        )
