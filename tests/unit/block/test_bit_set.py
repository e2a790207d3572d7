"""Packed sets of bits against plain Python sets."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.block.bit_set import BitSet
from holdfast.errors import BadRequest, DamagedData


def _of(count: int, numbers: set[int]) -> BitSet:
    bits = BitSet(count)
    for number in numbers:
        bits.set(number, number + 1)
    return bits


def _numbers(bits: BitSet) -> set[int]:
    return set(bits.numbers().tolist())


@st.composite
def _count_and_numbers(draw: st.DrawFn) -> tuple[int, set[int]]:
    count = draw(st.integers(1, 300))
    return count, draw(st.sets(st.integers(0, count - 1)))


@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.booleans(), st.integers(0, 200), st.integers(0, 200))),
)
def test_setting_and_clearing_ranges_does_what_a_set_does(
    count: int, steps: list[tuple[bool, int, int]]
) -> None:
    bits, model = BitSet(count), set[int]()
    for is_set, one, other in steps:
        first, end = sorted((min(one, count), min(other, count)))
        if is_set:
            bits.set(first, end)
            model |= set(range(first, end))
        else:
            bits.clear(first, end)
            model -= set(range(first, end))
    assert _numbers(bits) == model
    assert bits.ones() == len(model)
    assert bits.any() == bool(model)


@given(_count_and_numbers())
def test_runs_cover_exactly_the_set_bits_and_never_touch(given_bits: tuple[int, set[int]]) -> None:
    count, numbers = given_bits
    runs = list(_of(count, numbers).runs())
    assert {n for first, end in runs for n in range(first, end)} == numbers
    assert all(one[1] < other[0] for one, other in itertools.pairwise(runs))


@given(_count_and_numbers(), st.integers(0, 300))
def test_the_next_bit_is_the_smallest_one_behind(
    given_bits: tuple[int, set[int]], start: int
) -> None:
    count, numbers = given_bits
    bits = _of(count, numbers)
    start = min(start, count)
    later = [n for n in range(start, count) if n in numbers]
    clear = [n for n in range(start, count) if n not in numbers]
    assert bits.next_set(start) == (later[0] if later else None)
    assert bits.next_clear(start) == (clear[0] if clear else None)


@given(_count_and_numbers(), st.sampled_from([1, 2, 4, 8, 16, 64]))
def test_coarser_and_finer_sets_round_outwards(
    given_bits: tuple[int, set[int]], factor: int
) -> None:
    count, numbers = given_bits
    bits = _of(count, numbers)
    coarse = bits.coarsened(factor, -(-count // factor))
    assert _numbers(coarse) == {n // factor for n in numbers}
    fine = bits.refined(factor, count * factor - factor // 2)
    expected = {n * factor + k for n in numbers for k in range(factor)}
    assert _numbers(fine) == {n for n in expected if n < fine.count}


def test_runs_go_over_block_borders_in_one_piece() -> None:
    bits = BitSet(3_000_000)
    bits.set(100_000, 1_900_000)
    bits.set(2_999_999, 3_000_000)
    assert list(bits.runs()) == [(100_000, 1_900_000), (2_999_999, 3_000_000)]
    assert bits.next_set(1_900_000) == 2_999_999
    assert bits.next_clear(100_000) == 1_900_000


def test_bytes_come_back_and_damaged_ones_are_refused() -> None:
    rng = random.Random(5)
    bits = _of(77, {rng.randrange(77) for _ in range(30)})
    data = bits.to_bytes()
    assert BitSet.from_bytes(data, 77) == bits
    with pytest.raises(DamagedData, match="cannot hold"):
        BitSet.from_bytes(data, 81)
    with pytest.raises(DamagedData, match="behind its end"):
        BitSet.from_bytes(b"\xff" * 10, 77)


def test_ranges_outside_are_refused() -> None:
    bits = BitSet(10)
    with pytest.raises(BadRequest):
        bits.set(5, 11)
    with pytest.raises(BadRequest):
        bits.unite(BitSet(11))
