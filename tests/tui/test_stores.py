"""The stores and the first steps, with keys, to real stores."""

from collections.abc import Iterator

import pytest
from tests.harness.program import Program
from tests.harness.restore_view import keys_of
from tests.harness.tui import (
    Bench,
    app_of,
    bench_directory,
    opened,
    press,
    screen_text,
    settled,
    until,
)

from holdfast.config.settings import Settings
from holdfast_tui.model.first_steps import commands, problem

SECRET = "horse battery"
VALUES = {
    "path": "/srv/b",
    "name": "",
    "keyfile": "",
    "passphrase": "",
    "again": "",
    "sources": "etc.pxar:/etc",
    "schedule": "21:00",
    "keep": "7 4",
    "verify": "last",
    "now": "yes",
}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A home without any configuration."""
    with bench_directory() as place:
        home = place / "home"
        monkeypatch.setenv("HOME", str(home))
        (home / "etc").mkdir(parents=True)
        (home / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
        yield Bench(home, Program(home), [])


def test_pages_say_what_is_wrong_with_them() -> None:
    assert not problem("store", VALUES, taken=[])
    assert "begins with /" in problem("store", {**VALUES, "path": "backup"}, taken=[])
    assert "already" in problem("store", VALUES, taken=["b"])
    assert "cannot name" in problem("store", {**VALUES, "name": "a b"}, taken=[])
    assert not problem("backup", VALUES, taken=[])
    assert problem("backup", {**VALUES, "schedule": "25:00"}, taken=[])
    assert "three numbers" in problem("backup", {**VALUES, "keep": "many"}, taken=[])
    assert "verify is" in problem("backup", {**VALUES, "verify": "maybe"}, taken=[])
    assert not problem("backup", {**VALUES, "sources": "", "verify": ""}, taken=[])


def test_a_passphrase_is_typed_twice_and_only_for_a_key() -> None:
    good = {**VALUES, "keyfile": "/k", "passphrase": "horse", "again": "horse"}
    assert not problem("key", good, taken=[])
    assert "differ" in problem("key", {**good, "again": "house"}, taken=[])
    assert "at least" in problem("key", {**good, "passphrase": "x", "again": "x"}, taken=[])
    assert "wants a key" in problem("key", {**good, "keyfile": ""}, taken=[])
    (create, *_rest) = commands(good, adopts=False, makes_key=True)
    assert create == ("key", "create", "/k")


def test_pages_become_commands() -> None:
    made = commands({**VALUES, "keyfile": "/k"}, adopts=False, makes_key=True)

    assert [words[:2] for words in made] == [
        ("key", "create"),
        ("init", "/srv/b"),
        ("job", "add"),
        ("job", "run"),
    ]
    assert made[1][2:] == ("--name", "b", "--keyfile", "/k")
    assert "--keep-daily" in made[2]
    assert commands({**VALUES, "sources": ""}, adopts=True, makes_key=False) == [
        ("init", "/srv/b", "--name", "b", "--adopt")
    ]


async def test_the_store_under_the_cursor_tells_its_facts(looked_at: Bench) -> None:
    async with opened(looked_at, view="stores", size=(80, 24)) as pilot:
        await settled(pilot)
        shown = screen_text(pilot)

        assert "> main" in shown
        assert str(looked_at.store)[:40] in shown
        assert "4 in 2 groups" in shown
        assert "not encrypted" in shown
        await press(pilot, "enter")
        await settled(pilot)
        assert app_of(pilot).view_name == "snapshots"


async def test_a_key_s_fingerprint_and_what_is_broken_are_shown(bench: Bench) -> None:
    key = bench.home / "key.json"
    fingerprint = bench.program.json("key", "create", key, "--kdf", "none")["fingerprint"]
    config = bench.home / "config.toml"
    config.write_text(
        config.read_text() + f'keyfile = "{key}"\n[stores.gone]\npath = "/nonexistent/store"\n'
    )
    async with opened(bench, view="stores", size=(120, 40)) as pilot:
        await settled(pilot)
        assert fingerprint[:40] in screen_text(pilot)
        await press(pilot, "G")
        await settled(pilot)

        assert "unusable" in screen_text(pilot)


async def test_the_first_steps_come_by_themselves_and_end_with_a_backup(fresh: Bench) -> None:
    store, key = fresh.home / "backup", fresh.home / "key.json"
    async with opened(fresh, size=(80, 24)) as pilot:
        await until(pilot, lambda: pilot.app.screen.is_modal, what="the first steps")
        await pilot.pause(0.3)
        assert "This terminal and host" in screen_text(pilot)
        await press(pilot, "enter", "ctrl+u", *keys_of(str(store)), "enter", "enter")
        await press(pilot, *keys_of(str(key)))
        await press(pilot, "escape")
        assert not store.exists()
        assert not (fresh.home / "config.toml").exists()

        await press(pilot, "8", "F")
        await press(pilot, "enter", "enter", "enter")
        await pilot.pause(0.2)
        assert str(key)[-12:] in screen_text(pilot)
        await press(pilot, "enter", *keys_of(SECRET), "enter", *keys_of(SECRET))
        assert SECRET not in screen_text(pilot)
        await press(pilot, "enter", "ctrl+u", *keys_of(f"etc.pxar:{fresh.home / 'etc'}"))
        await press(pilot, "enter", "enter", "enter", "enter", "enter")
        await until(pilot, lambda: "job add" in screen_text(pilot), what="the commands")
        await pilot.press("enter")
        await until(pilot, lambda: "backup" in app_of(pilot).store_facts, what="the new store")
        await until(
            pilot,
            lambda: (
                "backup" in app_of(pilot).catalogues and app_of(pilot).catalogues["backup"].count
            ),
            what="the first backup",
        )

    settings = Settings.read(str(fresh.home / "config.toml"))
    job = settings.jobs["backup-backup"]
    assert (job.keep.daily, job.keep.weekly, job.keep.monthly) == (7, 4, 6)
    assert settings.stores["backup"].keyfile == str(key)
    (snapshot,) = fresh.program.json("snapshots")
    assert snapshot["snapshot"].startswith("host/")
    assert snapshot["files"][0]["crypt_mode"] == "encrypt"
    found = fresh.program.run("key", "info", key, "--json").text
    assert "scrypt" in found
    state = [path for path in (fresh.home / "state").rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in state)


async def test_a_store_that_is_there_is_only_remembered(bench: Bench) -> None:
    (bench.home / "config.toml").write_text("")
    async with opened(bench, view="stores", size=(80, 24)) as pilot:
        await until(pilot, lambda: pilot.app.screen.is_modal, what="the first steps")
        await press(pilot, "escape")
        await press(pilot, "A", "ctrl+u", *keys_of(str(bench.store)), "enter", "enter", "enter")
        await until(pilot, lambda: "--adopt" in screen_text(pilot), what="the commands")
        await press(pilot, "enter")
        await until(pilot, lambda: "store" in app_of(pilot).store_facts, what="the store")

    assert Settings.read(str(bench.home / "config.toml")).stores["store"].path == str(bench.store)


async def test_a_directory_with_other_things_in_it_is_refused_before_anything(fresh: Bench) -> None:
    async with opened(fresh, view="stores", size=(80, 24)) as pilot:
        await until(pilot, lambda: pilot.app.screen.is_modal, what="the first steps")
        await press(pilot, "escape", "A", "ctrl+u", *keys_of(str(fresh.home / "etc")))
        await press(pilot, "enter", "enter", "enter")
        await until(pilot, lambda: "neither empty" in screen_text(pilot), what="the refusal")
        await press(pilot, "enter")

        assert pilot.app.screen.is_modal
        assert not (fresh.home / "config.toml").exists()


async def test_read_only_has_no_first_steps(fresh: Bench) -> None:
    async with opened(fresh, view="stores", read_only="started with --read-only") as pilot:
        await settled(pilot)
        assert not pilot.app.screen.is_modal
        await press(pilot, "A")

        assert "add is off" in screen_text(pilot)
