"""What leaves the stage for good, and what the stage still recognises afterwards."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.pg_archive import MadeArchive, new_archive
from tests.harness.stores import empty_store
from tests.harness.wal_files import SEGMENT, write_segment

from holdfast.datastore.store import Datastore
from holdfast.errors import Refused
from holdfast.operations.wal_get import Archive, GetRequest, get
from holdfast.operations.wal_tidy import tidy_stage
from holdfast.postgres.wal_catalogue import WalCatalogue
from holdfast.postgres.wal_names import segment_name
from holdfast.postgres.wal_push import Pushed, store_file


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    with empty_store() as made:
        yield made


@pytest.fixture
def archive(tmp_path: Path, store: Datastore) -> Iterator[MadeArchive]:
    yield from new_archive(tmp_path, store)


def generations(archive: MadeArchive) -> list[str]:
    return [one.name for one in archive.stage.generations()]


def again(archive: MadeArchive, number: int, *, timeline: int = 1, seed: int = 0) -> Pushed:
    path = write_segment(archive.place / "again", number, timeline=timeline, seed=seed)
    return store_file(archive.stage, str(path))


def test_an_old_history_stays_until_the_store_has_all_of_it(archive: MadeArchive) -> None:
    archive.push(1, 2)
    archive.push(2, seed=1)
    old, new = generations(archive)
    tidy_stage(archive.stage)
    assert generations(archive) == [old, new]

    archive.carry()
    (Path(archive.stage.path) / old / "note").write_text("of a person")
    tidy_stage(archive.stage)
    assert generations(archive) == [old, new], "an unknown file is not ours to remove"
    (Path(archive.stage.path) / old / "note").unlink()
    tidy_stage(archive.stage)
    assert generations(archive) == [new]
    tidy_stage(archive.stage)
    assert generations(archive) == [new]
    assert not again(archive, 2, seed=1).went_back
    assert again(archive, 1).went_back, "older than the segment with which time went back"


def test_a_history_that_followed_another_is_asked_for_by_name_for_ever(
    archive: MadeArchive,
) -> None:
    archive.push(1, 2)
    archive.push(2, seed=1)
    archive.carry()
    tidy_stage(archive.stage)
    archive.push(3)
    assert len(generations(archive)) == 1
    request = GetRequest(
        name=segment_name(1, 3, SEGMENT),
        target=str(archive.place / "target"),
        stage=archive.stage,
        open_archive=lambda: Archive(
            archive.store, WalCatalogue.load(archive.store, archive.status().catalogue.group)
        ),
    )
    with pytest.raises(Refused, match="time went back"):
        get(request)


def test_old_markers_go_and_what_they_knew_is_not_taken_for_new(archive: MadeArchive) -> None:
    archive.push(*range(1, 8))
    archive.push(9, 10, timeline=2)
    archive.push_text("00000002.history", "1\t0/100\tx\n")
    archive.carry()
    current = archive.stage.current()
    assert current is not None
    archive.push(8)  # waits on the stage

    tidy_stage(archive.stage, markers_kept=3)
    left = sorted(os.listdir(current.carried_path))
    assert left == [
        *(segment_name(1, number, SEGMENT) for number in (5, 6, 7)),
        "00000002.history",
        *(segment_name(2, number, SEGMENT) for number in (9, 10)),
    ]
    for number in (5, 7, 8):
        pushed = again(archive, number)
        assert (pushed.is_new, pushed.went_back) == (False, False)
    assert not again(archive, 8, timeline=2).went_back, "nothing was forgotten on this timeline"
    archive.carry()
    tidy_stage(archive.stage, markers_kept=3)
    assert again(archive, 5).went_back, "it may be another one: a full backup is asked for"


def test_markers_of_files_that_wait_are_kept(archive: MadeArchive) -> None:
    archive.push(1, 2, 3)
    archive.carry()
    current = archive.stage.current()
    assert current is not None
    (Path(current.staged_path(segment_name(1, 1, SEGMENT)))).write_bytes(b"left by a crash")
    tidy_stage(archive.stage, markers_kept=1)
    assert len(os.listdir(current.carried_path)) == 3
