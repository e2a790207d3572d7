import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.streams import counter, pseudo_random, vector_input
from tests.harness.vectors import load

from holdfast.chunking.boundaries import (
    BoundaryCutter,
    FixedCutter,
    SnappingCutter,
    StreamCutter,
    stream_cutter,
)
from holdfast.chunking.cutters import Chunker, cutter_for
from holdfast.chunking.fastcdc import FastCdcCutter
from holdfast.chunking.params import ChunkingParams
from holdfast.units import KIB, MIB

VECTORS = load("pxar", "chunker")
SMALL = ChunkingParams.for_mean(64 * KIB)
MEDIUM = ChunkingParams.for_mean(256 * KIB)


def original(mean: int) -> BoundaryCutter:
    """The recorded rule: each buffer counts as one block."""
    return BoundaryCutter(
        cutter_for(Chunker.BUZHASH, ChunkingParams.for_mean(mean)), block_bytes=None
    )


def cut_in_blocks(cutter: StreamCutter, data: bytes, block: int) -> list[int]:
    view = memoryview(data)
    start, known, ends = 0, 0, []
    while known < len(data):
        known = min(known + block, len(data))
        while length := cutter.next_cut(view[start:known], ended=known == len(data)):
            start += length
            ends.append(start)
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


@pytest.mark.parametrize("case", VECTORS["payload_suggestions"], ids=lambda case: case["name"])
def test_suggested_boundaries_are_taken_as_recorded(case: dict[str, Any]) -> None:
    data = vector_input(case["input"], case["length"])
    for block, expected in case["cut_ends_by_block_size"].items():
        cutter = original(case["avg"])
        for position in case["suggested"]:
            cutter.suggest(position)

        assert cut_in_blocks(cutter, data, int(block)) == expected, block


def blocks_of(case: dict[str, Any]) -> list[bytes]:
    if case["block_size"] is None:
        numbers = counter(262144)
        return [numbers[10:], numbers[:10]]
    data = vector_input(case["input"], case["length"])
    step = case["block_size"]
    return [data[at : at + step] for at in range(0, len(data), step)]


