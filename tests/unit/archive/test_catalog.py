from typing import Any

import pytest
from tests.harness.archives import BytesReader, MemorySink
from tests.harness.vectors import load

from holdfast.archive.catalog import (
    KIND_OF_LETTER,
    MAGIC,
    CatalogReader,
    CatalogWriter,
    read_svarint,
    read_uvarint,
    svarint,
    uvarint,
)
from holdfast.archive.pxar.format import Kind
from holdfast.errors import BadRequest, DamagedData

VECTORS = load("pxar", "catalog")
CATALOGS = VECTORS["catalogs"]


def test_numbers_are_written_and_read_as_recorded() -> None:
    for case in VECTORS["varint_u64"]:
        data = bytes.fromhex(case["hex"])
        assert uvarint(int(case["value"])) == data
        assert read_uvarint(data, 0) == (int(case["value"]), len(data))
    for case in VECTORS["varint_i64"]:
        data = bytes.fromhex(case["hex"])
        assert svarint(int(case["value"])) == data
        assert read_svarint(data, 0) == (int(case["value"]), len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10 + b"\1", b"\xff" * 9 + b"\x7f"])
def test_numbers_without_an_end_are_damage(data: bytes) -> None:
    with pytest.raises(DamagedData):
        read_uvarint(data, 0)


@pytest.mark.parametrize("case", CATALOGS, ids=lambda case: case["name"])
def test_catalogs_are_written_as_recorded(case: dict[str, Any]) -> None:
    sink = MemorySink()
    writer = CatalogWriter(sink)
    for event in case["events"]:
        if event[0] == "d":
            writer.begin_directory(event[1].encode())
        elif event[0] == "e":
            writer.end_directory()
        elif event[0] == "f":
            writer.file(event[1].encode(), event[2], event[3])
        else:
            writer.other(event[1].encode(), KIND_OF_LETTER[ord(event[0])])
    writer.finish()

    assert sink.data.hex() == case["catalog_hex"]


@pytest.mark.parametrize("case", CATALOGS, ids=lambda case: case["name"])
def test_catalogs_are_read_back(case: dict[str, Any]) -> None:
    reader = CatalogReader(BytesReader(bytes.fromhex(case["catalog_hex"])))
    assert reader.root.block == case["root_offset"]

    parents: list[str] = []
    for event in case["events"]:
        if event[0] == "e":
            parents.pop()
            continue
        found = reader.lookup("/".join([*parents, event[1]]).encode())
        assert found is not None
        assert found.kind is KIND_OF_LETTER[ord(event[0])]
        if event[0] == "f":
            assert [found.size, found.mtime_s] == event[2:]
        if event[0] == "d":
            parents.append(event[1])
    assert len(list(reader.walk())) == sum(event[0] != "e" for event in case["events"])


def test_absent_paths_are_not_found() -> None:
    nested = next(case for case in CATALOGS if case["name"] == "nested")
    reader = CatalogReader(BytesReader(bytes.fromhex(nested["catalog_hex"])))

    assert reader.lookup(b"root.pxar.didx/home/nobody") is None
    assert reader.lookup(b"root.pxar.didx/bin/x") is None


def catalog(*blocks: bytes) -> CatalogReader:
    data = MAGIC
    start = len(MAGIC)
    for block in blocks:
        start = len(data)
        data += uvarint(len(block)) + block
    return CatalogReader(BytesReader(data + start.to_bytes(8, "little")))


@pytest.mark.parametrize(
    "block",
    [
        b"\1d\1a\0",  # a directory that is its own child
        b"\1d\1a\x7f",  # before the beginning
        b"\1x\1a",
        b"\1l\0",
        b"\1l\1/",
        b"\1l\1\0",
        b"\1l\5a",
        b"\2l\1a",
        b"\1l\1ab",
        b"\xff\xff\xff\xff\x0fl\1a",
    ],
)
def test_impossible_blocks_are_damage(block: bytes) -> None:
    reader = catalog(block)

    with pytest.raises(DamagedData):
        reader.children(reader.root)


def test_shared_directories_cannot_make_a_walk_endless() -> None:
    doubled = b"\2d\1a%cd\1b%c"
    blocks = [b"\0"]
    size = 2
    for _ in range(60):
        blocks.append(doubled % (size, size))
        size = len(blocks[-1]) + 1
    reader = catalog(*blocks)

    with pytest.raises(DamagedData, match="shared"):
        list(reader.walk())


def test_what_is_no_catalog_is_damage() -> None:
    with pytest.raises(DamagedData, match="begin"):
        CatalogReader(BytesReader(bytes(40)))
    reader = CatalogReader(BytesReader(MAGIC + b"\1\0" + b"\xff" * 8))
    with pytest.raises(DamagedData, match="outside"):
        reader.children(reader.root)


def test_directories_have_to_be_closed() -> None:
    writer = CatalogWriter(MemorySink())
    writer.begin_directory(b"x.pxar.didx")
    writer.other(b"link", Kind.SYMLINK)
    with pytest.raises(BadRequest, match="still open"):
        writer.finish()
    writer.end_directory()
    with pytest.raises(BadRequest, match="no open"):
        writer.end_directory()
