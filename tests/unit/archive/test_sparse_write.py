import os
import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.archive.sparse_write import write_sparse
from holdfast.chunking.zero_runs import BLOCK_BYTES
from holdfast.host.files import WRITE_BEHIND_BYTES, write_behind
from holdfast.units import MIB

part = st.tuples(st.sampled_from([0, 1]), st.integers(1, 3 * BLOCK_BYTES))


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(part, max_size=6), cuts=st.lists(st.integers(1, 40_000), max_size=5))
def test_content_is_the_same_wherever_zeroes_and_pieces_lie(
    parts: list[tuple[int, int]], cuts: list[int]
) -> None:
    content = b"".join(bytes([fill]) * length for fill, length in parts)
    at, pieces = 0, []
    for cut in cuts:
        pieces.append(memoryview(content[at : at + cut]))
        at += cut
    pieces.append(memoryview(content[at:]))
    fd = os.memfd_create("sparse")
    try:
        size = write_sparse(fd, iter([piece for piece in pieces if piece]), path="f")

        assert size == len(content)
        assert os.fstat(fd).st_size == len(content)
        assert os.pread(fd, len(content) + 1, 0) == content
    finally:
        os.close(fd)


def test_zero_blocks_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        content = b"x" * 5000 + bytes(200_000) + b"y"
        write_sparse(file.fileno(), iter([memoryview(content)]), path="f")

    assert path.read_bytes() == content
    assert path.stat().st_blocks * 512 <= 5 * BLOCK_BYTES


def test_a_large_file_is_whole_though_its_beginning_is_let_go_meanwhile(tmp_path: Path) -> None:
    piece = random.Random(7).randbytes(3 * MIB)
    count = 3 * WRITE_BEHIND_BYTES // len(piece)
    path = tmp_path / "f"
    with path.open("wb") as file:
        size = write_sparse(file.fileno(), iter([memoryview(piece)] * count), path="f")

    assert size == count * len(piece)
    assert path.stat().st_size == size
    with path.open("rb") as file:
        assert all(file.read(len(piece)) == piece for _number in range(count))


def test_what_cannot_be_advised_is_written_all_the_same() -> None:
    reading, writing = os.pipe()
    write_behind(writing, 2 * WRITE_BEHIND_BYTES)
    os.close(reading)
    os.close(writing)
