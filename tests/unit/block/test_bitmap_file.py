"""Bitmaps that outlive the process that recorded them, or say that they did not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.block.bitmap_file import BitmapFile, load
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.errors import BadRequest, DamagedData, NotFound
from holdfast.units import KIB, MIB


@pytest.fixture
def image_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, 8 * MIB)
    yield fd
    os.close(fd)


def _saved(path: str, image_fd: int) -> None:
    opened = BitmapFile.open(path, image_fd, 8 * MIB)
    opened.add(DirtyBitmap(name="one", size_bytes=8 * MIB, base="vm/1/x"))
    opened.add(DirtyBitmap(name="two", size_bytes=8 * MIB, granularity_bytes=512))
    opened.bitmaps["one"].record(MIB, 1)
    opened.bitmaps["two"].recording = False
    opened.close()


def test_closed_bitmaps_come_back_as_they_were(tmp_path: Path, image_fd: int) -> None:
    path = str(tmp_path / "bitmaps")
    _saved(path, image_fd)
    found = load(path, image_fd, 8 * MIB)
    assert list(found["one"].dirty_ranges()) == [(MIB, 64 * KIB)]
    assert found["one"].base == "vm/1/x"
    assert not found["one"].inconsistent
    assert found["two"].granularity_bytes == 512
    assert not found["two"].recording


def test_a_file_left_in_use_makes_all_bitmaps_inconsistent(tmp_path: Path, image_fd: int) -> None:
    path = str(tmp_path / "bitmaps")
    _saved(path, image_fd)
    BitmapFile.open(path, image_fd, 8 * MIB)  # and the process ends
    again = BitmapFile.open(path, image_fd, 8 * MIB)
    assert [bitmap.inconsistent for bitmap in again.bitmaps.values()] == [True, True]
    again.remove("one")
    again.close()
    assert list(load(path, image_fd, 8 * MIB)) == ["two"]


def test_an_image_changed_behind_our_back_is_noticed(tmp_path: Path, image_fd: int) -> None:
    path = str(tmp_path / "bitmaps")
    _saved(path, image_fd)
    os.utime(image_fd, ns=(1, 2))
    assert all(bitmap.inconsistent for bitmap in load(path, image_fd, 8 * MIB).values())


def test_an_image_that_grew_while_closed_has_a_clean_tail(tmp_path: Path, image_fd: int) -> None:
    path = str(tmp_path / "bitmaps")
    _saved(path, image_fd)
    found = load(path, image_fd, 16 * MIB)
    assert found["one"].size_bytes == 16 * MIB
    assert list(found["one"].dirty_ranges()) == [(MIB, 64 * KIB)]


def test_a_busy_bitmap_is_saved_as_if_its_job_had_failed(tmp_path: Path, image_fd: int) -> None:
    path = str(tmp_path / "bitmaps")
    opened = BitmapFile.open(path, image_fd, 8 * MIB)
    bitmap = DirtyBitmap(name="b", size_bytes=8 * MIB)
    opened.add(bitmap)
    bitmap.record(0, 1)
    bitmap.begin_job()
    bitmap.record(MIB, 1)
    opened.close()
    found = load(path, image_fd, 8 * MIB)["b"]
    assert list(found.dirty_ranges()) == [(0, 64 * KIB), (MIB, 64 * KIB)]


def test_every_flipped_byte_is_noticed(tmp_path: Path, image_fd: int) -> None:
    path = tmp_path / "bitmaps"
    _saved(str(path), image_fd)
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DamagedData):
            load(str(path), image_fd, 8 * MIB)
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedData):
            load(str(path), image_fd, 8 * MIB)


def test_names_are_unique_and_must_exist_to_be_removed(tmp_path: Path, image_fd: int) -> None:
    opened = BitmapFile.open(str(tmp_path / "bitmaps"), image_fd, 8 * MIB)
    opened.add(DirtyBitmap(name="b", size_bytes=8 * MIB))
    with pytest.raises(BadRequest, match="already exists"):
        opened.add(DirtyBitmap(name="b", size_bytes=8 * MIB))
    with pytest.raises(NotFound):
        opened.remove("other")
    opened.close()
