"""Recorded pictures of screens: a store on which nothing depends on the day or the machine.

The real program makes it with its clock, host and user pinned (`PINNED`, read by Python as it
starts); the app shows it at a fixed moment and with a disk of fixed size. What is left, paths and
process numbers, is replaced by as many letters. Pictures are compared as cells with their colours,
not as SVG text, which differs between versions of Textual.
"""

import html
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from textual.pilot import Pilot

from holdfast.units import GIB
from holdfast_tui.reader import Reader
from holdfast_tui.render.clean import width_of
from tests.harness.driven_clock import DrivenClock
from tests.harness.program import ROOT
from tests.harness.tui import Bench, app_of, make_bench

NOW_S: Final = 1_767_519_000.0  # 2026-01-04 09:30 UTC
HOST: Final = "backup1"
_FIRST_S: Final = NOW_S - 8 * 3600
_HOME: Final = "/tmp/holdfast-pictures/home"
_CELL: Final = 12.2
_LINE: Final = 24.4
_CHANGING: Final = (
    (r"(UPID:\w+):[0-9A-F]{8}:[0-9A-F]{8}:", r"\1:00000000:00000000:"),
    (r"(?<!\d)[1-9]\d\d&#160;B", "500&#160;B"),  # small chunks, compressed with owners and times
    (r"in&#160;\d\.\d&#160;s", "in&#160;0.0&#160;s"),
    (r"(?!2026-01)\d{4}-\d\d-\d\d&#160;\d\d:\d\d", "2026-01-04&#160;02:30"),  # of a file's change
    (r"(file&#160;system&#160;</text><text [^>]*>)[^<]*", r"\1"),
)
PINNED: Final = f"""
import os, pwd, time, types
place = os.environ["PINNED_RUNS"]  # each run of the program is ten minutes after the one before
with open(place, "a+b") as runs:
    runs.write(b".")
    moment = {_FIRST_S} + 600 * runs.tell()
time.time = lambda: moment
real = os.uname()
os.uname = lambda: os.uname_result((real.sysname, "{HOST}", *real[2:]))
pwd.getpwuid = lambda number: types.SimpleNamespace(pw_name="admin", pw_dir="/", pw_uid=number)
"""
JOBS: Final = """
[jobs.nightly]
kind = "backup"
store = "main"
sources = ["etc.pxar:{home}/etc"]
id = "web1"
schedule = "21:00"

[jobs.weekly-verify]
kind = "verify"
store = "main"
schedule = "sat 12:00"

[jobs.collect]
kind = "gc"
store = "main"
schedule = "sun 03:00"
enabled = false
"""


@contextmanager
def picture_bench() -> Iterator[Bench]:
    """A store with damage, a journal and three jobs, the same wherever it is made."""
    with tempfile.TemporaryDirectory(prefix="holdfast-", dir="/tmp") as name:  # always as long
        yield _made(Path(name))


def _made(place: Path) -> Bench:
    (place / "pinned").mkdir()
    (place / "pinned" / "sitecustomize.py").write_text(PINNED)
    path = f"{place / 'pinned'}:{ROOT / 'core'}:{ROOT / 'tui'}"
    runs = {"PYTHONPATH": path, "PINNED_RUNS": str(place / "runs"), "TZ": "UTC"}
    bench = make_bench(place / "home", damage=True, environment=runs)
    bench.program.run("gc", code=3)  # one chunk is missing
    bench.program.run("usage", code=3)
    with (bench.home / "config.toml").open("a") as config:
        config.write(JOBS.format(home=bench.home))
    return bench


def reader_of(bench: Bench) -> Reader:
    """What the app reads with: at a fixed moment, from a disk of a fixed size."""

    def room(path: str) -> os.statvfs_result:
        found: Any = list(os.statvfs(path))
        found[:5] = 4096, 4096, 16 * GIB // 4096, 10 * GIB // 4096, 10 * GIB // 4096
        return os.statvfs_result(found)

    return Reader(bench.options(), clock=DrivenClock(NOW_S), room=room)


def taken(pilot: Pilot[str], bench: Bench) -> str:
    """What the app shows, as SVG without what changes from run to run."""
    svg = app_of(pilot).export_screenshot(title="holdfast")
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace(str(bench.home), _HOME)
    for pattern, always in _CHANGING:
        svg = re.sub(pattern, always, svg)
    return svg


Cell = tuple[str, str, str]
"""A letter, how it looks, and the colour of its ground."""


def cells_of(svg: str) -> list[list[Cell]]:
    """The letters of a picture, line by line."""
    looks = dict(re.findall(r"\.terminal-(r\d+) \{([^}]*)\}", svg))
    root = ET.fromstring(svg)
    lines: dict[int, dict[int, Cell]] = {}
    for node in root.iter():
        tag = node.tag.rpartition("}")[2]
        if tag == "rect" and "shape-rendering" in node.attrib:
            row, first = _place(node, 1.5)
            for column in range(first, first + round(float(node.attrib["width"]) / _CELL)):
                lines.setdefault(row, {})[column] = (" ", "", node.attrib["fill"])
        elif tag == "text" and node.attrib["class"].startswith("terminal-r"):
            row, column = _place(node, 20)
            look = looks[node.attrib["class"].removeprefix("terminal-")].strip()
            for letter in html.unescape(node.text or "").replace("\u00a0", " ").rstrip("\n"):
                _letter, _look, ground = lines[row][column]
                lines[row][column] = (letter, look, ground)
                column += max(1, width_of(letter))
    return [[cells[column] for column in sorted(cells)] for _row, cells in sorted(lines.items())]


def _place(node: ET.Element, offset: float) -> tuple[int, int]:
    row = round((float(node.attrib["y"]) - offset) / _LINE)
    return row, round(float(node.attrib["x"]) / _CELL)


def described(svg: str) -> list[str]:
    """Each line as text, and below it how its parts look: for telling what is different."""
    found = []
    for line in cells_of(svg):
        found.append("".join(letter for letter, _look, _ground in line))
        for (look, ground), cells in groupby(line, key=lambda cell: cell[1:]):
            part = "".join(letter for letter, _look, _ground in cells)
            if part.strip() or ground != line[0][2]:
                found.append(f"    {part.strip()!r} {look} on {ground}")
    return found
