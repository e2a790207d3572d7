"""Reading gives the right bytes or a clear error, in order or at random, each chunk once."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from tests.harness.streams import pseudo_random
from tests.harness.upload_rig import UploadRig

from holdfast.datastore import blob
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.errors import BadRequest, DamagedData, KeyProblem, MissingChunk
from holdfast.host import gate
from holdfast.units import MIB

DATA = pseudo_random(2 * MIB)


def stored(base: Path, key: EncryptionKey | None = None) -> UploadRig:
    with UploadRig(base, key=key) as rig:
        writer = rig.stream()
        writer.write(DATA)
        writer.close()
    return rig


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, 2 * MIB), (2 * MIB - 1, 5), (2 * MIB, 5), (1_000_000, 300_000), (7, 0)],
)
def test_any_stretch_reads_like_a_slice(tmp_path: Path, offset: int, length: int) -> None:
    reader = stored(tmp_path).reader("s.didx")

    assert reader.read_at(offset, length) == DATA[offset : offset + length]
    buffer = bytearray(length)
    count = reader.read_into(offset, memoryview(buffer))
    assert bytes(buffer[:count]) == DATA[offset : offset + length]
    assert b"".join(reader.pieces(offset, offset + length)) == DATA[offset : offset + length]


def test_a_view_ends_with_its_chunk(tmp_path: Path) -> None:
    reader = stored(tmp_path).reader("s.didx")
    end = reader.index.range_at(0)[1]

    assert bytes(reader.view_at(10, 2 * MIB)) == DATA[10:end]
    assert not reader.view_at(reader.size, 1)


def test_negative_offsets_are_refused(tmp_path: Path) -> None:
    reader = stored(tmp_path).reader("s.didx")

    with pytest.raises(BadRequest):
        reader.read_at(-1, 5)
    with pytest.raises(BadRequest):
        list(reader.pieces(-1))


@pytest.mark.parametrize("read_ahead", [0, 3])
def test_reading_in_order_reads_each_chunk_once(tmp_path: Path, read_ahead: int) -> None:
    rig = stored(tmp_path)
    read: Counter[object] = Counter()

    with (
        gate.installed(lambda call, path: read.update([path] if call == "read" else [])),
        StreamReader(rig.index("s.didx"), ChunkReader(rig.chunks), read_ahead=read_ahead) as reader,
    ):
        got = b"".join(reader.read_at(offset, 5_000) for offset in range(0, len(DATA), 5_000))

    assert got == DATA
    chunks = {path: count for path, count in read.items() if ".chunks" in str(path)}
    assert set(chunks.values()) == {1}
    assert len(chunks) == rig.index("s.didx").chunk_count


def test_pieces_that_are_not_wanted_any_more_end_their_threads(tmp_path: Path) -> None:
    pieces = stored(tmp_path).reader("s.didx").pieces()
    first = next(pieces)
    pieces.close()

    assert DATA.startswith(bytes(first))


def first_chunk(rig: UploadRig) -> Path:
    return Path(rig.chunks.path(rig.index("s.didx").digest_at(0)))


def test_a_missing_chunk_is_named(tmp_path: Path) -> None:
    rig = stored(tmp_path)
    first_chunk(rig).unlink()

    with pytest.raises(MissingChunk):
        rig.reader("s.didx").read_at(0, 1)


def test_flipped_bits_are_damage(tmp_path: Path) -> None:
    rig = stored(tmp_path)
    content = bytearray(first_chunk(rig).read_bytes())
    content[-1] ^= 1
    first_chunk(rig).write_bytes(content)

    with pytest.raises(DamagedData):
        rig.reader("s.didx").read_at(0, 1)


@pytest.mark.parametrize("change", ["shorter", "longer", "other"])
def test_a_sound_blob_with_other_content_is_damage(tmp_path: Path, change: str) -> None:
    rig = stored(tmp_path)
    end = rig.index("s.didx").range_at(0)[1]
    other = {"shorter": DATA[: end - 1], "longer": DATA[: end + 1], "other": bytes(end)}[change]
    first_chunk(rig).write_bytes(b"".join(blob.encode(other)))

    with pytest.raises(DamagedData):
        rig.reader("s.didx").read_at(0, 1)


def test_encrypted_chunks_want_their_key(tmp_path: Path) -> None:
    rig = stored(tmp_path, key=EncryptionKey(hashlib.sha256(b"a").digest()))
    index = rig.index("s.didx")

    assert StreamReader(index, ChunkReader(rig.chunks, rig.key)).read_at(0, 9) == DATA[:9]
    with pytest.raises(KeyProblem):
        StreamReader(index, ChunkReader(rig.chunks)).read_at(0, 1)
