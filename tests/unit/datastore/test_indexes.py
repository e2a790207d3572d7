"""Fixed and dynamic indexes: recorded files, writers, lookups, lies."""

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.harness import vectors

from holdfast.datastore.blob import CHUNK_BYTES_MAX
from holdfast.datastore.dynamic_index import DynamicIndex, DynamicIndexWriter
from holdfast.datastore.fixed_index import CHUNK_BYTES, FixedIndex, FixedIndexWriter
from holdfast.datastore.index import HEADER_BYTES, Index, open_index
from holdfast.errors import BadRequest, DamagedData, NotFound

RECORDED = vectors.load("datastore", "indexes")
BY_NAME = {case["name"]: case for case in RECORDED["indexes"]}
A, B, C = (hashlib.sha256(bytes([number])).digest() for number in range(3))


def _bytes_of(case: dict[str, Any]) -> bytes:
    head = bytes.fromhex(case["header_hex"]).ljust(HEADER_BYTES, b"\0")
    return head + bytes.fromhex(case["body_hex"])


def _write(tmp_path: Path, name: str, data: bytes) -> str:
    path = tmp_path / f"x.{name[:4]}"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("case", RECORDED["indexes"], ids=lambda case: case["name"])
def test_recorded_index_is_read_as_recorded(tmp_path: Path, case: dict[str, Any]) -> None:
    data = _bytes_of(case)
    assert len(data) == case["file_len"]
    assert hashlib.sha256(data).hexdigest() == case["file_sha256"]

    index = open_index(_write(tmp_path, case["name"], data))

    assert isinstance(index, Index)
    assert index.size_bytes == case["size"]
    assert index.checksum().hex() == index.header_csum.hex() == case["csum"]
    assert list(index.digests()) == [A, B, C][: index.chunk_count]
    assert [index.digest_at(i) for i in range(index.chunk_count)] == list(index.digests())
    ranges = [index.range_at(i) for i in range(index.chunk_count)]
    assert ranges == [tuple(each) for each in case.get("chunk_ranges", [(0, case["size"])])]
    if "uuid" in case:
        assert index.uuid.hex() == case["uuid"].replace("-", "")
        assert index.ctime_s == case["ctime"]


@pytest.mark.parametrize("case", RECORDED["indexes"], ids=lambda case: case["name"])
def test_every_boundary_is_found_in_the_right_chunk(tmp_path: Path, case: dict[str, Any]) -> None:
    index = open_index(_write(tmp_path, case["name"], _bytes_of(case)))

    for position in range(index.chunk_count):
        start, end = index.range_at(position)
        assert index.find(start) == index.find(end - 1) == position
    for offset in (-1, index.size_bytes):
        with pytest.raises(IndexError):
            index.find(offset)
    for position in (-1, index.chunk_count):
        with pytest.raises(IndexError):
            index.digest_at(position)
        with pytest.raises(IndexError):
            index.range_at(position)


def _malformed(rule: str) -> tuple[str, bytes]:
    fixed = _bytes_of(BY_NAME["fidx-3-chunks-partial-last"])
    dynamic = _bytes_of(BY_NAME["didx-3-chunks"])
    return {
        "fidx-3-chunks-partial-last with the last byte removed": ("fidx", fixed[:-1]),
        "fidx-3-chunks-partial-last plus one byte": ("fidx", fixed + b"\0"),
        "didx-3-chunks minus one byte": ("didx", dynamic[:-1]),
        "any 4095-byte file": ("didx", dynamic[:4095]),
    }[rule]


@pytest.mark.parametrize("case", RECORDED["bad"][:-1], ids=lambda case: case["name"])
def test_recorded_malformed_index_is_damage(tmp_path: Path, case: dict[str, Any]) -> None:
    suffix, data = _malformed(case["rule"])

    with pytest.raises(DamagedData):
        open_index(_write(tmp_path, suffix, data))


def test_changed_digest_opens_and_shows_in_the_checksum(tmp_path: Path) -> None:
    assert RECORDED["bad"][-1]["name"] == "fidx-bad-csum"
    data = bytearray(_bytes_of(BY_NAME["fidx-3-chunks-partial-last"]))
    data[HEADER_BYTES] ^= 0xFF

    index = open_index(_write(tmp_path, "fidx", bytes(data)))

    assert index.checksum() != index.header_csum


def test_fixed_writer_makes_the_recorded_file_but_for_uuid_and_time(tmp_path: Path) -> None:
    case = BY_NAME["fidx-3-chunks-partial-last"]
    path = str(tmp_path / "disk.img.fidx")

    with FixedIndexWriter(path, case["size"]) as writer:
        assert sorted(os.listdir(tmp_path)) == ["disk.img.tmp_fidx"]
        for position, digest in ((2, C), (0, A), (1, B)):
            writer.put(position, digest)
        summary = writer.close()

    recorded, ours = _bytes_of(case), Path(path).read_bytes()
    assert ours[:8] + ours[32:] == recorded[:8] + recorded[32:]
    assert summary.checksum.hex() == case["csum"]
    assert (summary.size_bytes, summary.chunk_count) == (case["size"], 3)
    assert os.listdir(tmp_path) == ["disk.img.fidx"]
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_dynamic_writer_makes_the_recorded_file_but_for_uuid_and_time(tmp_path: Path) -> None:
    case = BY_NAME["didx-3-chunks"]
    path = str(tmp_path / "root.pxar.didx")

    with DynamicIndexWriter(path) as writer:
        assert sorted(os.listdir(tmp_path)) == ["root.pxar.tmp_didx"]
        for (_start, end), digest in zip(case["chunk_ranges"], (A, B, C), strict=True):
            writer.append(end, digest)
        summary = writer.close()

    recorded, ours = _bytes_of(case), Path(path).read_bytes()
    assert ours[:8] + ours[32:] == recorded[:8] + recorded[32:]
    assert summary.checksum.hex() == case["csum"]
    assert (summary.size_bytes, summary.chunk_count) == (5001, 3)
    assert os.listdir(tmp_path) == ["root.pxar.didx"]


