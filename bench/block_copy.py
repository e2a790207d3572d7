"""Questions: what does a full image backup over NBD cost next to plain copies of the same export, is
an incremental one proportional to what is dirty, and how long do guests wait during a backup?

    python -m bench.block_copy [--size-mib 1024] [--runs 3] [--work DIR]

The image is half random data, a quarter text-like, a quarter hole, served by qemu-nbd. The guest of the
last question (bench.guest_writer) writes to an image of our own server, while it is backed up to a target
that takes 100 ms for each chunk; once with a scratch image and once without. Prints tables.
"""

import argparse
import asyncio
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bench.guest_writer import SIZE, WRITES, Latency, guest_latency
from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import ImageFacts, plan_chunks
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.fleecing import FleecingRecord, create
from holdfast.block.job_policy import BitmapMode
from holdfast.block.live_backup import LiveBackup, LiveOptions
from holdfast.block.nbd_export import Export
from holdfast.block.nbd_pull import NbdSource, pull_image
from holdfast.block.nbd_server import NbdServer
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
_TIB: Final = 1 << 40
_WRITES_SLOW: Final = 100  # of those that wait for the target


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


async def live_latency(store: Datastore, work: Path, *, fleecing: bool) -> Latency:
    """How long a guest of our own server waits during a backup to a slow target."""
    path = work / "guest.raw"
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    node = FileNode.open(str(path), Access.READ_WRITE)
    for number in range(SIZE // CHUNK_BYTES):  # one block of data in each chunk
        await node.write(number * CHUNK_BYTES, os.urandom(65536))
    bitmap = DirtyBitmap(name="b", size_bytes=SIZE)
    image = TrackedImage(node, {"b": bitmap})
    server, socket = NbdServer({"d": Export.of("d", image)}), str(work / "guest.sock")
    await server.start_unix(socket)
    record = FleecingRecord(str(work / "record"))
    scratch = create(str(work / "scratch"), SIZE, record, budget_bytes=0) if fleecing else None
    with BackupSession.start(store, GroupId.parse("vm/guest"), _TIMES.next()) as session:
        facts = ImageFacts(size_bytes=SIZE, chunk_bytes=CHUNK_BYTES)
        backup = LiveBackup(
            image,
            session.image("d.img.fidx", SIZE),
            PartialImage.empty(facts, base="", owner=""),
            options=LiveOptions(fleecing=scratch, workers=1),
            bitmap=bitmap,
            mode=BitmapMode.ON_SUCCESS,
            refresh=None,
        )
        put, slow = backup.put, asyncio.Lock()

        async def slow_put(number: int, *parts: Buffer) -> None:
            async with slow:  # one chunk at a time, as over a thin line
                await asyncio.sleep(_SLOW_S)
            await put(number, *parts)

        backup.put = slow_put  # type: ignore[method-assign]
        started = asyncio.Event()
        run = asyncio.ensure_future(backup.run(started.set))
        await started.wait()
        address = NbdAddress(export="d", socket_path=socket)
        found = await guest_latency(address, WRITES if fleecing else _WRITES_SLOW)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        backup.fail()
    await server.stop()
    if scratch is not None:
        await scratch.close()
        record.clean()
    node.close()
    path.unlink()
    return found


def planning() -> tuple[float, float]:
    """Seconds and MiB that planning an incremental backup of 1 TiB takes."""
    rng, bitmap = random.Random(9), DirtyBitmap(name="b", size_bytes=_TIB)
    for _write in range(200_000):
        bitmap.record(rng.randrange(_TIB - _MIB), rng.randrange(1, _MIB))
    zero = [(at, 64 * _MIB) for at in range(0, _TIB, 256 * _MIB)]

    def plan() -> None:
        refresh = bitmap.in_clusters(CHUNK_BYTES)
        plan_chunks(refresh, size_bytes=_TIB, chunk_bytes=CHUNK_BYTES, zero=zero)
        sum(1 for _range in bitmap.dirty_ranges())

    start = time.perf_counter()
    plan()
    took = time.perf_counter() - start
    tracemalloc.start()
    plan()
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return took, peak / _MIB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        store = Datastore.create(str(work / "store"))
        for line in (*copies(work, store, options.size_mib, options.runs), *others(work, store)):
            print(line, flush=True)
    finally:
        shutil.rmtree(work)


def copies(work: Path, store: Datastore, size_mib: int, runs: int) -> Iterator[str]:
    """Lines about copying; times are the median of `runs`, taken in turns."""
    image, target = work / "image", work / "copy"
    make_image(image, size_mib)
    times: dict[str, list[float]] = {"holdfast": [], "qemu-img convert": [], "nbdcopy": []}
    with serving(image, work) as address:
        uri = f"nbd+unix:///d?socket={address.socket_path}"
        for number in range(runs):
            for chunk in (work / "store" / ".chunks").glob("*/*"):
                chunk.unlink()
            times["holdfast"].append(timed_backup(store, f"vm/full{number}", address))
            times["nbdcopy"].append(timed_program(["nbdcopy", uri, str(target)], target))
            command = ["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, str(target)]
            times["qemu-img convert"].append(timed_program(command, target))
        timed_backup(store, "vm/inc", address)
        steps = {n: incremental(store, address, n) for n in (0, 8, 32, 128) if n <= size_mib // 4}
    ours = statistics.median(times["holdfast"])
    yield f"| {size_mib} MiB over NBD | median s | spread s | holdfast / it |"
    yield "|---|--:|--:|--:|"
    for name, taken in times.items():
        median, spread = statistics.median(taken), max(taken) - min(taken)
        yield f"| full: {name} | {median:.2f} | {spread:.2f} | {ours / median:.2f} |"
    for chunks, (took, read) in steps.items():
        dirty = chunks * CHUNK_BYTES // _MIB
        yield f"| incremental, {dirty} MiB dirty, {read // _MIB} MiB read | {took:.2f} | | |"
    yield ""


def others(work: Path, store: Datastore) -> Iterator[str]:
    """Lines about guests and plans."""
    yield "| guest's write of 4 KiB | p50 ms | p99 ms |"
    yield "|---|--:|--:|"
    for name, fleecing in (("with a scratch image", True), ("straight to the target", False)):
        found = asyncio.run(live_latency(store, work, fleecing=fleecing))
        yield f"| holdfast, {name} | {found.p50_ms} | {found.p99_ms} |"
    took, peak = planning()
    yield ""
    yield f"Planning an incremental backup of 1 TiB: {took:.2f} s, {peak:.0f} MiB."


if __name__ == "__main__":
    main()
