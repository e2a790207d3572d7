"""Pages against recorded ones of a real server."""

from typing import Any

import numpy as np
import pytest
from tests.harness.vectors import GOLDEN, load

from holdfast.errors import DamagedData
from holdfast.postgres import pages
from holdfast.postgres.byte_source import MemorySource
from holdfast.postgres.native_incremental import read_header, windows

VECTORS: list[dict[str, Any]] = load("postgres", "pages/pages")


def page(name: str) -> bytes:
    return (GOLDEN / "postgres" / "pages" / name).read_bytes()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["file"])
def test_headers_and_checksums_are_those_recorded(vector: dict[str, Any]) -> None:
    view = pages.pages_of(page(vector["file"]))
    assert int(pages.lsns(view)[0]) == vector["lsn_int"]
    assert int(pages.stored_checksums(view)[0]) == vector["pd_checksum"]
    assert bool(pages.are_new(view)[0]) == vector["is_new"]
    if vector["computed_checksum"] is not None:
        computed = pages.checksums(view, vector["block_number"])
        assert int(computed[0]) == vector["computed_checksum"]


def test_many_pages_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(5)
    data = rng.integers(0, 256, 300 * 8192, dtype=np.uint8).tobytes()
    view = pages.pages_of(data)
    together = pages.checksums(view, 131_000)
    for number in (0, 127, 128, 299):
        assert together[number] == pages.checksums(view[number : number + 1], 131_000 + number)[0]


def test_damage_is_found_and_new_or_young_pages_are_not_suspected() -> None:
    good, flipped = page("heap_blk0.bin"), page("heap_blk0_bitflip.bin")
    lsn = int(pages.lsns(pages.pages_of(good))[0])
    data = good + bytes(8192) + b"rest"
    assert pages.bad_pages(data, 0, before_lsn=lsn + 1) == []
    (bad,) = pages.bad_pages(flipped, 0, before_lsn=lsn + 1)
    assert bad.block == 0
    assert bad.stored != bad.computed
    assert pages.bad_pages(flipped, 0, before_lsn=lsn) == []
    assert [bad.block for bad in pages.bad_pages(good, 1, before_lsn=lsn + 1)] == [1]


@pytest.mark.parametrize("vector", load("postgres", "native/incremental_headers"))
def test_headers_of_native_incrementals_are_those_recorded(vector: dict[str, Any]) -> None:
    head = bytes.fromhex(vector["header_hex"])
    source = MemorySource(head + bytes(vector["size"] - len(head)))
    header = read_header(source)
    assert header.truncation_blocks == vector["truncation_block_length"]
    assert header.blocks.tolist() == vector["blocks"]
    assert header.content_at == vector["header_len"]


def incremental(truncation: int, blocks: dict[int, bytes], block: int = 64) -> bytes:
    head = b"".join(n.to_bytes(4, "little") for n in (0xD3AE1F0D, len(blocks), truncation, *blocks))
    if blocks:
        head += bytes(-len(head) % block)
    return head + b"".join(blocks.values())


def test_a_native_incremental_names_blocks_and_leaves_others_to_the_file_before() -> None:
    source = MemorySource(incremental(4, {1: b"X" * 64, 5: b"Y" * 64}))
    made = windows(source, read_header(source, 64), 3, block_bytes=64, window_blocks=4)
    found = [(bytes(data), unmodified) for data, unmodified in made]
    assert found == [
        (bytes(64) + b"X" * 64 + bytes(2 * 64), [True, False, True, False]),
        (bytes(64) + b"Y" * 64, [False, False]),
    ]
    shorter = MemorySource(incremental(1, {}))
    made = windows(shorter, read_header(shorter, 64), 3, block_bytes=64)
    assert [unmodified for _data, unmodified in made] == [[True]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        incremental(1, {})[:11],
        b"\0" + incremental(1, {})[1:],
        incremental(1, {0: b"x" * 64})[:-1],
        incremental(1, {3: b"x" * 64, 2: b"y" * 64}),
        incremental(1 << 30, {}),
    ],
)
def test_nonsense_is_no_native_incremental(data: bytes) -> None:
    with pytest.raises(DamagedData):
        read_header(MemorySource(data), 64)