def test_long_dynamic_index_written_in_pieces_reads_back(tmp_path: Path) -> None:
    path = str(tmp_path / "long.didx")
    digests = [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(5000)]

    with DynamicIndexWriter(path) as writer:
        for number, digest in enumerate(digests):
            writer.append(1000 * (number + 1), digest)
        summary = writer.close()

    index = DynamicIndex.open(path)
    assert list(index.digests()) == digests
    assert index.checksum() == index.header_csum == summary.checksum
    assert index.size_bytes == 5_000_000
    assert index.find(4_999_999) == 4999


@pytest.mark.parametrize("suffix", ["fidx", "didx"])
def test_writer_left_by_an_exception_leaves_no_file(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"x.{suffix}")

    def begin() -> FixedIndexWriter | DynamicIndexWriter:
        return FixedIndexWriter(path, 100) if suffix == "fidx" else DynamicIndexWriter(path)

    with pytest.raises(RuntimeError), begin():
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_writer_takes_over_the_temporary_name_of_a_killed_one(tmp_path: Path) -> None:
    (tmp_path / "x.tmp_didx").write_bytes(b"left behind")

    with DynamicIndexWriter(str(tmp_path / "x.didx")) as writer:
        writer.append(7, A)
        writer.close()

    assert DynamicIndex.open(str(tmp_path / "x.didx")).size_bytes == 7


def test_index_without_chunks_cannot_be_closed(tmp_path: Path) -> None:
    with DynamicIndexWriter(str(tmp_path / "x.didx")) as writer, pytest.raises(BadRequest):
        writer.close()
    with FixedIndexWriter(str(tmp_path / "x.fidx"), 2 * CHUNK_BYTES) as fixed:
        fixed.put(0, A)
        with pytest.raises(BadRequest, match="chunk 1 "):
            fixed.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("old_size", "new_size", "kept"),
    [
        (3 * CHUNK_BYTES, 3 * CHUNK_BYTES, 3),
        (3 * CHUNK_BYTES - 5, 3 * CHUNK_BYTES - 5, 3),
        (3 * CHUNK_BYTES - 5, 3 * CHUNK_BYTES, 2),
        (3 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1, 2),
        (2 * CHUNK_BYTES, 5 * CHUNK_BYTES, 2),
    ],
)
def test_only_chunks_that_are_whole_in_both_images_come_from_the_base(
    tmp_path: Path, old_size: int, new_size: int, kept: int
) -> None:
    base_path = str(tmp_path / "old.fidx")
    with FixedIndexWriter(base_path, old_size) as writer:
        for position in range(writer.chunk_count):
            writer.put(position, A)
        writer.close()

    with FixedIndexWriter(
        str(tmp_path / "new.fidx"), new_size, base=FixedIndex.open(base_path)
    ) as writer:
        taken = [writer.digest_at(position) == A for position in range(writer.chunk_count)]

    assert taken == [position < kept for position in range(len(taken))]


def test_dynamic_index_whose_ends_do_not_grow_is_damage() -> None:
    good = _bytes_of(BY_NAME["didx-3-chunks"])
    for ends in ((1000, 1000, 5001), (1000, 500, 5001), (0, 1, 2), (1, 2, CHUNK_BYTES_MAX + 3)):
        data = bytearray(good)
        for position, end in enumerate(ends):
            struct.pack_into("<Q", data, HEADER_BYTES + 40 * position, end)
        with pytest.raises(DamagedData):
            DynamicIndex(bytes(data), path="x.didx")


@pytest.mark.parametrize("chunk_bytes", [0, 1, 32 << 10, 3 << 20, 8 << 20, (1 << 64) - 1])
def test_fixed_index_with_an_impossible_chunk_size_is_damage(chunk_bytes: int) -> None:
    data = bytearray(_bytes_of(BY_NAME["fidx-1-chunk-exact"]))
    struct.pack_into("<Q", data, 72, chunk_bytes)

    with pytest.raises(DamagedData):
        FixedIndex(bytes(data), path="x.fidx")


def test_headers_alone_are_damage() -> None:
    for name, kind in (("fidx-1-small", FixedIndex), ("didx-3-chunks", DynamicIndex)):
        with pytest.raises(DamagedData):
            kind(_bytes_of(BY_NAME[name])[:HEADER_BYTES], path="x")


def test_one_kind_under_the_name_of_the_other_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamagedData):
        open_index(_write(tmp_path, "didx", _bytes_of(BY_NAME["fidx-1-small"])))
    with pytest.raises(DamagedData):
        open_index(_write(tmp_path, "fidx", _bytes_of(BY_NAME["didx-3-chunks"])))


def test_missing_index_is_not_found_and_links_are_not_followed(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_index(str(tmp_path / "x.didx"))
    target = _write(tmp_path, "didx", _bytes_of(BY_NAME["didx-3-chunks"]))
    (tmp_path / "link.didx").symlink_to(target)
    with pytest.raises(Exception, match="symbolic"):
        open_index(str(tmp_path / "link.didx"))
