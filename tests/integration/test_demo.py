"""`holdfast demo`, and the data it makes."""

import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.sessions import small_store
from tests.harness.written_snapshots import NEWEST, OLDEST, fill

from holdfast.errors import NotFound
from holdfast.ids import SnapshotId
from holdfast.operations import demo_data
from holdfast.operations.progress import NullProgress


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as path:
        yield path


def test_a_days_work_changes_some_files_and_leaves_the_rest(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    count = demo_data.copy_library(str(before))
    demo_data.copy_library(str(after))

    changed = demo_data.change_library(str(after), seed=1)

    assert count > 400
    assert changed == 13
    compared = filecmp.cmpfiles(
        before, after, [str(path.relative_to(before)) for path in before.rglob("*.py")]
    )
    assert [len(part) for part in compared] == [
        len(list(before.rglob("*.py"))) - 12,
        8,
        4,
    ]


def test_the_image_holds_a_file_system(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"

    made = demo_data.make_image(str(path), seed=1)

    with path.open("rb") as image:
        image.seek(1024 + 56)
        magic = image.read(2)
    has_tool = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin")
    assert (magic == b"\x53\xef") == ("ext4" in made) == bool(has_tool)
    assert not (tmp_path / "disk.raw.files").exists()


def test_one_bit_of_one_chunk_is_flipped(place: Path) -> None:
    small_store(place / "store")
    fill(place / "store")
    chunks = place / "store" / ".chunks"
    before = {path.name: path.read_bytes() for path in chunks.glob("????/*")}

    digest = demo_data.damage_one_chunk(
        str(place / "store"), SnapshotId.parse(NEWEST), NullProgress()
    )

    after = {path.name: path.read_bytes() for path in chunks.glob("????/*")}
    assert [name for name in before if before[name] != after[name]] == [digest.hex()]
    changed = zip(before[digest.hex()], after[digest.hex()], strict=True)
    assert sum((old ^ new).bit_count() for old, new in changed) == 1
    with pytest.raises(NotFound):
        demo_data.damage_one_chunk(str(place / "store"), SnapshotId.parse(OLDEST), NullProgress())


@pytest.mark.slow
def test_the_demo_runs_twice_and_shows_what_failed(place: Path) -> None:
    program = Program(place)

    first = program.json("demo")
    shown = program.run("demo")

    assert first["failed"] == [first["snapshot"]]
    assert Path(first["store"]) == place / ".local/share/holdfast/store"
    assert "FAILED" in shown.text
    assert "./run affected" in shown.text
    assert not (place / "config.toml").exists()
    states = [item["verify_state"]["state"] for item in program.json("snapshots")]
    assert sorted(states) == ["failed", "failed", "ok", "ok", "ok", "ok"]