def consume(cutter: BoundaryCutter, case: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Every block arrives up to the next forced boundary, as when the encoder injects."""
    forced = [(one["boundary"], one["injected_size"]) for one in case["forced"]]
    buffer = bytearray()
    out: list[tuple[str, int, int]] = []

    def take(length: int) -> None:
        out.append(("raw", cutter.base - length, length))
        del buffer[:length]

    for block in blocks_of(case):
        rest = block
        while rest:
            room = forced[0][0] - (cutter.base + len(buffer)) if forced else len(rest)
            buffer += rest[:room]
            rest = rest[room:]
            while length := cutter.next_cut(memoryview(bytes(buffer))):
                take(length)
            while forced and forced[0][0] == cutter.base + len(buffer):
                out.append(("raw", cutter.base, len(buffer)))
                out.append(("inject", forced[0][0], forced[0][1]))
                cutter.force(len(buffer), forced.pop(0)[1])
                buffer.clear()
    if buffer:
        out.append(("raw", cutter.base, len(buffer)))
    return [item for item in out if item[2] or item[0] == "inject"]


@pytest.mark.parametrize("case", VECTORS["forced_boundaries"], ids=lambda case: case["name"])
def test_injections_force_boundaries_as_recorded(case: dict[str, Any]) -> None:
    cutter = original(case["avg"])
    for position in case["suggested"]:
        cutter.suggest(position)

    found = consume(cutter, case)

    assert found == [
        (item["kind"], item["virtual_offset"], item["length"])
        for item in case["output"]
        if item["length"] or item["kind"] == "inject"
    ]


def file_starts(seed: int, size: int, mean: int) -> list[int]:
    rng = random.Random(seed)
    starts, at = [], 16
    while at < size:
        starts.append(at)
        at += 16 + int(rng.expovariate(1 / mean))
    return starts


@pytest.mark.parametrize("chunker", list(Chunker))
@pytest.mark.parametrize("params", [SMALL, MEDIUM], ids=["64 KiB", "256 KiB"])
@pytest.mark.parametrize("file_bytes", [3 * KIB, 100 * KIB, 600 * KIB])
def test_cuts_do_not_depend_on_the_buffers_of_the_caller(
    chunker: Chunker, params: ChunkingParams, file_bytes: int
) -> None:
    data = pseudo_random(6 * MIB)
    starts = file_starts(7, len(data), file_bytes)
    results = []
    for block in (5_001, 300_000, len(data)):
        cutter = stream_cutter(chunker, params)
        pending = list(starts)
        view = memoryview(data)
        start, known, ends = 0, 0, []
        while known < len(data):
            known = min(known + block, len(data))
            while pending and pending[0] <= known:
                cutter.suggest(pending.pop(0))
            while length := cutter.next_cut(view[start:known], ended=known == len(data)):
                start += length
                ends.append(start)
        results.append(ends)

    assert results[0] == results[1] == results[2]
    assert len(results[0]) > 10


def test_a_large_file_is_looked_at_little_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pseudo_random(24 * MIB)
    looked_at = 0
    scan = FastCdcCutter.scan

    def counting(cutter: FastCdcCutter, view: memoryview, *, scanned: int) -> int:
        nonlocal looked_at
        length = scan(cutter, view, scanned=scanned)
        looked_at += length or min(len(view), cutter.params.chunk_bytes_max)
        return length

    monkeypatch.setattr(FastCdcCutter, "scan", counting)

    ends = cut_in_blocks(SnappingCutter(MEDIUM), data, 256 * KIB)

    assert len(ends) > 40
    assert looked_at < 1.5 * len(data)


def snapping_ends(data: bytes, starts: list[int]) -> list[int]:
    cutter = SnappingCutter(SMALL)
    for position in starts:
        cutter.suggest(position)
    return cut_in_blocks(cutter, data, 1 * MIB)


def test_chunks_of_small_files_end_where_files_begin() -> None:
    data = pseudo_random(2 * MIB)
    starts = file_starts(1, len(data), 3 * KIB)

    ends = snapping_ends(data, starts)[:-1]

    aligned = sum(end in set(starts) for end in ends)
    assert aligned > 0.9 * len(ends)


def test_after_an_insertion_the_old_cuts_come_back() -> None:
    data = pseudo_random(2 * MIB)
    starts = file_starts(2, len(data), 3 * KIB)
    at = starts[len(starts) // 4]
    extra = bytes(9_999)
    shifted = [start + len(extra) * (start >= at) for start in starts]

    before = {end - at for end in snapping_ends(data, starts) if end > at}
    after = {
        end - at - len(extra)
        for end in snapping_ends(data[:at] + extra + data[at:], shifted)
        if end > at + len(extra)
    }

    assert len(before & after) >= len(before) - 3


def test_no_chunk_is_larger_than_the_maximum() -> None:
    data = bytes(2 * MIB)

    ends = snapping_ends(data, [16, 262_000, 262_150, 1_000_000])

    sizes = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    assert max(sizes) <= SMALL.chunk_bytes_max


def test_a_forced_boundary_starts_a_new_chunk_behind_the_injection() -> None:
    data = memoryview(pseudo_random(2 * MIB))
    cutter = SnappingCutter(SMALL)
    first = cutter.next_cut(data)
    cutter.force(100, 5 * MIB)
    assert cutter.base == first + 100 + 5 * MIB

    again = SnappingCutter(SMALL)

    assert cutter.next_cut(data) == again.next_cut(data)


@given(
    lengths=st.lists(st.integers(1, 200 * KIB), min_size=1, max_size=12),
    step=st.sampled_from([1, 7 * KIB, 64 * KIB, 1024 * KIB]),
)
def test_the_fixed_cutter_gives_each_file_chunks_of_its_own(lengths: list[int], step: int) -> None:
    cutter = FixedCutter(64 * KIB)
    data = memoryview(bytes(sum(lengths)))
    expected: list[int] = []
    position = 0
    for length in lengths:
        cutter.suggest(position)
        expected += [64 * KIB] * (length // (64 * KIB)) + [length % (64 * KIB)]
        position += length

    cuts: list[int] = []
    start = 0
    step = max(step, len(data) // 50)
    for known in [*range(step, len(data), step), len(data)]:
        while length := cutter.next_cut(data[start:known], ended=known == len(data)):
            cuts.append(length)
            start += length
    cuts.append(len(data) - start)

    assert cuts == [length for length in expected if length]
