"""What does one entry of an archive cost to read?

Corpus: 54,000 small files in 5,400 directories, no attributes, contents left out. Prints one JSON
object with microseconds per entry, the median of the repetitions.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar import goodbye
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder
from holdfast.archive.pxar.format import Stat

STAT = Stat(0o40755, 0, 0, 0, 1_700_000_000, 1)
DIRECTORIES = [b"directory-%05d" % number for number in range(5400)]
NAMES = [b"file-%02d.txt" % number for number in range(10)]


class Archive:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def view_at(self, offset: int, length: int) -> memoryview:
        return memoryview(self.data)[offset : offset + length]

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        yield memoryview(self.data)[start:end]


def archive_bytes() -> bytes:
    """A version 2 archive of plain files, every one with its own time."""
    out = bytearray(pxar.header(pxar.FORMAT_VERSION, 8) + pxar.NUMBER.pack(2))
    out += pxar.entry_item(STAT)
    top: list[goodbye.Row] = []
    offset = 16
    for directory in DIRECTORIES:
        start = len(out)
        out += pxar.filename_item(directory)
        entry_start = len(out)
        out += pxar.entry_item(STAT)
        rows: list[goodbye.Row] = []
        for name in NAMES:
            at = len(out)
            out += pxar.filename_item(name)
            out += pxar.entry_item(Stat(0o100644, 0, 1000, 1000, 1_700_000_000, offset))
            out += pxar.REF_ITEM.pack(pxar.PAYLOAD_REF, pxar.REF_BYTES, offset, 11_000)
            rows.append((pxar.siphash(name), at, len(out) - at))
            offset += 11_016
        out += goodbye.table(rows, goodbye_start=len(out), directory_start=entry_start)
        top.append((pxar.siphash(directory), start, len(out) - start))
    out += goodbye.table(top, goodbye_start=len(out), directory_start=0)
    return bytes(out)


def microseconds(work: Callable[[], object], repeat: int) -> float:
    runs = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        runs.append(time.perf_counter() - began)
    return round(statistics.median(runs) / (len(DIRECTORIES) * (len(NAMES) + 1)) * 1e6, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    archive = Archive(archive_bytes())
    results = {
        "in order": microseconds(lambda: list(Decoder(archive).steps()), args.repeat),
        "at random, every directory": microseconds(
            lambda: list(Accessor(archive).walk()), args.repeat
        ),
    }
    print(json.dumps({"microseconds per entry": results}, indent=2))


if __name__ == "__main__":
    main()
