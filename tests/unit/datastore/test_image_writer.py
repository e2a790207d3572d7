"""Chunks of an image arrive in any order and in four ways, and land where they belong."""

from pathlib import Path

import pytest
from tests.harness.upload_rig import UploadRig

from holdfast.datastore.image_writer import CHUNK_BYTES, Fill, ImageWriter
from holdfast.errors import BadRequest, HoldfastError

ZERO_DIGEST = "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8"


def test_chunks_in_any_order_make_up_the_image(tmp_path: Path) -> None:
    size = 2 * CHUNK_BYTES + 100
    with UploadRig(tmp_path) as rig:
        writer = rig.image(size)
        writer.put(2, b"c" * 100)
        writer.fetch(1, lambda target: target.__setitem__(slice(None), b"b" * len(target)))
        writer.put_zero(0)
        summary = writer.close()

        assert summary.size_bytes == size
        assert rig.content("i.fidx") == bytes(CHUNK_BYTES) + b"b" * CHUNK_BYTES + b"c" * 100
        assert rig.index("i.fidx").digest_at(0).hex() == ZERO_DIGEST


def test_zeros_that_were_read_are_recognised_and_stored_once(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.image(4 * CHUNK_BYTES)
        writer.put(0, bytes(CHUNK_BYTES))
        writer.fetch(1, lambda target: target.__setitem__(slice(None), bytes(len(target))))
        writer.put_zero(2)
        writer.put(3, bytes(CHUNK_BYTES - 1) + b"x")
        writer.close()
        rig.uploader.stop()
        stats = rig.uploader.stats

    assert (stats.count, stats.reused_chunks) == (2, 2)
    assert {digest.hex() for digest in rig.index("i.fidx").digests()} >= {ZERO_DIGEST}


def test_a_short_last_chunk_of_zeros_keeps_its_length(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.image(CHUNK_BYTES + 10)
        writer.put_zero(1)
        writer.put_zero(0)
        writer.close()

        assert rig.content("i.fidx") == bytes(CHUNK_BYTES + 10)


def test_kept_chunks_come_from_the_base_without_being_read(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        first = rig.image(2 * CHUNK_BYTES, "base.fidx")
        first.put(0, b"0" * CHUNK_BYTES)
        first.put(1, b"1" * CHUNK_BYTES)
        first.close()
        second = rig.image(2 * CHUNK_BYTES, base=rig.index("base.fidx"))
        second.keep(0)
        second.put(1, b"2" * CHUNK_BYTES)
        second.close()

        assert rig.content("i.fidx") == b"0" * CHUNK_BYTES + b"2" * CHUNK_BYTES


def test_a_chunk_that_had_another_length_in_the_base_is_not_kept(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        first = rig.image(10, "base.fidx")
        first.put(0, b"0" * 10)
        first.close()
        second = rig.image(11, base=rig.index("base.fidx"))
        with pytest.raises(BadRequest):
            second.keep(0)
        second.abandon()


def test_nothing_is_kept_without_a_base(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.image(10)
        with pytest.raises(BadRequest):
            writer.keep(0)
        writer.abandon()


@pytest.mark.parametrize("number", [-1, 1])
def test_chunks_outside_the_image_are_refused(tmp_path: Path, number: int) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.image(10)
        with pytest.raises(BadRequest):
            writer.put(number, b"0" * 10)
        writer.abandon()


def test_a_chunk_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.image(10)
        with pytest.raises(BadRequest):
            writer.put(0, b"0" * 9)
        writer.abandon()


def test_an_image_with_a_chunk_missing_is_not_finished(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.image(2 * CHUNK_BYTES)
        writer.put_zero(0)
        with pytest.raises(BadRequest):
            writer.close()
        writer.abandon()

    assert [path.name for path in tmp_path.iterdir()] == [".chunks"]


def fetched_and_closed(writer: ImageWriter, fill: Fill) -> None:
    writer.fetch(1, fill)
    writer.close()


def test_a_source_that_fails_ends_the_image(tmp_path: Path) -> None:
    def broken(_target: memoryview) -> None:
        raise HoldfastError("the disk is gone")

    with UploadRig(tmp_path) as rig:
        writer = rig.image(2 * CHUNK_BYTES)
        writer.put_zero(0)
        with pytest.raises(HoldfastError, match="the disk is gone"):
            fetched_and_closed(writer, broken)
        writer.abandon()
