"""What does it cost to be a task? The same backup with and without the journal.

Corpus: FILES random files of 64 KiB and one of 256 MiB, seed 7. Each round backs up into a fresh
group, so everything is read, hashed and found known or written. Order alternates to share drift.
Usage: python -m bench.journal_cost DIRECTORY [ROUNDS]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

FILES = 2000


def main(directory: Path, rounds: int) -> None:
    source = directory / "source"
    source.mkdir(parents=True)
    dice = random.Random(7)
    for number in range(FILES):
        (source / f"f{number}").write_bytes(dice.randbytes(65536))
    (source / "big").write_bytes(b"".join(dice.randbytes(1 << 20) for _ in range(256)))
    environment = os.environ | {
        "HOLDFAST_CONFIG": str(directory / "config.toml"),
        "HOLDFAST_STATE_DIR": str(directory / "state"),
    }
    blocked = directory / "no-state"
    blocked.write_text("a file where a state directory would be: no journal")

    def run(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "holdfast", "-q", *words],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - began

    run("init", str(directory / "store"))
    run("backup", f"s.pxar:{source}", "--id", "warm")
    spans: dict[str, list[float]] = {"journal": [], "none": []}
    for number in range(rounds):
        for kind in ("journal", "none") if number % 2 else ("none", "journal"):
            extra = [] if kind == "journal" else ["--state-dir", str(blocked)]
            words = ["backup", f"s.pxar:{source}", "--id", f"{kind}{number}", *extra]
            spans[kind].append(run(*words))
    result = {
        kind: {
            "median_s": round(statistics.median(values), 3),
            "spread_s": round(max(values) - min(values), 3),
        }
        for kind, values in spans.items()
    }
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="an empty one, with room for 800 MiB")
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    chosen = parser.parse_args()
    main(chosen.directory, chosen.rounds)
