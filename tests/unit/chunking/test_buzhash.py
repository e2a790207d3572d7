import hashlib
import struct
from typing import Any

import numpy as np
import pytest
from tests.harness.streams import pseudo_random, vector_input
from tests.harness.vectors import load

from holdfast.chunking.buzhash import TABLE, BuzhashCutter
from holdfast.chunking.params import ChunkingParams
from holdfast.units import KIB, MIB

NATURAL = load("pxar", "chunker")["natural"]


def all_cuts(cutter: BuzhashCutter, data: bytes) -> list[int]:
    view = memoryview(data)
    ends: list[int] = []
    start = 0
    while start < len(data):
        length = cutter.scan(view[start:], scanned=0) or len(data) - start
        start += length
        ends.append(start)
    return ends


def rolling_cut(data: bytes, params: ChunkingParams) -> int:
    """The rule byte by byte: slower and plainer than the arrays."""
    table = TABLE.tolist()
    state = 0
    mask = 2 * params.chunk_bytes_mean - 1
    for number, byte in enumerate(data, start=1):
        state = (state << 1 | state >> 31) & 0xFFFFFFFF ^ table[byte]
        if number > 64:
            state ^= table[data[number - 65]]
        if number >= params.chunk_bytes_min and state & mask >= mask - 2:
            return number
        if number == params.chunk_bytes_max:
            return number
    return 0


def test_table_is_the_recorded_one() -> None:
    recorded = load("pxar", "buzhash_table")

    assert hashlib.sha256(TABLE.astype("<u4").tobytes()).hexdigest() == recorded["table_sha256_le"]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow if case["length"] > 40 * MIB else ())
        for case in NATURAL
    ],
    ids=lambda case: case["name"],
)
def test_cuts_where_the_recorded_stream_was_cut(case: dict[str, Any]) -> None:
    data = vector_input(case["input"], case["length"])
    params = ChunkingParams.for_mean(case["avg"])

    ends = all_cuts(BuzhashCutter(params), data)

    assert ends == case["cut_ends"]
    starts = [0, *ends]
    digests = [hashlib.sha256(data[a:b]).digest() for a, b in zip(starts, ends, strict=False)]
    table = b"".join(struct.pack("<Q", e) + d for e, d in zip(ends, digests, strict=True))
    assert hashlib.sha256(table).hexdigest() == case["index_csum_sha256"]


def test_agrees_with_the_rule_applied_byte_by_byte() -> None:
    params = ChunkingParams(chunk_bytes_min=100, chunk_bytes_mean=4096, chunk_bytes_max=3 * 4096)
    data = pseudo_random(300_000)[:60_000]
    cutter = BuzhashCutter(params)
    start = 0
    while expected := rolling_cut(data[start:], params):
        assert cutter.scan(memoryview(data)[start:], scanned=0) == expected
        start += expected
    assert start > 30_000


@pytest.mark.parametrize("step", [1 * KIB, 77_777, 300_000])
def test_scanning_piece_by_piece_finds_the_same_cut(step: int) -> None:
    data = memoryview(pseudo_random(2 * MIB))
    cutter = BuzhashCutter(ChunkingParams.for_mean(64 * KIB))
    whole = cutter.scan(data[200_000:], scanned=0)

    known, length = 0, 0
    while not length:
        grown = known + step
        length = cutter.scan(data[200_000 : 200_000 + grown], scanned=known)
        known = grown

    assert length == whole


def test_reads_any_buffer_without_copying_it() -> None:
    page = np.zeros(20 * KIB, dtype=np.uint8)

    assert BuzhashCutter(ChunkingParams.for_mean(64 * KIB)).scan(page.data, scanned=0) == 0
