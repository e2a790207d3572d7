"""Backups of an image that is written meanwhile: the moment is exact, retries read the rest."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.harness.upload_rig import UploadRig

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import ImageFacts
from holdfast.block.copy_before_write import OnCbwError
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.fleecing import FleecingRecord, create
from holdfast.block.job_policy import BitmapMode, JobOutcome
from holdfast.block.live_backup import LiveBackup, LiveOptions
from holdfast.block.node import Access, FileNode
from holdfast.block.partial_image import PartialImage
from holdfast.block.tracked_image import TrackedImage
from holdfast.datastore.fixed_index import FixedIndexWriter
from holdfast.datastore.image_writer import ImageWriter
from holdfast.datastore.index import Index
from holdfast.datastore.segments import SegmentPool
from holdfast.errors import DamagedData, HoldfastError, NoSpace
from holdfast.units import KIB, MIB

CHUNK = 256 * KIB
SIZE = 8 * MIB + 512
COUNT = 33


class Bench:
    """An image with a bitmap, and a store to back it up into."""

    def __init__(self, directory: Path, *, seed: int = 1) -> None:
        self.directory = directory
        self.rng = random.Random(seed)
        self.path = directory / "image"
        self.path.write_bytes(self.rng.randbytes(SIZE))
        self.node = FileNode.open(str(self.path), Access.READ_WRITE)
        self.bitmap = DirtyBitmap(name="b", size_bytes=SIZE)
        self.image = TrackedImage(self.node, {"b": self.bitmap})
        self.partial = self.new_partial()
        self.moment = b""
        self.runs = 0

    def new_partial(self) -> PartialImage:
        facts = ImageFacts(size_bytes=SIZE, chunk_bytes=CHUNK)
        return PartialImage.empty(facts, base="", owner="b")

    async def guest_writes(self, count: int) -> None:
        for _number in range(count):
            length = self.rng.randrange(1, 200 * KIB)
            offset = self.rng.randrange(SIZE - length)
            match self.rng.randrange(6):
                case 0:
                    await self.image.write_zeroes(offset, length)
                case 1:
                    await self.image.discard(offset, length)
                case _:
                    await self.image.write(offset, self.rng.randbytes(length))

    def note_moment(self) -> None:
        self.moment = self.path.read_bytes()

    @asynccontextmanager
    async def options(self, *, fleecing: bool, budget: int = 0) -> AsyncIterator[LiveOptions]:
        if not fleecing:
            yield LiveOptions(on_cbw_error=OnCbwError.BREAK_GUEST_WRITE)
            return
        record = FleecingRecord(str(self.directory / "record"))
        path = str(self.directory / "vm-1-fleece-0.raw")
        scratch = create(path, SIZE, record, budget_bytes=budget)
        try:
            yield LiveOptions(fleecing=scratch)
        finally:
            await scratch.close()
            assert record.clean() == []


def _image(rig: UploadRig, name: str, base: Index | None = None) -> ImageWriter:
    """An image of the store in chunks of 256 KiB."""
    return ImageWriter(
        SIZE,
        FixedIndexWriter(str(rig.base / name), SIZE, CHUNK),
        rig.uploader,
        SegmentPool(segment_bytes=CHUNK, count_max=4),
        base=base,
        on_close=rig.closed.append,
    )


async def _back_up(
    bench: Bench,
    rig: UploadRig,
    *,
    fleecing: bool,
    base: Index | None = None,
    writes: int = 12,
    budget: int = 0,
    fail_after: int | None = None,
    refresh: BitSet | None = None,
) -> LiveBackup:
    """One run with guests writing beside it; raises what the run raised, with the job ended."""
    bench.runs += 1
    writer = _image(rig, f"{bench.runs}.fidx", base)
    if base is not None and refresh is None:
        refresh = BitSet(COUNT)
    async with bench.options(fleecing=fleecing, budget=budget) as options:
        backup = LiveBackup(
            bench.image,
            writer,
            bench.partial,
            options=options,
            bitmap=bench.bitmap,
            mode=BitmapMode.ALWAYS,
            refresh=refresh,
        )
        if fail_after is not None:
            _fail_after(backup, fail_after)
        guest = asyncio.ensure_future(bench.guest_writes(writes))
        try:
            await backup.run(bench.note_moment)
            writer.close()
        except HoldfastError:
            await guest
            backup.fail()
            writer.abandon()
            raise
        await guest
        backup.finish()
    return backup


def _fail_after(backup: LiveBackup, count: int) -> None:
    put = backup.put
    done: list[int] = []

    async def failing(number: int, data: bytes) -> None:
        if len(done) >= count:
            backup._failure = NoSpace("no space left while storing a chunk")
            raise OSError(28, "no space")
        done.append(number)
        await put(number, data)

    backup.put = failing  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("fleecing", [True, False], ids=["fleecing", "direct"])
async def test_full_and_incremental_backups_are_of_one_moment(
    fleecing: bool, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    with UploadRig(tmp_path) as rig:
        await _back_up(bench, rig, fleecing=fleecing)
        assert rig.content("1.fidx") == bench.moment
        for run in range(2, 5):
            bench.partial = bench.new_partial()
            await bench.guest_writes(2)
            dirty = bench.bitmap.in_clusters(CHUNK).ones()
            base = rig.index(f"{run - 1}.fidx")
            backup = await _back_up(bench, rig, fleecing=fleecing, base=base)
            assert rig.content(f"{run}.fidx") == bench.moment
            assert backup.outcome.read_bytes <= dirty * CHUNK
    bench.node.close()


@pytest.mark.parametrize("fleecing", [True, False], ids=["fleecing", "direct"])
async def test_a_retry_reads_what_was_not_stored_and_what_was_written_since(
    fleecing: bool, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    with UploadRig(tmp_path) as rig:
        await _back_up(bench, rig, fleecing=fleecing, writes=0)
        base = rig.index("1.fidx")
    bench.partial = bench.new_partial()
    for number in range(0, 30, 2):
        await bench.image.write(number * CHUNK, b"new" * 100)
    with UploadRig(tmp_path) as rig, pytest.raises(NoSpace):
        await _back_up(bench, rig, fleecing=fleecing, base=base, writes=0, fail_after=9)
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
        backup = await _back_up(bench, rig, fleecing=fleecing, base=base, writes=0)
        assert rig.content("3.fidx") == bench.moment == bench.path.read_bytes()
    assert backup.outcome.read_bytes == expected.ones() * CHUNK
    assert bench.bitmap.count_bytes() == 0
    bench.node.close()


async def test_a_failed_full_backup_needs_no_base_for_its_retry(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with UploadRig(tmp_path) as rig, pytest.raises(NoSpace):
        await _back_up(bench, rig, fleecing=True, fail_after=20)
    with UploadRig(tmp_path) as rig:
        backup = await _back_up(bench, rig, fleecing=True, refresh=BitSet(COUNT))
        assert rig.content("2.fidx") == bench.moment
    assert backup.outcome.read_bytes < SIZE
    bench.node.close()


async def test_a_spent_budget_breaks_the_backup_and_never_the_guest(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.bitmap.record(0, SIZE)
    with UploadRig(tmp_path) as rig:
        writer = _image(rig, "i.fidx")
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
