"""Restore of encrypted snapshots: the key is named with i, and nobody else learns its passphrase."""

import os
from pathlib import Path

from tests.harness.restore_view import answer, contents, ended, mark, planned, restore_to, view_of
from tests.harness.tui import Bench, app_of, opened, press, screen_text, settled, until

from holdfast_tui.model.request import Target

SECRET = "correct horse"
SNAPSHOT = "host/vault/2026-01-05T06:00:00Z"


def _encrypted(bench: Bench) -> Path:
    """A snapshot of etc under a key with a passphrase; the store's configuration names no key."""
    key = bench.home / "key.json"
    secret = {"HOLDFAST_PASSWORD": SECRET}
    bench.program.run("key", "create", key, env=secret)
    words = ("backup", f"etc.pxar:{bench.files}", "--id", "vault", "--time", SNAPSHOT[11:])
    bench.program.run(*words, "--keyfile", key, env=secret)
    return key


async def test_an_encrypted_file_comes_back_once_the_key_is_named(bench: Bench) -> None:
    key, target = _encrypted(bench), bench.home / "back"
    where = Target(store="main", snapshot=SNAPSHOT, archive="etc.pxar")
    async with opened(bench, view="restore", size=(100, 30), target=where) as pilot:
        view = view_of(pilot)
        await until(
            pilot, lambda: "i names the key" in screen_text(pilot), what="the key is missed"
        )
        assert "nginx" not in screen_text(pilot)
        await press(pilot, "i")
        await answer(pilot, str(key))
        await answer(pilot, "not it")
        assert "does not open the key" in screen_text(pilot)
        await press(pilot, "i")
        await answer(pilot, str(key))
        await press(pilot, *"correct")
        assert "correct" not in screen_text(pilot)
        await answer(pilot, SECRET)
        await until(pilot, lambda: "nginx/" in screen_text(pilot), what="names are readable")
        await settled(pilot)

        await restore_to(pilot, target)
        await mark(pilot, b"plain.txt", b"nginx")
        assert f"--keyfile {key}" in " ".join((await planned(pilot)).split())
        await press(pilot, "enter")
        assert (await ended(pilot)).word == "ok"

        before = contents(bench.files)
        assert contents(target)
        assert contents(target).items() <= before.items()
        assert (
            view.hold.options.keyfile is None
        )  # backups of other stores are not encrypted with it
        assert "HOLDFAST_PASSWORD" not in os.environ
        app_of(pilot).action_quit_now()
    kept = [path.read_bytes() for path in (bench.home / "state").rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET.encode() in text for text in kept)


async def test_a_key_without_a_passphrase_is_used_at_once(bench: Bench) -> None:
    key = bench.home / "key.json"
    bench.program.run("key", "create", key, "--kdf", "none")
    words = ("backup", f"etc.pxar:{bench.files}", "--id", "vault", "--time", SNAPSHOT[11:])
    bench.program.run(*words, "--keyfile", key)
    where = Target(store="main", snapshot=SNAPSHOT, archive="etc.pxar")
    async with opened(
        bench, view="restore", target=where, read_only="started with --read-only"
    ) as pilot:
        await until(
            pilot, lambda: "i names the key" in screen_text(pilot), what="the key is missed"
        )
        await press(pilot, "i")
        await answer(pilot, str(bench.home / "web.conf"))
        assert "key" in screen_text(pilot).splitlines()[-2]
        await press(pilot, "i")
        await answer(pilot, str(key))

        await until(pilot, lambda: "nginx/" in screen_text(pilot), what="names are readable")
