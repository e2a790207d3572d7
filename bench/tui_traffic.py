"""How many bytes does the terminal UI send: idle, and with four running jobs on the dashboard?

    PYTHONPATH=.:core:tui python bench/tui_traffic.py [--seconds 20] [--size 80x24]

A store with some snapshots is made, the real program runs in a pseudo-terminal with 256 colours,
and everything it writes is counted; four backups held to 200 KiB/s run meanwhile. Prints a table.
"""

import argparse
import os

from tests.harness.places import quick_directory
from tests.harness.terminal import Terminal
from tests.harness.tui import Bench, make_bench

_JOBS = 4


def start_jobs(bench: Bench, count: int) -> None:
    """Backups that take minutes."""
    for number in range(count):
        path = bench.home / f"slow{number}.raw"
        path.write_bytes(os.urandom(24 << 20))
        bench.program.run(
            *("backup", f"slow.img:{path}", "--type", "vm", "--id", f"{900 + number}"),
            *("--chunk-size", "64", "--read-limit", "200K", "--detach"),
        )


def stop_jobs(bench: Bench) -> None:
    for task in bench.program.json("task", "list", "--running"):
        bench.program.run("task", "stop", task["upid"], "--wait", "20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", default="80x24")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    rows = []
    with quick_directory() as place:
        bench = make_bench(place / "home")
        with Terminal(bench.program, ("tui",), size=(width, height)) as terminal:
            terminal.read_until("Needs attention")
            first = len(terminal.sent)
            terminal.read_for(4)
            idle = terminal.read_for(args.seconds)
            rows.append(("first screen, bytes", first))
            rows.append(("idle dashboard, bytes/s", idle / args.seconds))
            start_jobs(bench, _JOBS)
            terminal.read_until(f"Running ({_JOBS})")
            terminal.read_for(4)
            live = terminal.read_for(args.seconds)
            rows.append((f"dashboard, {_JOBS} running jobs, bytes/s", live / args.seconds))
            terminal.press("4")
            terminal.read_for(2)
            log = terminal.read_for(args.seconds)
            rows.append((f"tasks, {_JOBS} running jobs, bytes/s", log / args.seconds))
            stop_jobs(bench)
    print(f"| what, {args.size}, 256 colours | measured |")
    print("|---|---|")
    for name, value in rows:
        print(f"| {name} | {value:,.0f} |")


if __name__ == "__main__":
    main()
