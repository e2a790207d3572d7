"""The floor: the same bytes through SHA-256 and zstd level 1 on two threads, nothing written.

No deduplicating backup that names chunks by SHA-256 can be faster on two cores.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import zstandard

CHUNK_BYTES: Final = 4 << 20
THREADS: Final = 2


def floor_s(path: Path, scratch: Path | None = None) -> float:
    """Seconds for one pass over a file, holes and all, or over a tree's files joined to one.

    Args:
        path: the file or tree.
        scratch: where a tree is joined (default: the directory for temporary files).
    """
    if path.is_file():
        return _one_pass_s(path)
    files = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    with tempfile.NamedTemporaryFile(dir=scratch) as joined:
        for file in files:
            with file.open("rb") as source:
                shutil.copyfileobj(source, joined, CHUNK_BYTES)
        joined.flush()
        return _one_pass_s(Path(joined.name))


def _one_pass_s(path: Path) -> float:
    size = path.stat().st_size
    starts = iter(range(0, size, CHUNK_BYTES))
    lock = threading.Lock()

    def work() -> None:
        compressor = zstandard.ZstdCompressor(level=1)
        buffer = bytearray(CHUNK_BYTES)
        with path.open("rb", buffering=0) as source:
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                got = os.preadv(source.fileno(), [buffer], start)
                chunk = memoryview(buffer)[:got]
                hashlib.sha256(chunk).digest()
                compressor.compress(chunk)

    threads = [threading.Thread(target=work) for _number in range(THREADS)]
    begin_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    print(f"{floor_s(Path(sys.argv[1])):.3f}")
