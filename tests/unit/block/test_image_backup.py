"""Images are read where they hold data, and come back as they were."""

import os
from pathlib import Path

import pytest
from tests.harness.upload_rig import UploadRig

from holdfast.block.image_backup import ImageOutcome, ImageSource, back_up_image
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.errors import NotFound, Refused
from holdfast.host import gate

HOLE_CHUNKS = 3
SIZE = (HOLE_CHUNKS + 2) * CHUNK_BYTES + 1000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Data in the first chunk, a hole, data in the last full chunk and in the short one."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.write(b"first" * 1000)
        file.seek((HOLE_CHUNKS + 1) * CHUNK_BYTES + 5)
        file.write(b"last")
        file.seek(SIZE - 3)
        file.write(b"end")
    return path


def backed_up(rig: UploadRig, path: Path, name: str = "i.fidx") -> ImageOutcome:
    with ImageSource(str(path)) as source:
        return back_up_image(source, rig.image(source.size, name))


def test_an_image_reads_back_and_its_holes_were_not_read(tmp_path: Path, image: Path) -> None:
    with UploadRig(tmp_path / "store") as rig:
        outcome = backed_up(rig, image)

        assert rig.content("i.fidx") == image.read_bytes()
    assert outcome.size == SIZE
    assert outcome.hole_bytes == HOLE_CHUNKS * CHUNK_BYTES
    assert outcome.read_bytes == SIZE - outcome.hole_bytes
    assert not outcome.warnings


def test_a_second_backup_stores_only_the_changed_chunk(tmp_path: Path, image: Path) -> None:
    with UploadRig(tmp_path / "store") as rig:
        backed_up(rig, image)
    with image.open("r+b") as file:
        file.write(b"FIRST")
    with UploadRig(tmp_path / "store") as again:
        index = again.index("i.fidx")
        again.known.register(
            (index.digest_at(number), index.range_at(number)[1] - index.range_at(number)[0])
            for number in range(index.chunk_count)
        )
        backed_up(again, image, "second.fidx")
        again.uploader.stop()

        assert again.uploader.stats.new_chunks == again.uploader.stats.count == 1
        assert again.content("second.fidx") == image.read_bytes()


def test_an_image_that_is_one_hole_is_not_read_at_all(tmp_path: Path) -> None:
    path = tmp_path / "empty.img"
    path.touch()
    os.truncate(path, 3 * CHUNK_BYTES)
    with UploadRig(tmp_path / "store") as rig:
        outcome = backed_up(rig, path)

        assert rig.content("i.fidx") == bytes(3 * CHUNK_BYTES)
    assert outcome.read_bytes == 0


def test_a_change_while_reading_is_a_warning(tmp_path: Path, image: Path) -> None:
    def write_meanwhile(call: str, path: object) -> None:
        if call == "read" and path == str(image):
            os.utime(image, ns=(0, 0))

    with UploadRig(tmp_path / "store") as rig, gate.installed(write_meanwhile):
        outcome = backed_up(rig, image)

    assert "changed while it was read" in outcome.warnings[0]


def test_a_file_that_shrinks_is_filled_up_with_zeros_and_a_warning(
    tmp_path: Path, image: Path
) -> None:
    def cut_off(call: str, path: object) -> None:
        if call == "read" and path == str(image):
            os.truncate(image, 1000)

    with UploadRig(tmp_path / "store") as rig, gate.installed(cut_off):
        outcome = backed_up(rig, image)

        assert len(rig.content("i.fidx")) == SIZE
    assert "became shorter" in outcome.warnings[0]


def test_progress_adds_up_to_the_size(tmp_path: Path, image: Path) -> None:
    steps: list[int] = []
    with UploadRig(tmp_path / "store") as rig, ImageSource(str(image)) as source:
        back_up_image(source, rig.image(source.size), advance=steps.append)

    assert sum(steps) == SIZE


def test_things_that_are_no_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        ImageSource(str(tmp_path / "missing"))
    with pytest.raises(Refused):
        ImageSource(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused):
        ImageSource(str(tmp_path / "pipe"))
