import pytest
from tests.harness.streams import pseudo_random

from holdfast.chunking.cutters import Chunker, cutter_for
from holdfast.chunking.fastcdc import FastCdcCutter
from holdfast.chunking.params import ChunkingParams
from holdfast.errors import BadRequest
from holdfast.units import KIB, MIB

PARAMS = ChunkingParams.for_mean(64 * KIB)
DATA = memoryview(pseudo_random(2 * MIB))


def lengths(cutter: FastCdcCutter, data: memoryview) -> list[int]:
    found = []
    while length := cutter.scan(data, scanned=0):
        found.append(length)
        data = data[length:]
    return found


def test_chunks_keep_to_the_limits_and_near_the_mean() -> None:
    found = lengths(FastCdcCutter(PARAMS), DATA)

    assert all(PARAMS.chunk_bytes_min <= length <= PARAMS.chunk_bytes_max for length in found)
    assert 40 * KIB < sum(found) / len(found) < 120 * KIB


def test_a_cut_does_not_depend_on_how_much_follows_it() -> None:
    cutter = FastCdcCutter(PARAMS)
    length = cutter.scan(DATA, scanned=0)

    assert cutter.scan(DATA[: length + 2], scanned=0) == length
    assert cutter.scan(DATA[: length - 1], scanned=0) == 0


def test_constant_data_is_cut_at_the_maximum_only() -> None:
    cutter = FastCdcCutter(PARAMS)
    ones = memoryview(b"\1" * (PARAMS.chunk_bytes_max + 1))

    assert cutter.scan(ones, scanned=0) == PARAMS.chunk_bytes_max
    assert cutter.scan(ones[:-1], scanned=0) == PARAMS.chunk_bytes_max
    assert cutter.scan(ones[:-2], scanned=0) == 0


def test_less_than_the_minimum_is_never_cut() -> None:
    assert FastCdcCutter(PARAMS).scan(DATA[: PARAMS.chunk_bytes_min], scanned=0) == 0
    assert FastCdcCutter(PARAMS).scan(DATA[:0], scanned=0) == 0


@pytest.mark.parametrize("mean", [64 * KIB, 512 * KIB, 4 * MIB])
def test_every_mean_a_person_may_choose_works(mean: int) -> None:
    for chunker in Chunker:
        params = cutter_for(chunker, ChunkingParams.for_mean(mean)).params
        assert params.chunk_bytes_max == 4 * mean


@pytest.mark.parametrize("mean", [0, 32 * KIB, 65537, 8 * MIB, 96 * KIB])
def test_other_means_are_refused(mean: int) -> None:
    with pytest.raises(BadRequest, match="power of two"):
        ChunkingParams.for_mean(mean)


def test_an_unknown_chunker_is_refused_with_the_choices() -> None:
    with pytest.raises(BadRequest, match="fastcdc, buzhash"):
        cutter_for("rabin", PARAMS)
