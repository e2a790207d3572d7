"""Questions: what does a full image backup over NBD cost next to plain copies of the same export, is
an incremental one proportional to what is dirty, and how long do guests wait during a backup?

    python -m bench.block_copy [--size-mib 1024] [--runs 3] [--work DIR]

The image is half random data, a quarter text-like, a quarter hole, served by qemu-nbd. The guest of the
last question writes 4 KiB at random to an image of our own server, while it is backed up to a target
that takes 100 ms for each chunk; once with a fleecing image and once without. Prints JSON.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import ImageFacts
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.fleecing import FleecingRecord, create
from holdfast.block.job_policy import BitmapMode
from holdfast.block.live_backup import LiveBackup, LiveOptions
from holdfast.block.nbd_pull import NbdSource, pull_image
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.node import Access, Buffer, FileNode
from holdfast.block.partial_image import PartialImage
from holdfast.block.tracked_image import TrackedImage
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.session import BackupSession
from holdfast.datastore.store import Datastore
from holdfast.ids import GroupId

_MIB: Final = 1 << 20
_SLOW_S: Final = 0.1
_GUEST_WRITES: Final = 100


class _Counter:
    """A new second for every snapshot."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000

    def next(self) -> int:
        self.seconds += 1
        return self.seconds


_TIMES: Final = _Counter()


