"""What can be recovered of a cluster, and what `pg check` finds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.pg_archive import MadeArchive, at, new_archive
from tests.harness.stores import empty_store
from tests.harness.wal_files import CLUSTER_ID, SEGMENT

from holdfast.datastore.store import Datastore
from holdfast.errors import NotFound
from holdfast.ids import epoch_to_name
from holdfast.jobs.request_flags import RequestFlags
from holdfast.operations.findings import Level
from holdfast.operations.pg_view import ClusterStatus, describe
from holdfast.operations.stage_checks import check_stage
from holdfast.postgres.base_record import BaseRecord
from holdfast.postgres.wal_names import segment_name


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    with empty_store() as made:
        yield made


@pytest.fixture
def archive(tmp_path: Path, store: Datastore) -> Iterator[MadeArchive]:
    yield from new_archive(tmp_path, store)


def texts(status: ClusterStatus) -> list[str]:
    return [problem.text for problem in status.problems]


def test_a_whole_archive_has_one_window_and_no_problem(archive: MadeArchive) -> None:
    archive.push(1, 2, 3)
    archive.base(1)
    archive.carry()
    archive.push(4)

    status = archive.status()

    assert texts(status) == []
    (window,) = status.histories[-1].windows
    assert (window.from_s, window.until_s) == (at(1) - 30, at(4))
    assert [one.until_s for one in archive.status(with_stage=False).histories[-1].windows] == [
        at(3)
    ]


def test_a_missing_segment_is_told_with_what_it_means(archive: MadeArchive) -> None:
    archive.push(1, 2, 3, 4)
    archive.base(1)
    archive.carry()
    archive.push(6, 7, 8, 9)
    archive.base(8)
    archive.carry()

    status = archive.status()

    name = segment_name(1, 5, SEGMENT)
    first = f"{epoch_to_name(at(1) - 30)} until {epoch_to_name(at(4))}"
    second = f"{epoch_to_name(at(8) - 30)} until {epoch_to_name(at(9))}"
    assert texts(status) == [
        f"segment {name} is missing: recoverable from {first}, then from {second}"
    ]
    assert status.is_damaged
    assert describe([]) == "nothing can be recovered"


def test_a_base_without_its_wal_and_one_without_its_parent_are_found(archive: MadeArchive) -> None:
    archive.push(1, 2)
    archive.base(1)
    archive.base(3, chain=("host/pg-main/2020-01-01T00:00:00Z",))
    archive.carry()

    found = texts(archive.status())

    assert any("builds on host/pg-main/2020-01-01T00:00:00Z, which is gone" in one for one in found)
    assert any("lacks WAL of its own time" in one for one in found)


def test_another_clusters_base_is_found(archive: MadeArchive) -> None:
    archive.push(1, 2)
    archive.base(1)
    archive.base(2, cluster=CLUSTER_ID + 1)
    archive.carry()

    assert any("mixes clusters" in one for one in texts(archive.status()))


def test_a_timeline_is_followed_and_missed_without_its_history(archive: MadeArchive) -> None:
    archive.push(1, 2, 3)
    archive.base(1)
    archive.push(3, 4, timeline=2)
    archive.carry()

    assert any("archived without its 00000002.history" in one for one in texts(archive.status()))

    archive.push_text("00000002.history", f"1\t0/{3 * SEGMENT + 99:X}\tpromoted\n")
    status = archive.status()
    assert texts(status) == []
    assert [(one.timeline, one.until_s) for one in status.histories[-1].windows] == [
        (1, at(3)),
        (2, at(4)),
    ]
    archive.carry()
    assert texts(archive.status(with_stage=False)) == []


def test_a_history_after_time_went_back_needs_a_base_of_its_own(archive: MadeArchive) -> None:
    archive.push(1, 2, 3)
    archive.base(1)
    archive.carry()
    archive.push(3, seed=1)

    assert any("the present history has no base backup" in one for one in texts(archive.status()))


def test_lost_chunks_and_a_damaged_index_are_found(archive: MadeArchive) -> None:
    archive.push(1, 2, seed=77)
    archive.base(1)
    (batch,) = archive.carry()
    chunks = Path(archive.store.base) / ".chunks"
    digest = archive.store.open_index(batch, "wal.didx").digest_at(0).hex()
    (chunks / digest[:4] / digest).unlink()
    assert any("lacks 1 of its chunks" in one for one in texts(archive.status()))

    index = Path(archive.store.path_of(batch, "walindex.json.blob"))
    index.write_bytes(index.read_bytes()[:-3])
    assert any(f"{batch} cannot be read" in one for one in texts(archive.status()))


def test_files_that_wait_too_long_are_told(archive: MadeArchive) -> None:
    archive.push(1, 2)
    archive.base(1)
    archive.clock.time_s = 4_000_000_000.0

    status = archive.status()

    assert not status.is_damaged
    assert any("2 WAL files wait on the stage" in one for one in texts(status))


def test_a_cluster_nobody_backed_up_is_not_there(archive: MadeArchive) -> None:
    with pytest.raises(NotFound, match="no base backup and no WAL"):
        archive.status(with_stage=False)


def test_doctor_looks_at_the_stage_of_this_machine(
    archive: MadeArchive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOLDFAST_WAL_STAGE", raising=False)
    assert check_stage(str(tmp_path / "nowhere"), 0) == []
    monkeypatch.setenv("HOLDFAST_WAL_STAGE", archive.stage.path)
    archive.push(1)

    found = check_stage("", 4_000_000_000.0)
    assert [one.level for one in found] == [Level.WARNING, Level.PROBLEM]
    archive.carry()
    current = archive.stage.current()
    assert current is not None
    BaseRecord(snapshot="host/pg-main/x", time_s=1, base_bytes=1).write(current)
    assert [one.level for one in check_stage("", 0.0)] == [Level.GOOD]
    with RequestFlags.open(f"{archive.stage.path}/requests") as requests:
        assert requests.begin(1) == 1
        requests.publish(1)
    assert [one.message for one in check_stage("", 0.0)] == ["work is owed and no sync runs"]
