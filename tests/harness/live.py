"""An image that guests write to, and live backups of it into a bare chunk directory."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import ImageFacts
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.fleecing import FleecingRecord, create
from holdfast.block.job_policy import BitmapMode
from holdfast.block.live_backup import LiveBackup, LiveOptions
from holdfast.block.node import Access, Buffer, FileNode
from holdfast.block.partial_image import PartialImage
from holdfast.block.tracked_image import TrackedImage
from holdfast.datastore.fixed_index import FixedIndexWriter
from holdfast.datastore.image_writer import ImageWriter
from holdfast.datastore.index import Index
from holdfast.datastore.segments import SegmentPool
from holdfast.errors import HoldfastError, NoSpace
from holdfast.units import KIB, MIB
from tests.harness.upload_rig import UploadRig

CHUNK = 256 * KIB
SIZE = 8 * MIB + 512
COUNT = 33


class LiveBench:
    """An image with a bitmap, and a store to back it up into."""

    def __init__(self, directory: Path, *, seed: int = 1, fresh: bool = True) -> None:
        self.directory = directory
        self.rng = random.Random(seed)
        self.path = directory / "image"
        if fresh:
            self.path.write_bytes(self.rng.randbytes(SIZE))
        self.node = FileNode.open(str(self.path), Access.READ_WRITE)
        self.bitmap = DirtyBitmap(name="b", size_bytes=SIZE)
        self.image = TrackedImage(self.node, {"b": self.bitmap})
        self.partial = self.new_partial()
        self.moment = b""
        self.runs = 0
        self.finished = 0
        self.writes_from = 0  # where guest_writes begins

    def new_partial(self) -> PartialImage:
        facts = ImageFacts(size_bytes=SIZE, chunk_bytes=CHUNK)
        return PartialImage.empty(facts, base="", owner="b")

    async def guest_writes(self, count: int) -> None:
        for _number in range(count):
            length = self.rng.randrange(1, 200 * KIB)
            offset = self.rng.randrange(self.writes_from, SIZE - length)
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
            yield LiveOptions()
            return
        record = FleecingRecord(str(self.directory / "record"))
        path = str(self.directory / "vm-1-fleece-0.raw")
        scratch = create(path, SIZE, record, budget_bytes=budget)
        try:
            yield LiveOptions(fleecing=scratch)
        finally:
            await scratch.close()
            assert record.clean() == []


def live_image(rig: UploadRig, name: str, base: Index | None = None) -> ImageWriter:
    """An image of the store in chunks of 256 KiB."""
    return ImageWriter(
        SIZE,
        FixedIndexWriter(str(rig.base / name), SIZE, CHUNK),
        rig.uploader,
        SegmentPool(segment_bytes=CHUNK, count_max=4),
        base=base,
        on_close=rig.closed.append,
    )


async def back_up_live(
    bench: LiveBench,
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
    writer = live_image(rig, f"{bench.runs}.fidx", base)
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

    async def failing(number: int, *parts: Buffer) -> None:
        if len(done) >= count:
            backup._failure = NoSpace("no space left while storing a chunk")
            raise OSError(28, "no space")
        done.append(number)
        await put(number, *parts)

    backup.put = failing  # type: ignore[method-assign]