def make_image(path: Path, size_mib: int) -> None:
    """Half random, a quarter compressible, a quarter hole; the same for the same size."""
    rng = random.Random(size_mib)
    line = b"holdfast keeps what others lose; "
    with path.open("wb") as out:
        for number in range(size_mib):
            match number * 4 // size_mib:
                case 0 | 1:
                    out.write(rng.randbytes(_MIB))
                case 2:
                    out.write((line + rng.randbytes(8)) * (_MIB // 41) + bytes(_MIB % 41))
                case _:
                    out.seek(_MIB, os.SEEK_CUR)
        out.truncate(size_mib * _MIB)


@contextmanager
def serving(image: Path, work: Path) -> Iterator[NbdAddress]:
    """The image as a read-only export of qemu-nbd."""
    path = work / "bench.sock"
    command = ["qemu-nbd", "-f", "raw", "-x", "d", "-r", "-t", "-e", "8", "-k", str(path)]
    process = subprocess.Popen([*command, str(image)])
    try:
        while not path.exists():
            threading.Event().wait(0.02)
        yield NbdAddress(export="d", socket_path=str(path))
    finally:
        process.terminate()
        process.wait()


def timed_program(command: Sequence[str], target: Path) -> float:
    """Seconds a copying program takes to make `target`."""
    with suppress(FileNotFoundError):
        target.unlink()
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def timed_backup(store: Datastore, group: str, address: NbdAddress) -> float:
    """Seconds a full backup into an empty group takes."""
    start = time.perf_counter()
    with (
        NbdSource(address) as source,
        BackupSession.start(store, GroupId.parse(group), _TIMES.next()) as session,
    ):
        pull_image(source, session.image("d.img.fidx", source.size_bytes))
        session.finish()
    return time.perf_counter() - start


def incremental(store: Datastore, address: NbdAddress, chunks: int) -> tuple[float, int]:
    """Seconds and bytes read of a backup of which `chunks` are dirty."""
    start = time.perf_counter()
    with (
        NbdSource(address) as source,
        BackupSession.start(store, GroupId.parse("vm/inc"), _TIMES.next()) as session,
    ):
        writer = session.image("d.img.fidx", source.size_bytes)
        refresh = BitSet(writer.chunk_count)
        refresh.set(0, chunks)
        outcome = pull_image(source, writer, refresh=refresh)
        session.finish()
    return time.perf_counter() - start, outcome.read_bytes


@dataclass(frozen=True, slots=True)
class Latency:
    """How long guests waited, in milliseconds."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        ordered = sorted(seconds)
        rank = min(len(ordered) - 1, int(len(ordered) * 0.99))
        return cls(round(statistics.median(ordered) * 1000, 3), round(ordered[rank] * 1000, 3))


async def guest_latency(store: Datastore, work: Path, *, fleecing: bool) -> Latency:
    """Write latency during a backup to a slow target; every write hits another chunk."""
    size = (_GUEST_WRITES + 60) * CHUNK_BYTES
    path = work / "guest.raw"
    path.write_bytes(b"")
    os.truncate(path, size)
    node = FileNode.open(str(path), Access.READ_WRITE)
    for number in range(_GUEST_WRITES + 60):  # one block of data in each chunk
        await node.write(number * CHUNK_BYTES, os.urandom(65536))
    bitmap = DirtyBitmap(name="b", size_bytes=size)
    image = TrackedImage(node, {"b": bitmap})
    record = FleecingRecord(str(work / "record"))
    scratch = create(str(work / "scratch"), size, record, budget_bytes=0) if fleecing else None
    with BackupSession.start(store, GroupId.parse("vm/guest"), _TIMES.next()) as session:
        facts = ImageFacts(size_bytes=size, chunk_bytes=CHUNK_BYTES)
        backup = LiveBackup(
            image,
            session.image("d.img.fidx", size),
            PartialImage.empty(facts, base="", owner=""),
            options=LiveOptions(fleecing=scratch, workers=1),
            bitmap=bitmap,
            mode=BitmapMode.ON_SUCCESS,
            refresh=None,
        )
        put, slow = backup.put, asyncio.Lock()

        async def slow_put(number: int, data: Buffer) -> None:
            async with slow:  # one chunk at a time, as over a thin line
                await asyncio.sleep(_SLOW_S)
            await put(number, data)

        backup.put = slow_put  # type: ignore[method-assign]
        started = asyncio.Event()
        run = asyncio.ensure_future(backup.run(started.set))
        await started.wait()
        waits = []
        for number in range(_GUEST_WRITES):
            at = (_GUEST_WRITES + 59 - number) * CHUNK_BYTES + 8192
            begin = time.perf_counter()
            await image.write(at, b"g" * 4096)
            waits.append(time.perf_counter() - begin)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        backup.fail()
    if scratch is not None:
        await scratch.close()
        record.clean()
    node.close()
    return Latency.of(waits)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        print(json.dumps(measure(work, options.size_mib, options.runs), indent=1))
    finally:
        shutil.rmtree(work)


def measure(work: Path, size_mib: int, runs: int) -> dict[str, object]:
    """All figures; times are the median of `runs`, interleaved."""
    image, target = work / "image", work / "copy"
    make_image(image, size_mib)
    store = Datastore.create(str(work / "store"))
    ours: list[float] = []
    nbdcopy: list[float] = []
    convert: list[float] = []
    with serving(image, work) as address:
        uri = f"nbd+unix:///d?socket={address.socket_path}"
        for number in range(runs):
            for chunk in (work / "store" / ".chunks").glob("*/*"):
                chunk.unlink()
            ours.append(timed_backup(store, f"vm/full{number}", address))
            nbdcopy.append(timed_program(["nbdcopy", uri, str(target)], target))
            command = ["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, str(target)]
            convert.append(timed_program(command, target))
        timed_backup(store, "vm/inc", address)
        steps = {n: incremental(store, address, n) for n in (0, 8, 32, 128) if n <= size_mib // 4}
    return {
        "full_s": round(statistics.median(ours), 3),
        "nbdcopy_s": round(statistics.median(nbdcopy), 3),
        "qemu_img_convert_s": round(statistics.median(convert), 3),
        "ratio_to_nbdcopy": round(statistics.median(ours) / statistics.median(nbdcopy), 2),
        "ratio_to_convert": round(statistics.median(ours) / statistics.median(convert), 2),
        "incremental": {
            f"{chunks * CHUNK_BYTES // _MIB} MiB dirty": {"s": round(took, 3), "read_bytes": read}
            for chunks, (took, read) in steps.items()
        },
        "guest_with_fleecing": _shown(asyncio.run(guest_latency(store, work, fleecing=True))),
        "guest_without": _shown(asyncio.run(guest_latency(store, work, fleecing=False))),
    }


def _shown(latency: Latency) -> dict[str, float]:
    return {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms}


if __name__ == "__main__":
    main()
