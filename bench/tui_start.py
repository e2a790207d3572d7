"""How long until the terminal UI shows something useful, next to an empty Textual app?

    PYTHONPATH=.:core:tui python bench/tui_start.py [--snapshots 1000] [--runs 10]

Both are started in a pseudo-terminal, in turn, from compiled modules. An empty app has arrived when
its one word is sent; ours when the name of the store stands on the dashboard with its state, and
again when all snapshots were counted. Prints medians as a table.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.small_store import SmallStore
from tests.harness.terminal import Terminal

EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("arrived")
Empty().run(mouse=False)
"""


def fill(home: Path, count: int) -> None:
    """A configured store with `count` snapshots in 20 groups."""
    small = SmallStore(home / "store")
    for number in range(count):
        group, day = number % 20, number // 20
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_767_225_600 + day * 86_400))
        small.snapshot(f"host/machine{group:02}/{stamp}", {"root.pxar.didx": [b"x" * 100]})
    (home / "config.toml").write_text(f'[stores.main]\npath = "{home / "store"}"\n')


def measure(program: Program, words: tuple[str, ...], *marks: bytes) -> list[float]:
    began = time.monotonic()
    with Terminal(program, words, size=(100, 30)) as terminal:
        return [(terminal.read_until_bytes(mark), time.monotonic() - began)[1] for mark in marks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshots", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    with quick_directory() as place:
        home = place / "home"
        program = Program(home)
        program.environment["PYTHONPYCACHEPREFIX"] = str(place / "compiled")
        program.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        fill(home, args.snapshots)
        script = home / "empty.py"
        script.write_text(EMPTY)
        empty, first, whole, version = [], [], [], []
        shown = f"{args.snapshots:,}".encode()
        for run in range(args.runs + 1):
            began = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "holdfast", "version"],
                env=program.environment,
                check=True,
                capture_output=True,
            )
            version_s = time.monotonic() - began
            began = time.monotonic()
            with Terminal(program, size=(100, 30), script=str(script)) as terminal:
                terminal.read_until_bytes(b"arrived")
                empty_s = time.monotonic() - began
            first_s, whole_s = measure(program, ("tui",), b" ok ", shown)
            if run:  # the first one compiles
                version.append(version_s)
                empty.append(empty_s)
                first.append(first_s)
                whole.append(whole_s)
    rows = (
        ("holdfast version", version),
        ("empty Textual app, its word sent", empty),
        ("holdfast tui, the store's row sent", first),
        (f"holdfast tui, all {args.snapshots:,} snapshots counted", whole),
    )
    load = os.getloadavg()[0]
    print(f"| start, median of {args.runs}, load {load:.1f} | median s | least s |")
    print("|---|---|---|")
    for name, values in rows:
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} |")


if __name__ == "__main__":
    main()
