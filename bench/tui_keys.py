"""From a key to what it changes on the screen, while 10,000 snapshots load and four tasks run.

    PYTHONPATH=.:core:tui python bench/tui_keys.py [--snapshots 10000] [--keys 100]

The real program on a pseudo-terminal; a key (j or k in the list of stores' tasks) is sent, and the
first byte that comes back ends the time. Next to it the same keys on a store with nothing to load.
"""

import argparse
import statistics
import time

from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.terminal import Terminal
from tests.harness.tui import Bench

from bench.tui_start import fill
from bench.tui_traffic import start_jobs, stop_jobs

_JOBS = 4


def times_of_keys(terminal: Terminal, count: int) -> list[float]:
    """Milliseconds for each key."""
    found = []
    for number in range(count):
        terminal.read_for(0.02)
        before = len(terminal.sent)
        began = time.monotonic()
        terminal.press("jk"[number // 2 % 2])
        while len(terminal.sent) == before and time.monotonic() - began < 2:
            terminal.take(0.5)
        found.append(1000 * (time.monotonic() - began))
    return found


def measure(snapshots: int, keys: int, jobs: int) -> list[float]:
    with quick_directory() as place:
        home = place / "home"
        bench = Bench(home, Program(home), [])
        fill(home, snapshots)
        start_jobs(bench, jobs)
        with Terminal(bench.program, ("tui",), size=(100, 30)) as terminal:
            terminal.read_until_bytes(b"Needs attention")
            terminal.press("4")
            terminal.read_until_bytes(b"started")
            found = times_of_keys(terminal, keys)
        stop_jobs(bench)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshots", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=100)
    args = parser.parse_args()
    print("| key to first byte, ms | median | 95th | worst |")
    print("|---|---|---|---|")
    for name, snapshots, jobs in (
        ("20 snapshots, 4 tasks", 20, _JOBS),
        (f"{args.snapshots:,} snapshots loading, 4 tasks", args.snapshots, _JOBS),
    ):
        times = sorted(measure(snapshots, args.keys, jobs))
        p95 = times[int(0.95 * (len(times) - 1))]
        print(f"| {name} | {statistics.median(times):.0f} | {p95:.0f} | {times[-1]:.0f} |")


if __name__ == "__main__":
    main()
