"""VCDIFF: recorded deltas, xdelta3 in both directions, and hostile input."""

import random
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.vectors import GOLDEN, load

from holdfast.errors import DamagedData, HoldfastError, Refused
from holdfast.postgres.byte_source import FileSource, MemorySource
from holdfast.postgres.vcdiff import varint
from holdfast.postgres.vcdiff.apply import PatchedFile, apply_delta
from holdfast.postgres.vcdiff.encode import DeltaWriter

FOLDER = GOLDEN / "postgres" / "vcdiff"
VECTORS: list[dict[str, Any]] = load("postgres", "vcdiff/vectors")["vectors"]
BLOCK = 8192
# The recorded verdict is that of a decoder for the subset alone; ours reads the general format.
GENERAL = "copy_here_mode"
# Written by other encoders only.
NOT_OURS = {
    "bare_header",
    "implicit_sizes",
    "page_hole_run",
    "adler32_extension",
    "app_header_extension",
}


def delta_of(
    source: bytes, target: bytes, block: int, window_blocks: int, unmodified: set[int] | None = None
) -> bytes:
    """Encoded by us; without `unmodified` by comparing blocks."""
    written = bytearray()
    writer = DeltaWriter(written.extend, block)
    for start in range(0, len(target), block * window_blocks):
        part = target[start : start + block * window_blocks]
        first = start // block
        flags = []
        for number in range(first, first + -(-len(part) // block)):
            old, new = (data[number * block : (number + 1) * block] for data in (source, target))
            flags.append(number in unmodified if unmodified is not None else old == new)
        writer.window(memoryview(part), flags)
    writer.close()
    return bytes(written)


def applied(source: bytes, delta: bytes, size_max: int = 1 << 26) -> bytes:
    made = bytearray()
    apply_delta(MemorySource(source), MemorySource(delta), made.extend, size_max=size_max)
    return bytes(made)


def formula(prefix: str, number: int) -> bytes:
    return b"".join(sha256(f"{prefix}{number}:{j}".encode()).digest() for j in range(256))


def recorded(vector: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    """Source, target and delta of a vector."""
    name = vector["name"]
    if name == "real_heap":
        source = (FOLDER / "real_heap_source.bin").read_bytes()
        target = (FOLDER / "real_heap_target.bin").read_bytes()
        return source, target, (FOLDER / "real_heap.vcdiff").read_bytes()
    if name == "formula_300_blocks":
        blocks = [formula("s", i) for i in range(300)]
        changed = [formula("t", i) if i in (5, 130, 131) else blocks[i] for i in range(290)]
        target = b"".join(changed) + bytes(2 * BLOCK) + formula("t", 292)
        delta = (FOLDER / "formula_300_blocks.vcdiff").read_bytes()
        return b"".join(blocks), target, delta
    source = bytes.fromhex(vector.get("source_hex", ""))
    if name == "page_hole_run":
        target = bytes(range(1, 25)) + bytes(8120) + bytes(range(100, 148))
    else:
        target = bytes.fromhex(vector["target_hex"])
    return source, target, bytes.fromhex(vector["delta_hex"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_recorded_deltas_are_judged_and_applied_as_recorded(vector: dict[str, Any]) -> None:
    source, target, delta = recorded(vector)
    if vector["our_decoder"] == "accept" or vector["name"] == GENERAL:
        assert applied(source, delta) == target
    else:
        with pytest.raises((DamagedData, Refused)):
            applied(source, delta)


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v["unmodified"] is not None and v["name"] not in NOT_OURS],
    ids=lambda vector: vector["name"],
)
def test_our_deltas_equal_the_recorded_ones(vector: dict[str, Any]) -> None:
    source, target, delta = recorded(vector)
    unmodified = vector["unmodified"]
    same = set(range(290)) - {5, 130, 131} if isinstance(unmodified, str) else set(unmodified)
    made = delta_of(source, target, vector["block_size"], vector["window_blocks"], same)
    assert made == delta


def test_integers_are_written_and_read_as_recorded() -> None:
    for value, expected in load("postgres", "vcdiff/varint"):
        assert varint.encode(value).hex() == expected
        assert varint.decode(bytes.fromhex(expected), 0) == (value, len(expected) // 2)
    with pytest.raises(DamagedData):
        varint.decode(b"\xff" * 11, 0)
    with pytest.raises(DamagedData):
        varint.decode(b"\x81", 0)


SMALL_BLOCKS = st.lists(st.sampled_from([bytes(8), b"AAAAAAAA", b"ABCDEFGH", b"12345678"]))


@given(SMALL_BLOCKS, SMALL_BLOCKS, st.integers(1, 5), st.binary(max_size=7))
def test_what_is_encoded_comes_back_in_order_and_at_any_offset(
    old: list[bytes], new: list[bytes], window_blocks: int, tail: bytes
) -> None:
    source, target = b"".join(old), b"".join(new) + tail
    delta = delta_of(source, target, 8, window_blocks)
    assert applied(source, delta) == target
    patched = PatchedFile(MemorySource(source), MemorySource(delta), len(target))
    for start in range(0, len(target) + 2, 3):
        room = bytearray(11)
        count = patched.read_into(start, memoryview(room))
        assert room[:count] == target[start : start + 11]
    patched.check_end()


@given(st.binary(max_size=300), st.data())
def test_damaged_deltas_are_refused_or_harmless(noise: bytes, data: st.DataObject) -> None:
    source = bytes(range(256)) * 4
    target = source[:512] + b"x" * 256 + bytes(256)
    delta = bytearray(delta_of(source, target, 64, 4))
    at = data.draw(st.integers(0, len(delta)))
    how = data.draw(st.sampled_from(["cut", "flip", "noise"]))
    if how == "cut":
        del delta[at:]
    elif how == "flip" and at < len(delta):
        delta[at] ^= data.draw(st.integers(1, 255))
    else:
        delta[max(at, 5) :] = noise
    try:
        made = applied(source, bytes(delta), size_max=4096)
    except HoldfastError:
        return
    assert len(made) <= 4096


def test_a_delta_cannot_claim_more_than_the_file_may_have() -> None:
    delta = delta_of(b"", b"A" * 64, 8, 2)
    with pytest.raises(DamagedData, match="more than 63"):
        applied(b"", delta, size_max=63)
    for size in (63, 65):
        with pytest.raises(DamagedData):
            PatchedFile(MemorySource(b""), MemorySource(delta), size).check_end()


def test_a_huge_window_is_refused_before_memory_is_taken() -> None:
    inner = varint.encode(1 << 40) + b"\0" + b"\0" * 3
    delta = bytes.fromhex("d6c3c40000") + b"\0" + varint.encode(len(inner)) + inner
    with pytest.raises(DamagedData, match="a window of"):
        applied(b"", delta)


def related(seed: int, size: int) -> tuple[bytes, bytes]:
    """Two texts with moved, repeated, inserted and removed parts."""
    rng = random.Random(seed)
    source = rng.randbytes(size)
    parts = []
    for _ in range(200):
        at, length = rng.randrange(size), rng.randrange(1, size // 50)
        choice = rng.random()
        if choice < 0.7:
            parts.append(source[at : at + length])
        elif choice < 0.85:
            parts.append(rng.randbytes(length // 4 + 1))
        else:
            parts.append(rng.randbytes(rng.randrange(1, 9)) * 40)
    return source, b"".join(parts)


def xdelta3(*words: str | Path) -> None:
    subprocess.run(["xdelta3", "-f", *words], check=True, capture_output=True)


@pytest.mark.parametrize("options", [("-9",), ("-1",), ("-0",), ("-n",), ("-W", "16384")])
def test_deltas_of_xdelta3_are_applied(tmp_path: Path, options: tuple[str, ...]) -> None:
    source, target = related(7, 400_000)
    (tmp_path / "old").write_bytes(source)
    (tmp_path / "new").write_bytes(target)
    xdelta3("-e", "-S", "none", *options, "-s", tmp_path / "old", tmp_path / "new", tmp_path / "d")
    delta = (tmp_path / "d").read_bytes()
    assert len(delta) < len(target)
    assert applied(source, delta) == target


def test_an_xdelta3_delta_on_the_wrong_source_is_found_by_its_checksum(tmp_path: Path) -> None:
    source, target = related(8, 100_000)
    (tmp_path / "old").write_bytes(source)
    (tmp_path / "new").write_bytes(target)
    xdelta3("-e", "-S", "none", "-s", tmp_path / "old", tmp_path / "new", tmp_path / "d")
    with pytest.raises(DamagedData, match="checksum"):
        applied(source[::-1], (tmp_path / "d").read_bytes())


def test_xdelta3_applies_ours_block_for_block(tmp_path: Path) -> None:
    rng = random.Random(3)
    source = rng.randbytes(700 * BLOCK)
    blocks = [source[at : at + BLOCK] for at in range(0, len(source), BLOCK)]
    for number in rng.sample(range(700), 40):
        blocks[number] = rng.randbytes(BLOCK)
    blocks[600:] = [bytes(BLOCK), rng.randbytes(BLOCK), *blocks[602:650]]
    target = b"".join(blocks)
    (tmp_path / "old").write_bytes(source)
    (tmp_path / "d").write_bytes(delta_of(source, target, BLOCK, 128))
    xdelta3("-d", "-s", tmp_path / "old", tmp_path / "d", tmp_path / "made")
    assert (tmp_path / "made").read_bytes() == target
    with (tmp_path / "old").open("rb") as old, (tmp_path / "d").open("rb") as delta:
        made = bytearray()
        apply_delta(
            FileSource(old.fileno()), FileSource(delta.fileno()), made.extend, size_max=1 << 30
        )
    assert made == target


def test_secondary_compression_is_named_and_how_to_avoid_it() -> None:
    with pytest.raises(Refused, match="secondary compression") as caught:
        applied(b"", bytes.fromhex("d6c3c40001"))
    assert "-S none" in (caught.value.hint or "")
