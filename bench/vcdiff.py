"""How fast are deltas of relation segments written and applied? Next to xdelta3.

    python -m bench.vcdiff [MIB] [--runs N]

Corpus: a segment of MIB (1024) random MiB, and the same with one block of 8 KiB in ten changed, seed
5; which blocks changed is known, as it is in a differential. Both lie in memory, deltas and results
are written there. Prints a table in Markdown.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from holdfast.postgres.byte_source import FileSource
from holdfast.postgres.vcdiff.apply import apply_delta
from holdfast.postgres.vcdiff.encode import DeltaWriter

_BLOCK: Final = 8192
_WINDOW_BLOCKS: Final = 128
_MIB: Final = 1 << 20


def make(place: Path, mib: int) -> set[int]:
    """`old` and `new` below `place`; the numbers of the changed blocks."""
    dice = random.Random(5)
    count = mib * _MIB // _BLOCK
    changed = {number for number in range(count) if not dice.randrange(10)}
    with (place / "old").open("wb") as old, (place / "new").open("wb") as new:
        for number in range(count):
            block = dice.randbytes(_BLOCK)
            old.write(block)
            new.write(dice.randbytes(_BLOCK) if number in changed else block)
    return changed


def encode(place: Path, changed: set[int]) -> None:
    """Write `delta`."""
    window = bytearray(_WINDOW_BLOCKS * _BLOCK)
    with (place / "new").open("rb") as new, (place / "delta").open("wb") as out:
        writer = DeltaWriter(out.write)
        first = 0
        while got := new.readinto(window):
            blocks = range(first, first + got // _BLOCK)
            writer.window(memoryview(window)[:got], [number not in changed for number in blocks])
            first = blocks.stop
        writer.close()


def decode(place: Path) -> None:
    """Write `made`."""
    with (
        (place / "old").open("rb") as old,
        (place / "delta").open("rb") as delta,
        (place / "made").open("wb") as out,
    ):
        size = (place / "new").stat().st_size
        apply_delta(FileSource(old.fileno()), FileSource(delta.fileno()), out.write, size_max=size)


def xdelta(place: Path) -> None:
    """The same by the other program."""
    words = ["xdelta3", "-d", "-f", "-s", *(str(place / name) for name in ("old", "delta", "made"))]
    subprocess.run(words, check=True)


def main() -> int:
    """Measure and print; 1 when a result is not the segment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mib", type=int, nargs="?", default=1024)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        place = Path(directory)
        changed = make(place, args.mib)
        steps: dict[str, Callable[[], None]] = {
            "holdfast, encode": lambda: encode(place, changed),
            "holdfast, apply": lambda: decode(place),
            "xdelta3 -d of it": lambda: xdelta(place),
        }
        print("| step | median s | MB/s |\n|---|--:|--:|")
        for name, step in steps.items():
            spans = []
            for _number in range(args.runs):
                (place / "made").unlink(missing_ok=True)
                begin_s = time.perf_counter()
                step()
                spans.append(time.perf_counter() - begin_s)
            speed = args.mib * _MIB / statistics.median(spans) / 1e6
            print(f"| {name} | {statistics.median(spans):.2f} | {speed:.0f} |", flush=True)
            if name != "holdfast, encode":
                same = subprocess.run(["cmp", place / "new", place / "made"], check=False)
                if same.returncode:
                    return 1
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"\nMemory of this process: {rss} MiB.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
