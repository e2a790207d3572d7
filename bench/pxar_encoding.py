"""What does one entry of a tree cost to encode, and to read back?

Corpus: 54,000 small files in 5,400 directories, no attributes, contents left out. Prints one JSON
object with microseconds per entry, the median of the repetitions.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder
from holdfast.archive.pxar.encoder import Encoder
from holdfast.archive.pxar.format import Metadata, Stat

ROOT = Metadata(Stat(0o40755, 0, 0, 0, 1_700_000_000, 1))
DIRECTORIES = [b"directory-%05d" % number for number in range(5400)]
NAMES = [b"file-%02d.txt" % number for number in range(10)]


class Memory:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.position = 0

    def write(self, data: bytes, /) -> None:
        self.parts.append(data)
        self.position += len(data)

    def suggest(self) -> None:
        pass


class Archive:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        yield memoryview(self.data)[start:end]


def encode() -> bytes:
    sink = Memory()
    encoder = Encoder(sink, Memory(), root=ROOT)
    offset = 16
    for directory in DIRECTORIES:
        encoder.begin_directory(directory, ROOT)
        for name in NAMES:
            stat = Stat(0o100644, 0, 1000, 1000, 1_700_000_000, offset)
            encoder.file_at(name, Metadata(stat), 11_000, offset)
            offset += 11_016
        encoder.end_directory()
    encoder.finish()
    return b"".join(sink.parts)


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
    archive = Archive(encode())
    results = {
        "encode": microseconds(encode, args.repeat),
        "decode": microseconds(lambda: list(Decoder(archive).steps()), args.repeat),
        "list every directory": microseconds(lambda: list(Accessor(archive).walk()), args.repeat),
    }
    print(json.dumps({"microseconds per entry": results}, indent=2))


if __name__ == "__main__":
    main()
