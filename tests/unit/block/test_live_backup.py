"""Backups of an image that is written meanwhile: the moment is exact, retries read the rest."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.harness.live import CHUNK, COUNT, SIZE, LiveBench, back_up_live, live_image
from tests.harness.upload_rig import UploadRig

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import ImageFacts
from holdfast.block.job_policy import BitmapMode, JobOutcome
from holdfast.block.live_backup import LiveBackup, LiveOptions, ReadSize
from holdfast.block.partial_image import PartialImage
from holdfast.errors import BadRequest, DamagedData, HoldfastError, NoSpace
from holdfast.units import KIB, MIB


@pytest.mark.parametrize("fleecing", [True, False], ids=["fleecing", "direct"])
async def test_full_and_incremental_backups_are_of_one_moment(
    fleecing: bool, tmp_path: Path
) -> None:
    bench = LiveBench(tmp_path)
    with UploadRig(tmp_path) as rig:
        await back_up_live(bench, rig, fleecing=fleecing)
        assert rig.content("1.fidx") == bench.moment
        for run in range(2, 5):
            bench.partial = bench.new_partial()
            await bench.guest_writes(2)
            dirty = bench.bitmap.in_clusters(CHUNK).ones()
            base = rig.index(f"{run - 1}.fidx")
            backup = await back_up_live(bench, rig, fleecing=fleecing, base=base)
            assert rig.content(f"{run}.fidx") == bench.moment
            assert backup.outcome.read_bytes <= dirty * CHUNK
    bench.node.close()


@pytest.mark.parametrize("fleecing", [True, False], ids=["fleecing", "direct"])
async def test_a_retry_reads_what_was_not_stored_and_what_was_written_since(
    fleecing: bool, tmp_path: Path
) -> None:
    bench = LiveBench(tmp_path)
    with UploadRig(tmp_path) as rig:
        await back_up_live(bench, rig, fleecing=fleecing, writes=0)
        base = rig.index("1.fidx")
    bench.partial = bench.new_partial()
    for number in range(0, 30, 2):
        await bench.image.write(number * CHUNK, b"new" * 100)
    with UploadRig(tmp_path) as rig, pytest.raises(NoSpace):
        await back_up_live(bench, rig, fleecing=fleecing, base=base, writes=0, fail_after=9)
    stored = bench.partial.held()
    assert stored.ones() == 9
    bench.partial.save(str(tmp_path / "partial"))
    loaded = PartialImage.load(str(tmp_path / "partial"))
    assert loaded is not None
    bench.partial = loaded
    await bench.image.write(31 * CHUNK, b"later")
    again = int(stored.numbers()[0])
    await bench.image.write(again * CHUNK + 5, b"once more")
    expected = BitSet(COUNT)
    for number in (*range(0, 30, 2), 31):
        if not stored.test(number) or number == again:
            expected.set(number, number + 1)
    assert bench.bitmap.in_clusters(CHUNK) == expected
    with UploadRig(tmp_path) as rig:
        backup = await back_up_live(bench, rig, fleecing=fleecing, base=base, writes=0)
        assert rig.content("3.fidx") == bench.moment == bench.path.read_bytes()
    assert backup.outcome.read_bytes == expected.ones() * CHUNK
    assert bench.bitmap.count_bytes() == 0
    bench.node.close()


async def test_a_failed_full_backup_needs_no_base_for_its_retry(tmp_path: Path) -> None:
    bench = LiveBench(tmp_path)
    with UploadRig(tmp_path) as rig, pytest.raises(NoSpace):
        await back_up_live(bench, rig, fleecing=True, fail_after=20)
    with UploadRig(tmp_path) as rig:
        backup = await back_up_live(bench, rig, fleecing=True, refresh=BitSet(COUNT))
        assert rig.content("2.fidx") == bench.moment
    assert backup.outcome.read_bytes < SIZE
    bench.node.close()


async def test_a_spent_budget_breaks_the_backup_and_never_the_guest(tmp_path: Path) -> None:
    bench = LiveBench(tmp_path)
    bench.bitmap.record(0, SIZE)
    with UploadRig(tmp_path) as rig:
        writer = live_image(rig, "i.fidx")
        async with bench.options(fleecing=True, budget=64 * KIB) as options:
            backup = LiveBackup(
                bench.image,
                writer,
                bench.partial,
                options=options,
                bitmap=bench.bitmap,
                mode=BitmapMode.ON_SUCCESS,
                refresh=BitSet(COUNT),
            )
            go = asyncio.Event()
            copy_all = backup._copy_all

            async def later() -> None:
                await go.wait()
                await copy_all()

            backup._copy_all = later  # type: ignore[method-assign]
            at_moment = asyncio.Event()
            run = asyncio.ensure_future(backup.run(at_moment.set))
            await at_moment.wait()
            await bench.image.write(0, b"guest" * 100_000)
            go.set()
            with pytest.raises(HoldfastError, match="given up and the guest went on"):
                await run
            backup.fail(JobOutcome.FAILED)
            writer.abandon()
        assert await bench.image.read(0, 500_000) == b"guest" * 100_000
        assert bench.bitmap.count_bytes() >= SIZE - 512
    bench.node.close()


def test_damaged_partial_images_are_not_believed(tmp_path: Path) -> None:
    partial = PartialImage.empty(ImageFacts(size_bytes=MIB, chunk_bytes=CHUNK), base="s", owner="b")
    partial.add(2, b"\x11" * 32, 5)
    partial.add(3, b"")
    path = tmp_path / "p"
    partial.save(str(path))
    loaded = PartialImage.load(str(path))
    assert loaded is not None
    assert (loaded.digest(2), loaded.digest(3), loaded.base) == (b"\x11" * 32, b"", "s")
    assert loaded.held().numbers().tolist() == [2, 3]
    assert loaded.valid_as_of.tolist() == [-1, -1, 5, 0]
    data = path.read_bytes()
    for position in range(0, len(data), 5):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(DamagedData):
            PartialImage.load(str(path))
    assert PartialImage.load(str(tmp_path / "none")) is None


def test_reads_grow_on_a_fast_disk_and_shrink_on_a_slow_one() -> None:
    size = ReadSize(4 * MIB, 64 * KIB)
    seen = [size.size_bytes]
    for seconds in (0.001, 0.001, 0.001, 0.04, 1, 1, 1, 1, 1, 1, 1):
        size.took(size.size_bytes, seconds)
        seen.append(size.size_bytes)
    assert seen[:5] == [MIB, 2 * MIB, 4 * MIB, 4 * MIB, 4 * MIB]
    assert seen[5:] == [2 * MIB, MIB, 512 * KIB, 256 * KIB, 128 * KIB, 64 * KIB, 64 * KIB]
    size.took(KIB, 0)
    assert size.size_bytes == 64 * KIB
    assert ReadSize(100 * KIB, 64 * KIB).size_bytes == 64 * KIB
    assert ReadSize(64 * KIB, 4 * MIB).size_bytes == 4 * MIB


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"max_chunk_bytes": KIB}, {"min_cluster_bytes": 100_000}]
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        LiveOptions(**options)
