"""Hundreds of live backups while a guest hammers the image: every finished one is one moment."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from tests.harness.live import COUNT, SIZE, LiveBench, back_up_live
from tests.harness.upload_rig import UploadRig

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import plan_chunks
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_export import Export
from holdfast.block.nbd_server import NbdServer
from holdfast.block.nbd_uri import NbdAddress
from holdfast.datastore.index import Index
from holdfast.errors import NoSpace
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.units import KIB, MIB, TIB

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
ROUNDS = 100


def _hammer(path: str, seed: int, stop: asyncio.Event) -> int:
    """A guest over NBD; each of its writes is read back at once. How many there were."""
    rng, count = random.Random(seed), 0
    with NbdClient.connect(NbdAddress(export="d", socket_path=path)) as client:
        while not stop.is_set():
            length = rng.randrange(1, 128 * KIB)
            offset = rng.randrange(SIZE // 2 - length)  # its own half
            if rng.randrange(5) == 0:
                client.write_zeroes(offset, length)
                assert client.read(offset, length) == bytes(length)
            else:
                data = rng.randbytes(length)
                client.write(offset, data)
                assert client.read(offset, length) == data
            count += 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize("fleecing", [True, False], ids=["fleecing", "direct"])
async def test_every_finished_backup_is_the_image_of_its_moment(
    fleecing: bool, tmp_path: Path
) -> None:
    bench = LiveBench(tmp_path, seed=41)
    bench.writes_from = SIZE // 2
    server = NbdServer({"d": Export.of("d", bench.image)})
    path = str(tmp_path / "s")
    await server.start_unix(path)
    stop = asyncio.Event()
    guest = asyncio.ensure_future(asyncio.to_thread(_hammer, path, 5, stop))
    rng, failed, base = random.Random(17), 0, None
    try:
        for _round in range(ROUNDS):
            fails = rng.randrange(3) == 0
            fail_after = rng.randrange(4) if fails else None
            runs = bench.finished
            with UploadRig(tmp_path) as rig:
                base = await _one_round(bench, rig, base, fleecing=fleecing, fail_after=fail_after)
            failed += bench.finished == runs
    finally:
        stop.set()
        writes = await guest
        await server.stop()
        bench.node.close()
    assert failed > ROUNDS // 20
    assert writes > ROUNDS // 4


async def _one_round(
    bench: LiveBench,
    rig: UploadRig,
    base: Index | None,
    *,
    fleecing: bool,
    fail_after: int | None,
) -> Index | None:
    has_partial = bench.partial.held().any()
    refresh = BitSet(COUNT) if base is not None or has_partial else None
    try:
        await back_up_live(
            bench,
            rig,
            fleecing=fleecing,
            base=base,
            writes=8,
            fail_after=fail_after,
            refresh=refresh,
        )
    except NoSpace:
        return base
    name = f"{bench.runs}.fidx"
    assert rig.content(name) == bench.moment
    bench.partial = bench.new_partial()
    bench.finished += 1
    return rig.index(name)


VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.harness.live import LiveBench, back_up_live, SIZE
from tests.harness.upload_rig import UploadRig
from holdfast.block.bitmap_file import BitmapFile
from holdfast.block.dirty_bitmap import DirtyBitmap

async def main(directory):
    bench = LiveBench(directory, fresh=False, seed=int(sys.argv[2]))
    kept = BitmapFile.open(str(directory / "bitmaps"), bench.node.fd, SIZE)
    if "b" not in kept.bitmaps:
        kept.add(bench.bitmap)
    print("ready", flush=True)
    while True:
        bench.partial = bench.new_partial()
        with UploadRig(directory) as rig:
            await back_up_live(bench, rig, fleecing=True, writes=30)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.slow
async def test_killed_servers_leave_an_inconsistent_bitmap_and_a_store_that_goes_on(
    tmp_path: Path,
) -> None:
    from holdfast.block.bitmap_file import BitmapFile

    LiveBench(tmp_path).node.close()
    rng = random.Random(2)
    for seed in range(8):
        victim = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", VICTIM, str(tmp_path), str(seed)],
            stdout=subprocess.PIPE,
            env=ENV,
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        SYSTEM_CLOCK.wait(rng.uniform(0.05, 0.6))
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        bench = LiveBench(tmp_path, fresh=False, seed=100 + seed)
        kept = BitmapFile.open(str(tmp_path / "bitmaps"), bench.node.fd, SIZE)
        assert kept.bitmaps["b"].inconsistent
        kept.remove("b")
        bench.runs = 1000 + seed
        with UploadRig(tmp_path) as rig:
            await back_up_live(bench, rig, fleecing=seed % 2 == 0)
            assert rig.content(f"{bench.runs}.fidx") == bench.moment
        kept.close()
        bench.node.close()


@pytest.mark.slow
def test_a_terabyte_is_planned_in_two_seconds_and_a_hundred_mebibytes() -> None:
    rng = random.Random(9)
    bitmap = DirtyBitmap(name="b", size_bytes=TIB)
    for _write in range(200_000):
        bitmap.record(rng.randrange(TIB - MIB), rng.randrange(1, MIB))
    zero = [(at, 64 * MIB) for at in range(0, TIB, 256 * MIB)]

    def plan() -> tuple[int, int]:
        refresh = bitmap.in_clusters(4 * MIB)
        planned = plan_chunks(refresh, size_bytes=TIB, chunk_bytes=4 * MIB, zero=zero)
        ranges = sum(1 for _range in bitmap.dirty_ranges())
        return ranges, len(planned.read) + len(planned.zero) + len(planned.keep)

    start = time.process_time()  # it computes, and neighbours on a shared machine do not count
    ranges, chunks = plan()
    took = time.process_time() - start
    tracemalloc.start()
    plan()
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ranges > 100_000
    assert chunks == TIB // (4 * MIB)
    assert took <= 2
    assert peak <= 100 * MIB
