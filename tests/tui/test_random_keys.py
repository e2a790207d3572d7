"""100,000 random keys over all screens with a job running: no crash, no write, no odd command.

Keys are handed to the app as its driver would, a hundred at a time. In read-only mode nothing may
be written and no program started. Otherwise whatever the app would start is not run here: the real
parser of the command line checks it, and the answer is "not in this test".
"""

import random
from collections.abc import Sequence

import pytest
from tests.harness.tui import Bench, app_of, opened, screen_text, settled
from tests.harness.write_watch import writes_noted
from textual import events
from textual.pilot import Pilot

from holdfast.cli import arguments, commands
from holdfast_tui import keymap
from holdfast_tui.launcher import Outcome
from holdfast_tui.render.look import ASCII, Look

KEYS = 25_000
BATCH = 100
LETTERS = [*"abcdefghijklmnoprstuvwxyzABCDEFGHIJKLMNOPRSTUVWXYZ0123456789"]
LEAVING = {"q", "Q", "ctrl+z"}
CHARACTERS = {"space": " ", "slash": "/", "colon": ":", "question_mark": "?", "plus": "+"}


def _all_keys() -> list[str]:
    named = {
        name for table in keymap.TABLES.values() for key in table for name in key.keys.split(",")
    }
    often = ["escape", "enter", "tab", "j", "k", "down", "G", "g"] * 6 + [*"12345678"] * 2
    return [*sorted((named | set(LETTERS) | {"backspace"}) - LEAVING), *often]


class CheckingLauncher:
    """Parses commands with the program's own parser and runs none."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def start(self, store: str | None, words: Sequence[str], *, secret: bytes = b"") -> Outcome:
        return self.run(store, words, secret=secret)

    def run(self, store: str | None, words: Sequence[str], *, secret: bytes = b"") -> Outcome:
        del store, secret
        before, name, rest = arguments.split_command(list(words))
        assert name is not None, words
        command = commands.find(name)
        assert command is not None, words
        arguments.parse(arguments.parser_of(command, name), [*before, *rest])
        self.seen.add(name)
        return Outcome(is_ok=False, said="not in this test")


async def _type(pilot: Pilot[str], rng: random.Random, count: int) -> None:
    app = app_of(pilot)
    keys = _all_keys()
    for batch in range(count // BATCH):
        for name in rng.choices(keys, k=BATCH):
            character = CHARACTERS.get(name, name if len(name) == 1 else None)
            app.post_message(events.Key(name, character))
        await pilot.pause()
        assert app.is_running, f"the app has ended in batch {batch}"
        if batch % 40 == 0:
            size = rng.choice(((80, 24), (120, 40), (60, 15), (100, 30)))
            await pilot.resize_terminal(*size)
            shown = screen_text(pilot)
            assert all(line.isprintable() for line in shown.splitlines()), shown
    for _ in range(8):  # a dialog that is open would wait for ever
        app.post_message(events.Key("escape", None))
        await pilot.pause()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
async def test_random_keys_change_nothing_in_read_only_mode(bench: Bench, seed: int) -> None:
    _start_a_job(bench)
    with writes_noted() as writes:
        async with opened(bench, read_only="for this test", look=ASCII) as pilot:
            await settled(pilot)
            await _type(pilot, random.Random(seed), KEYS)
            await settled(pilot)
        assert writes == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [3, 4])
async def test_random_keys_ask_only_for_commands_that_exist(bench: Bench, seed: int) -> None:
    _start_a_job(bench)
    launcher = CheckingLauncher()
    async with opened(bench, look=Look(theme="ember")) as pilot:
        await settled(pilot)
        app_of(pilot)._launcher = launcher
        await _type(pilot, random.Random(seed), KEYS)
        await settled(pilot)
    assert "verify" in launcher.seen


def _start_a_job(bench: Bench) -> None:
    path = bench.home / "slow.raw"
    path.write_bytes(bytes(range(256)) * 8_000)
    bench.program.run(
        *("backup", f"slow.img:{path}", "--type", "vm", "--id", "7"),
        *("--chunk-size", "64", "--read-limit", "30K", "--detach"),
    )
