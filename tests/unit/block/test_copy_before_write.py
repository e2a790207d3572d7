"""The copy-before-write filter and its snapshot reader against what QEMU did, and in races."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.harness.vectors import load

from holdfast.block.bit_set import BitSet
from holdfast.block.copy_before_write import ClusterCopy, CopyBeforeWrite, OnCbwError, cluster_size
from holdfast.block.dirty_bitmap import DirtyBitmap, bits_for
from holdfast.block.fleecing import FleecingImage, FleecingRecord, create
from holdfast.block.node import Access, Buffer, FileNode
from holdfast.block.tracked_image import Discard, TrackedImage
from holdfast.errors import BadRequest
from holdfast.units import KIB, MIB

CASES = load("block", "cbw_snapshot_access")["cases"]
CLUSTER = 64 * KIB


class FailingTarget:
    """A fleecing image whose disk complains at one cluster, once or for ever."""

    def __init__(self, image: FleecingImage, error: dict[str, Any] | None) -> None:
        self.image = image
        self.error = error
        self.held: set[int] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def save(self, offset: int, data: Buffer) -> None:
        await self.gate.wait()
        clusters = range(offset // CLUSTER, bits_for(offset + len(data), CLUSTER))
        error = self.error
        if error is not None and error["cluster"] in clusters:
            if error["once"]:
                self.error = None
            raise OSError(error["errno"], "injected")
        await self.image.save(offset, data)
        self.held |= set(clusters)

    async def save_zeroes(self, offset: int, length: int) -> None:
        await self.image.save_zeroes(offset, length)

    async def forget(self, offset: int, length: int) -> None:
        await self.image.forget(offset, length)
        self.held -= set(range(offset // CLUSTER, bits_for(offset + length, CLUSTER)))


class Setup:
    """An image, a filter over it and the state of the image when the filter came."""

    def __init__(self, image: TrackedImage, cbw: CopyBeforeWrite, target: FailingTarget) -> None:
        self.image = image
        self.cbw = cbw
        self.target = target
        self.past = b""


@asynccontextmanager
async def _setup(
    tmp_path: Path,
    *,
    size: int = 2 * MIB,
    cluster: int = CLUSTER,
    protect: list[int] | None = None,
    error: dict[str, Any] | None = None,
    on_error: OnCbwError = OnCbwError.BREAK_GUEST_WRITE,
    timeout_s: float = 0,
    discard: Discard = Discard.UNMAP,
    budget_bytes: int = 0,
) -> AsyncIterator[Setup]:
    path = tmp_path / "image"
    path.write_bytes(b"".join(bytes([0x11 + i % 32]) * CLUSTER for i in range(size // CLUSTER)))
    node = FileNode.open(str(path), Access.READ_WRITE)
    record = FleecingRecord(str(tmp_path / "record"))
    fleece = create(str(tmp_path / "fleece"), size, record, budget_bytes=budget_bytes)
    target = FailingTarget(fleece, error)
    copy = BitSet.full(bits_for(size, cluster))
    if protect is not None:
        copy.clear_all()
        for number in protect:
            copy.set(number, number + 1)
    copying = ClusterCopy(node, target, cluster_bytes=cluster, copy=copy)
    cbw = CopyBeforeWrite(copying, saved=fleece.node, on_error=on_error, timeout_s=timeout_s)
    image = TrackedImage(node, {"b": DirtyBitmap(name="b", size_bytes=size)}, discard=discard)
    image.filters.append(cbw)
    setup = Setup(image, cbw, target)
    setup.past = path.read_bytes()
    try:
        yield setup
    finally:
        await cbw.settle()
        await fleece.close()
        node.close()


async def _outcome(setup: Setup, op: dict[str, Any]) -> str:
    offset, length = op["offset"], op["length"]
    try:
        match op["op"]:
            case "guest_write":
                await setup.image.write(offset, b"\xee" * length)
            case "guest_zero":
                await setup.image.write_zeroes(offset, length)
            case "guest_trim":
                await setup.image.discard(offset, length)
            case "guest_read":
                await setup.image.read(offset, length)
            case "snap_discard":
                await setup.cbw.discard(offset, length)
            case "snap_read":
                assert await setup.cbw.read(offset, length) == setup.past[offset : offset + length]
    except PermissionError:
        return "EINVAL"  # how NBD has to put it
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_sets_and_results_are_those_of_qemu(case: dict[str, Any], tmp_path: Path) -> None:
    cluster = cluster_size(minimum_bytes=case["min_cluster_size"] or 0)
    assert cluster == case["job_cluster_size"]
    async with _setup(
        tmp_path,
        size=case["image_size"],
        cluster=cluster,
        protect=case["bitmap"],
        error=case["target_error"],
        on_error=OnCbwError(case["on_cbw_error"]),
        discard=Discard.UNMAP if case["guest_node_unmap"] else Discard.IGNORE,
    ) as setup:
        cbw = setup.cbw
        for op in case["ops"]:
            if op["op"] == "snap_write":
                continue  # the export refuses it: see the server's tests
            assert await _outcome(setup, op) == op["result"], op
            assert cbw.access.ones() * cluster == op["access_bytes"], op
            assert cbw.done.ones() * cluster == op["done_bytes"], op
            assert cbw.copying.copy.ones() * cluster == op["copy_bytes"], op
            assert sorted(setup.target.held) == op["target_clusters_holding_old_data"], op
        readable = []
        for number in range(case["image_size"] // CLUSTER):
            read = {"op": "snap_read", "offset": number * CLUSTER, "length": CLUSTER}
            if await _outcome(setup, read) == "ok":
                readable.append(number)
        assert readable == case["final_readable_clusters_64k"]


async def test_two_writes_to_one_cluster_are_saved_once(tmp_path: Path) -> None:
    async with _setup(tmp_path) as setup:
        setup.target.gate.clear()
        writes = [asyncio.ensure_future(setup.image.write(at, b"x" * 10)) for at in (0, 100, 50)]
        await asyncio.sleep(0)
        assert not any(write.done() for write in writes)
        setup.target.gate.set()
        await asyncio.gather(*writes)
        assert setup.cbw.copying.tasks_made == 1
        assert await setup.cbw.read(0, CLUSTER) == setup.past[:CLUSTER]


async def test_a_long_write_is_saved_in_tasks_of_a_mebibyte(tmp_path: Path) -> None:
    async with _setup(tmp_path, size=3 * MIB) as setup:
        await setup.image.write(0, b"y" * (40 * CLUSTER))
        assert setup.cbw.copying.tasks_made == 3


async def test_overlapping_writes_land_in_the_order_they_came(tmp_path: Path) -> None:
    async with _setup(tmp_path) as setup:
        setup.target.gate.clear()
        writes = [
            asyncio.ensure_future(setup.image.write(100 * n, bytes([n]) * 1000)) for n in range(8)
        ]
        await asyncio.sleep(0)
        setup.target.gate.set()
        await asyncio.gather(*writes)
        expected = bytearray(2000)
        for n in range(8):
            expected[100 * n : 100 * n + 1000] = bytes([n]) * 1000
        assert await setup.image.read(0, 1700) == expected[:1700]


async def test_a_guest_waits_no_longer_than_the_timeout_and_the_snapshot_survives(
    tmp_path: Path,
) -> None:
    async with _setup(tmp_path, timeout_s=0.02) as setup:
        setup.target.gate.clear()
        with pytest.raises(OSError, match="too long") as caught:
            await setup.image.write(0, b"x")
        assert caught.value.errno == errno.ETIMEDOUT
        setup.target.gate.set()
        await setup.cbw.settle()
        await setup.image.write(0, b"x")
        assert await setup.cbw.read(0, CLUSTER) == setup.past[:CLUSTER]


async def test_breaking_the_snapshot_lets_the_guest_go_on(tmp_path: Path) -> None:
    async with _setup(tmp_path, timeout_s=0.02, on_error=OnCbwError.BREAK_SNAPSHOT) as setup:
        setup.target.gate.clear()
        await setup.image.write(0, b"x")
        with pytest.raises(PermissionError):
            await setup.cbw.read(MIB, 1)
        assert setup.cbw.snapshot_error is not None
        assert setup.cbw.snapshot_error.errno == errno.ETIMEDOUT
        setup.target.gate.set()


async def test_the_budget_of_space_counts_what_is_held(tmp_path: Path) -> None:
    async with _setup(tmp_path, budget_bytes=2 * CLUSTER) as setup:
        await setup.image.write(0, b"x")
        await setup.image.write(CLUSTER, b"x")
        with pytest.raises(OSError, match="budget"):
            await setup.image.write(2 * CLUSTER, b"x")
        await setup.cbw.discard(0, CLUSTER)
        assert setup.target.image.saved_bytes == CLUSTER
        await setup.image.write(2 * CLUSTER, b"x")
        assert setup.target.image.saved_bytes_max == 2 * CLUSTER


async def test_holes_stay_holes_in_the_fleecing_image(tmp_path: Path) -> None:
    async with _setup(tmp_path) as setup:
        await setup.image.node.discard(4 * CLUSTER, 4 * CLUSTER)
        await setup.image.write(3 * CLUSTER, b"x" * 6 * CLUSTER)
        assert sorted(setup.target.held) == [3, 8]
        assert await setup.cbw.read(4 * CLUSTER, 4 * CLUSTER) == bytes(4 * CLUSTER)
        extents = await setup.cbw.extents(3 * CLUSTER, 6 * CLUSTER)
        zero = [(e.offset // CLUSTER, e.length // CLUSTER) for e in extents if e.is_zero]
        assert zero == [(4, 4)]


async def test_a_drain_has_no_request_on_both_sides(tmp_path: Path) -> None:
    async with _setup(tmp_path) as setup:
        setup.target.gate.clear()
        early = asyncio.ensure_future(setup.image.write(0, b"early"))
        await asyncio.sleep(0)
        order: list[str] = []

        async def drain() -> None:
            async with setup.image.drained():
                order.append("drained")
                assert early.done()

        async def late() -> None:
            await setup.image.write(0, b"later")
            order.append("late")

        tasks = [asyncio.ensure_future(drain())]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(late()))
        await asyncio.sleep(0)
        setup.target.gate.set()
        await asyncio.gather(*tasks)
        assert order == ["drained", "late"]


@pytest.mark.parametrize("wrong", [3, 96 * KIB, 128 * MIB])
def test_cluster_sizes_that_break_something_are_refused(wrong: int) -> None:
    with pytest.raises(BadRequest):
        cluster_size(minimum_bytes=wrong)
    assert cluster_size(target_bytes=MIB, minimum_bytes=32 * KIB) == MIB
