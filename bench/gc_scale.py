"""Question: how long does a garbage collection over many chunks take, and how large does it grow?

    python -m bench.gc_scale [--chunks 200000] [--runs 3] [--work DIR]

A store of tiny chunks, all two days old; one index names four fifths of them. The first run removes
the rest, so every run gets the removed ones back. Prints median, spread and memory as JSON.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import measure, tools
from bench.measure import Figure
from holdfast.datastore import blob
from holdfast.datastore.dynamic_index import DynamicIndexWriter
from holdfast.datastore.keys import plain_digest
from holdfast.datastore.manifest import CryptMode, FileEntry, Manifest
from holdfast.datastore.store import Access, Datastore
from holdfast.ids import SnapshotId

_DAY: Final = 86_400
_SNAPSHOT: Final = "host/bench/2026-01-01T00:00:00Z"


def make_chunks(base: Path, *, chunks: int, seed: int) -> list[tuple[str, bytes, bytes]]:
    """Path, digest and bytes of every chunk; nothing is written."""
    source = random.Random(seed)
    made = []
    for _number in range(chunks):
        data = source.randbytes(64)
        digest = plain_digest(data)
        name = digest.hex()
        raw = b"".join(bytes(part) for part in blob.encode(data))
        made.append((f"{base}/.chunks/{name[:4]}/{name}", digest, raw))
    return made


def write_missing(made: list[tuple[str, bytes, bytes]]) -> None:
    """Write the chunks that are not there; all look two days old afterwards."""
    then_s = time.time() - 2 * _DAY
    for path, _digest, raw in made:
        if not os.path.exists(path):
            with open(path, "wb") as out:
                out.write(raw)
        os.utime(path, (then_s, then_s))


def write_snapshot(base: Path, digests: list[bytes]) -> None:
    """One finished snapshot whose only index names `digests`."""
    store = Datastore.open(str(base), Access.READ_WRITE)
    snapshot = SnapshotId.parse(_SNAPSHOT)
    with store.locked_group(snapshot.group, "root@pam"):
        store.make_snapshot_directory(snapshot)
    writer = DynamicIndexWriter(store.path_of(snapshot, "data.pxar.didx"))
    for number, digest in enumerate(digests, start=1):
        writer.append(64 * number, digest)
    summary = writer.close()
    entry = FileEntry("data.pxar.didx", CryptMode.NONE, summary.size_bytes, summary.checksum)
    store.write_manifest(snapshot, Manifest(snapshot, (entry,)))


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args(words)
    work = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=args.work))
    try:
        holdfast = tools.Holdfast(work)
        holdfast.start_over()
        made = make_chunks(holdfast.repository, chunks=args.chunks, seed=1)
        kept = len(made) * 4 // 5
        runs: list[measure.Run] = []
        for _number in range(args.runs):
            write_missing(made)
            if not runs:
                write_snapshot(holdfast.repository, [digest for _path, digest, _raw in made[:kept]])
            runs.append(holdfast.gc())
        left = sum(1 for path, _digest, _raw in made if os.path.exists(path))
        figure = dataclasses.asdict(Figure.of(runs))
        print(json.dumps({"chunks": len(made), "kept": kept, "left": left, "gc": figure}))
        return 0 if left == kept else 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
