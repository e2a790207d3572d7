"""Images of snapshots as nodes, and the layer that takes writes on top of them."""

import os
import random
from pathlib import Path

import pytest
from tests.harness.upload_rig import UploadRig

from holdfast.block.node import Access, FileNode
from holdfast.block.snapshot_node import OverlayNode, SnapshotNode
from holdfast.datastore.image_writer import CHUNK_BYTES

SIZE = 3 * CHUNK_BYTES + 1000


def _snapshot(rig: UploadRig) -> tuple[SnapshotNode, bytes]:
    """Data, a chunk of zeros, data, a short rest."""
    rng = random.Random(6)
    content = rng.randbytes(CHUNK_BYTES) + bytes(CHUNK_BYTES) + rng.randbytes(CHUNK_BYTES + 1000)
    writer = rig.image(SIZE)
    for number in range(4):
        writer.put(number, content[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES])
    writer.close()
    return SnapshotNode(rig.reader("i.fidx"), None), content


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


async def test_an_archive_reads_as_it_was_and_knows_its_zeros(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        node, content = _snapshot(rig)
        assert node.size_bytes == SIZE
        for offset, length in ((0, 10), (CHUNK_BYTES - 5, 10), (SIZE - 1, 1), (0, SIZE)):
            assert await node.read(offset, length) == content[offset : offset + length]
        extents = [(e.offset, e.length, e.is_zero) for e in await node.extents(5, SIZE - 5)]
        assert extents == [
            (5, CHUNK_BYTES - 5, False),
            (CHUNK_BYTES, CHUNK_BYTES, True),
            (2 * CHUNK_BYTES, CHUNK_BYTES + 1000, False),
        ]
        with pytest.raises(OSError, match="past EOF"):
            await node.read(SIZE, 1)
        node.close()


async def test_a_damaged_chunk_is_an_io_error_for_the_guest(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        node, _content = _snapshot(rig)
        digest = rig.index("i.fidx").digest_at(2)
        _damage(Path(rig.chunks.path(digest)))
        with pytest.raises(OSError, match="damaged"):
            await node.read(2 * CHUNK_BYTES, 10)
        assert await node.read(0, 1)
        node.close()


async def test_an_overlay_is_the_base_with_what_was_written(tmp_path: Path) -> None:
    rng = random.Random(8)
    overlay = tmp_path / "overlay"
    overlay.touch()
    os.truncate(overlay, SIZE)
    with UploadRig(tmp_path) as rig:
        base, content = _snapshot(rig)
        layer = FileNode.open(str(overlay), Access.READ_WRITE)
        node, model = OverlayNode(base, layer), bytearray(content)
        for _step in range(60):
            length = rng.choice((1, 700, 65536, 200_000))
            offset = rng.randrange(SIZE - length)
            if rng.randrange(4) == 0:
                await node.write_zeroes(offset, length)
                model[offset : offset + length] = bytes(length)
            else:
                data = rng.randbytes(length)
                await node.write(offset, data)
                model[offset : offset + length] = data
            at = rng.randrange(SIZE - 300_000)
            assert await node.read(at, 300_000) == model[at : at + 300_000]
        assert await node.read(0, SIZE) == model
        for extent in await node.extents(0, SIZE):
            if extent.is_zero:
                assert not any(model[extent.offset : extent.end])
        layer.close()
        base.close()
