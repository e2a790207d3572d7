"""How fast are streams cut, with and without files beginning in them?

Corpus: random bytes (the worst case: every byte is looked at). Prints one JSON object with MiB/s,
median and spread over the repetitions.
"""

import argparse
import json
import os
import statistics
import time

from holdfast.chunking.boundaries import stream_cutter
from holdfast.chunking.cutters import Chunker
from holdfast.chunking.params import DEFAULT
from holdfast.units import MIB

READ_BYTES = 4 * MIB


def cut(data: memoryview, chunker: Chunker, file_bytes: int) -> float:
    cutter = stream_cutter(chunker, DEFAULT)
    began = time.perf_counter()
    for position in range(16, len(data), file_bytes):
        cutter.suggest(position)
    start = 0
    for end in range(READ_BYTES, len(data) + 1, READ_BYTES):
        while length := cutter.next_cut(data[start:end], ended=end == len(data)):
            start += length
    return len(data) / MIB / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    data = memoryview(os.urandom(args.mib * MIB))
    results = {}
    for chunker in Chunker:
        for label, file_bytes in (("one file", 1 << 40), ("files of 11 KB", 11_111)):
            runs = [cut(data, chunker, file_bytes) for _ in range(args.repeat)]
            results[f"{chunker}, {label}"] = {
                "median": round(statistics.median(runs)),
                "min": round(min(runs)),
                "max": round(max(runs)),
            }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
