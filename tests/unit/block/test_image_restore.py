"""Restored images are the same byte for byte, sparse where they can be, and never rewritten idly."""

import os
from pathlib import Path

import pytest
from tests.harness.upload_rig import UploadRig

from holdfast.block.image_restore import RestoredImage, Target, restore_image
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import ChunkReader
from holdfast.errors import MissingChunk, NotFound, Refused
from holdfast.host import gate

SIZE = 3 * CHUNK_BYTES + 777
CONTENT = b"a" * CHUNK_BYTES + bytes(CHUNK_BYTES) + b"c" * CHUNK_BYTES + b"d" * 777


def stored(base: Path, key: EncryptionKey | None = None) -> UploadRig:
    with UploadRig(base / "store", key=key) as rig:
        writer = rig.image(SIZE)
        for number in range(writer.chunk_count):
            writer.put(number, CONTENT[number * CHUNK_BYTES :][: writer.length_of(number)])
        writer.close()
    return rig


def restored(
    rig: UploadRig, path: Path, *, target: Target = Target.NEW, dry_run: bool = False
) -> RestoredImage:
    chunks = ChunkReader(rig.chunks, rig.key)
    index = rig.index("i.fidx")
    return restore_image(index, chunks, str(path), target=target, key=rig.key, dry_run=dry_run)


@pytest.mark.parametrize("key", [None, EncryptionKey(bytes(32))])
def test_a_new_file_gets_the_bytes_and_a_hole_for_the_zeros(
    tmp_path: Path, key: EncryptionKey | None
) -> None:
    target = tmp_path / "disk.img"
    outcome = restored(stored(tmp_path, key), target)

    assert target.read_bytes() == CONTENT
    assert target.stat().st_blocks * 512 <= SIZE - CHUNK_BYTES + 8192
    assert outcome == RestoredImage(SIZE, SIZE - CHUNK_BYTES, CHUNK_BYTES, 0)


def test_zeros_within_a_chunk_of_data_are_holes_and_overwrite_old_data(tmp_path: Path) -> None:
    content = bytearray(CHUNK_BYTES + 5000)
    content[4096 * 3 + 7] = content[4096 * 9] = content[CHUNK_BYTES - 1] = content[-4097] = 1
    with UploadRig(tmp_path / "store") as rig:
        writer = rig.image(len(content))
        writer.put(0, bytes(content[:CHUNK_BYTES]))
        writer.put(1, bytes(content[CHUNK_BYTES:]))
        writer.close()

    restored(rig, tmp_path / "new")
    (tmp_path / "old").write_bytes(b"x" * len(content))
    restored(rig, tmp_path / "old", target=Target.OVERWRITE)

    assert (tmp_path / "new").read_bytes() == (tmp_path / "old").read_bytes() == content
    assert (tmp_path / "new").stat().st_blocks * 512 <= 6 * 4096


def test_an_existing_file_is_left_alone_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "disk.img"
    target.write_bytes(b"mine")

    with pytest.raises(Refused):
        restored(stored(tmp_path), target)
    assert target.read_bytes() == b"mine"


def test_resuming_rewrites_only_what_differs(tmp_path: Path) -> None:
    rig, target = stored(tmp_path), tmp_path / "disk.img"
    restored(rig, target)
    with target.open("r+b") as file:
        file.seek(2 * CHUNK_BYTES + 9)
        file.write(b"!")
    writes: list[object] = []

    with gate.installed(lambda call, path: writes.append(path) if call == "write" else None):
        outcome = restored(rig, target, target=Target.RESUME)

    assert target.read_bytes() == CONTENT
    assert outcome == RestoredImage(SIZE, CHUNK_BYTES, 0, SIZE - CHUNK_BYTES)
    assert writes == [str(target)]


def test_resuming_finishes_a_file_that_was_cut_short(tmp_path: Path) -> None:
    rig, target = stored(tmp_path), tmp_path / "disk.img"
    target.write_bytes(CONTENT[: CHUNK_BYTES + 5])
    outcome = restored(rig, target, target=Target.RESUME)

    assert target.read_bytes() == CONTENT
    assert outcome.kept_bytes == CHUNK_BYTES


@pytest.mark.parametrize("target_mode", [Target.RESUME, Target.OVERWRITE])
def test_old_data_where_zeros_belong_goes_away_and_so_does_a_longer_end(
    tmp_path: Path, target_mode: Target
) -> None:
    rig, target = stored(tmp_path), tmp_path / "disk.img"
    target.write_bytes(b"x" * (SIZE + 4000))
    restored(rig, target, target=target_mode)

    assert target.read_bytes() == CONTENT


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    rig, target = stored(tmp_path), tmp_path / "disk.img"

    assert restored(rig, target, dry_run=True).written_bytes == SIZE - CHUNK_BYTES
    assert not target.exists()
    target.write_bytes(CONTENT[:CHUNK_BYTES])
    outcome = restored(rig, target, target=Target.RESUME, dry_run=True)
    assert outcome.kept_bytes == CHUNK_BYTES
    assert target.stat().st_size == CHUNK_BYTES


def test_a_missing_chunk_stops_the_restore_and_keeps_what_was_done(tmp_path: Path) -> None:
    rig, target = stored(tmp_path), tmp_path / "disk.img"
    os.unlink(rig.chunks.path(rig.index("i.fidx").digest_at(2)))

    with pytest.raises(MissingChunk):
        restored(rig, target)
    assert target.read_bytes()[:CHUNK_BYTES] == CONTENT[:CHUNK_BYTES]


@pytest.mark.parametrize("name", ["no-such-disk", "shm/../no-such-disk"])
def test_a_mistyped_device_is_not_made_as_a_file(tmp_path: Path, name: str) -> None:
    if Path("/dev").stat().st_dev == Path("/").stat().st_dev:
        pytest.skip("devices have no file system of their own here")

    with pytest.raises(NotFound):
        restored(stored(tmp_path), Path("/dev") / name)


def test_a_directory_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        restored(stored(tmp_path), tmp_path, target=Target.OVERWRITE)
