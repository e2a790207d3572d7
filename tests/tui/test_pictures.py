"""Every screen at 80x24 and 120x40, dark and light, against what must hold and what was recorded.

The first test looks at a store like any other: frames are whole, text is the same in all colours.
The second compares each letter and colour with a picture in tests/golden/screens. After a change
that is meant, record them again and look at what git shows:

    RECORD_SCREENS=1 .venv/bin/python -m pytest -q tests/tui/test_pictures.py
"""

import difflib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import pictures
from tests.harness.tui import Bench, app_of, opened, screen_text, settled
from textual.pilot import Pilot

from holdfast_tui.model.request import Target
from holdfast_tui.render.clean import width_of
from holdfast_tui.render.look import Look
from holdfast_tui.render.theme import RICH_THEMES
from holdfast_tui.screens import VIEWS

SCREENS = [name for name in VIEWS if name != "detail"]
BARS = re.compile(r"[\u2581-\u258f]+")  # other tests fill and free the same disk
CHANGING = re.compile(r"\d\d:\d\d(:\d\d)?|\b\d+ (s|min)\b|[\d.,]+ ?[KMGT]?i?B(/s)?")
GOLDEN = Path(__file__).parents[1] / "golden" / "screens"
IS_RECORDING = bool(os.environ.get("RECORD_SCREENS"))
REST_S, WAIT_S = 0.2, 30.0
SNAPSHOT = "host/web1/2026-01-03T06:00:00Z"
TARGETS = {
    "detail": Target(store="main", snapshot=SNAPSHOT),
    "restore": Target(store="main", snapshot=SNAPSHOT, archive="etc.pxar"),
}
WINDOW_DECORATION = {"#292929", "#ff5f57", "#febc2e", "#28c840", "#c5c8c6", "#ffffff"}


def _colours(svg: str) -> set[str]:
    return {colour.lower() for colour in re.findall(r"#[0-9a-fA-F]{6}", svg)}


def _without_what_changes(text: str) -> list[str]:
    return [
        re.sub(r"\s+", " ", CHANGING.sub("0", BARS.sub("", line))).strip()
        for line in text.splitlines()
    ]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("view", SCREENS)
async def test_a_screen_fits_its_terminal_in_dark_and_light(
    looked_at: Bench, view: str, size: tuple[int, int]
) -> None:
    shown = {}
    for theme in ("harbour", "paper"):
        async with opened(looked_at, view=view, size=size, look=Look(theme=theme)) as pilot:
            await settled(pilot)
            shown[theme] = text = await _text_at_rest(pilot)
            svg = app_of(pilot).export_screenshot()
        lines = text.splitlines()
        assert len(lines) <= size[1]
        assert all(width_of(line) <= size[0] for line in lines)
        assert all(line.isprintable() for line in lines)
        _frames_are_whole(lines)
        assert f"{SCREENS.index(view) + 1} " in lines[1]
        assert "help" in lines[-1]
        theme_colours = {
            value.lower()
            for name in RICH_THEMES[theme].__dataclass_fields__
            if isinstance(value := getattr(RICH_THEMES[theme], name), str)
        }
        foreign = _colours(svg) - theme_colours - WINDOW_DECORATION
        assert len(foreign) <= 3, foreign  # shades that Textual mixes for its own input line
    # the first line says where the cursor is, which may move once more when facts arrive
    dark, light = (_without_what_changes(shown[theme])[1:] for theme in ("harbour", "paper"))
    assert dark == light


async def _text_at_rest(pilot: Pilot[str]) -> str:
    """The screen's text once it stays the same for a moment."""
    before: list[str] = []
    for _ in range(20):
        text = _without_what_changes(screen_text(pilot))
        if text == before:
            break
        before = text
        await pilot.pause(0.3)
    return screen_text(pilot)


def _frames_are_whole(lines: list[str]) -> None:
    """Each box that begins on a line ends on it, and below every corner its side goes on."""
    for row, line in enumerate(lines):
        assert line.count("╭") == line.count("╮"), line
        assert line.count("╰") == line.count("╯"), line
        if row + 1 < len(lines):
            for column, letter in enumerate(line):
                if letter in "╭╮" and line.isascii() is False and _is_narrow(line):
                    below = lines[row + 1].ljust(column + 1)
                    if _is_narrow(below):
                        assert below[column] in "│├┤", (line, below)


def _is_narrow(line: str) -> bool:
    """Whether letters and cells are the same thing on it."""
    return width_of(line) == len(line)


@pytest.fixture(scope="module")
def pictured() -> Iterator[Bench]:
    with pictures.picture_bench() as bench:
        yield bench


@pytest.fixture
def in_utc(pictured: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The store of the pictures, with this process at home there and in its time zone."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("HOME", str(pictured.home))
    time.tzset()
    yield pictured
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("theme", ["harbour", "paper"])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("view", VIEWS)
async def test_a_screen_is_as_recorded(
    in_utc: Bench, view: str, size: tuple[int, int], theme: str, tmp_path: Path
) -> None:
    name = f"{view}-{size[0]}x{size[1]}-{theme}.svg"
    golden = GOLDEN / name
    wanted = [] if IS_RECORDING else pictures.described(golden.read_text())
    async with opened(
        in_utc,
        view=view,
        size=size,
        look=Look(theme=theme),
        reader=pictures.reader_of(in_utc),
        target=TARGETS.get(view),
    ) as pilot:
        app_of(pilot).host_name = pictures.HOST
        app_of(pilot)._update_bars()
        svg = await _picture_at_rest(pilot, in_utc, wanted)
    if IS_RECORDING:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(svg)
        return
    shown = pictures.described(svg)
    if shown != wanted:
        (tmp_path / name).write_text(svg)
        differs = "\n".join(
            difflib.unified_diff(wanted, shown, "recorded", "shown", lineterm="", n=1)
        )
        pytest.fail(f"{tmp_path / name} is not as recorded\n{differs}")


async def _picture_at_rest(pilot: Pilot[str], bench: Bench, wanted: list[str]) -> str:
    """The picture once it is as wanted and stays so, or after half a minute of waiting for that."""
    deadline = time.monotonic() + (3.0 if IS_RECORDING else WAIT_S)
    await settled(pilot)
    while True:
        svg = pictures.taken(pilot, bench)
        await pilot.pause(REST_S)
        await settled(pilot)
        again = pictures.taken(pilot, bench)
        if time.monotonic() > deadline or (
            svg == again and not IS_RECORDING and pictures.described(again) == wanted
        ):
            return again
