"""Taking files over: what is stored, what is refused, when time went back."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from tests.harness.wal_files import CLUSTER_ID, SEGMENT, new_stage, segment_bytes, write_segment

from holdfast.errors import BadRequest, DamagedData, HoldfastError, NotFound, Refused
from holdfast.host import gate
from holdfast.jobs.request_flags import RequestFlags
from holdfast.postgres.staged_file import staged_content
from holdfast.postgres.wal_names import segment_name
from holdfast.postgres.wal_push import ask_for_sync, push, ready_files, store_file
from holdfast.postgres.wal_stage import (
    ARCHIVE,
    SNAPSHOT,
    WalStage,
    make_stage,
    read_settings,
)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[WalStage]:
    with new_stage(tmp_path / "stage") as opened:
        yield opened


def content(stage: WalStage, name: str) -> bytes:
    current = stage.current()
    assert current is not None
    with open(current.staged_path(name), "rb") as file:
        return b"".join(staged_content(file.fileno(), name))


def test_a_segment_is_stored_with_its_content_and_time(stage: WalStage, tmp_path: Path) -> None:
    path = write_segment(tmp_path, 1)
    os.utime(path, (1_700_000_000, 1_700_000_000))

    pushed = store_file(stage, str(path))

    assert (pushed.is_new, pushed.went_back) == (True, False)
    assert content(stage, path.name) == path.read_bytes()
    current = stage.current()
    assert current is not None
    assert os.stat(current.staged_path(path.name)).st_mtime == 1_700_000_000
    assert stage.holds(path.name)


def test_the_same_file_again_is_a_success(stage: WalStage, tmp_path: Path) -> None:
    path = write_segment(tmp_path, 1)
    store_file(stage, str(path))

    again = store_file(stage, str(path))

    assert (again.is_new, again.went_back) == (False, False)
    assert len(stage.generations()) == 1


def test_another_content_begins_a_new_history_and_overwrites_nothing(
    stage: WalStage, tmp_path: Path
) -> None:
    path = write_segment(tmp_path, 1)
    store_file(stage, str(path))
    first = stage.current()
    old = path.read_bytes()
    write_segment(tmp_path, 1, seed=9)

    pushed = store_file(stage, str(path))

    assert (pushed.is_new, pushed.went_back) == (True, True)
    assert content(stage, path.name) == path.read_bytes() != old
    assert first is not None
    with open(first.staged_path(path.name), "rb") as file:
        assert b"".join(staged_content(file.fileno(), path.name)) == old
    assert next(one.name for one in stage.generations()) == first.name


def test_going_back_further_than_the_last_time_is_noticed_at_once(
    stage: WalStage, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        store_file(stage, str(write_segment(tmp_path, number)))
    store_file(stage, str(write_segment(tmp_path, 3, seed=1)))

    pushed = store_file(stage, str(write_segment(tmp_path, 2, seed=2)))

    assert pushed.went_back
    assert [one.staged_names() for one in stage.generations()][1:] == [
        [segment_name(1, 3, SEGMENT)],
        [segment_name(1, 2, SEGMENT)],
    ]
    assert not store_file(stage, str(write_segment(tmp_path, 3, seed=2))).went_back


def test_a_file_the_store_has_is_compared_by_its_digest(stage: WalStage, tmp_path: Path) -> None:
    import hashlib

    path = write_segment(tmp_path, 1)
    store_file(stage, str(path))
    current = stage.current()
    assert current is not None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    os.symlink(digest, os.path.join(current.carried_path, path.name))
    os.unlink(current.staged_path(path.name))

    again = store_file(stage, str(path))
    write_segment(tmp_path, 1, seed=3)
    other = store_file(stage, str(path))

    assert (again.is_new, again.went_back) == (False, False)
    assert other.went_back


def test_on_conflict_refuse_leaves_everything_as_it_is(tmp_path: Path) -> None:
    with new_stage(tmp_path / "stage", on_conflict="refuse") as stage:
        path = write_segment(tmp_path, 1)
        store_file(stage, str(path))
        write_segment(tmp_path, 1, seed=1)

        with pytest.raises(Refused, match="another content"):
            store_file(stage, str(path))

        assert len(stage.generations()) == 1


def test_two_histories_of_one_timeline_are_an_error(stage: WalStage, tmp_path: Path) -> None:
    path = tmp_path / "00000002.history"
    path.write_text("1\t0/3000000\tone\n")
    store_file(stage, str(path))
    path.write_text("1\t0/4000000\tanother\n")

    with pytest.raises(Refused, match="two servers chose the same timeline"):
        store_file(stage, str(path))


@pytest.mark.parametrize(
    "name", ["x", "..", "000000010000000000000001.zst", "archive_status", "current"]
)
def test_a_name_that_is_none_is_refused(stage: WalStage, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest):
        store_file(stage, str(tmp_path / name))


def test_links_directories_and_empty_files_are_refused(stage: WalStage, tmp_path: Path) -> None:
    target = write_segment(tmp_path / "elsewhere", 1)
    link = tmp_path / segment_name(1, 1, SEGMENT)
    link.symlink_to(target)
    directory = tmp_path / segment_name(1, 2, SEGMENT)
    directory.mkdir()
    empty = tmp_path / "00000002.history"
    empty.touch()

    for path in (link, directory, empty, tmp_path / segment_name(1, 3, SEGMENT)):
        with pytest.raises(HoldfastError):
            store_file(stage, str(path))
    assert stage.current() is None or not any(one.staged_names() for one in stage.generations())


def test_wherever_the_disk_fails_nothing_half_is_seen(tmp_path: Path) -> None:
    """Goal: the file is whole or absent. Method: fail each effect in turn until none is left."""
    path = write_segment(tmp_path, 1)
    for step in range(100):
        calls = 0

        def failing(_call: str, _path: object, *, step: int = step) -> int | None:
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise OSError(28, "no space")
            return None

        with new_stage(tmp_path / f"stage-{step}") as stage:
            gate.active = failing
            try:
                store_file(stage, str(path))
            except HoldfastError:
                done = False
            else:
                done = True
            finally:
                gate.active = None
            for generation in stage.generations():
                names = generation.staged_names() if os.path.isdir(generation.wal_path) else []
                for name in names:
                    with open(generation.staged_path(name), "rb") as file:
                        data = b"".join(staged_content(file.fileno(), name))
                    assert data == path.read_bytes()
            if done and calls <= step:
                assert step > 8
                return
            if not done:
                assert store_file(stage, str(path)).name == path.name  # the server tries again
                assert content(stage, path.name) == path.read_bytes()
    pytest.fail("more effects than expected")


def test_ready_files_come_history_first_then_oldest_first(tmp_path: Path) -> None:
    status = tmp_path / "archive_status"
    status.mkdir()
    for name in ("000000010000000000000002.ready", "000000010000000000000001.ready"):
        (status / name).touch()
    (status / "00000002.history.ready").touch()
    (status / "000000010000000000000003.done").touch()

    found = [os.path.basename(path) for path in ready_files(str(tmp_path))]

    assert found == [
        "00000002.history",
        "000000010000000000000001",
        "000000010000000000000002",
    ]


def test_a_stage_of_another_cluster_is_not_taken_over(stage: WalStage) -> None:
    with pytest.raises(Refused, match="stage of the cluster"):
        make_stage(stage.path, stage.settings._replace(system_identifier=CLUSTER_ID + 1))
    assert read_settings(stage.path) == stage.settings


def test_what_is_no_stage_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no WAL stage"):
        WalStage.open(str(tmp_path))
    for text in ("", "[]", "{}", '{"format": 2}', '{"format": 1, "cluster": 5}', "{" * 5000):
        (tmp_path / "archive.json").write_text(text)
        with pytest.raises(DamagedData):
            WalStage.open(str(tmp_path))


def read_staged(data: bytes) -> bytes | None:
    fd = os.memfd_create("staged")
    try:
        os.write(fd, data)
        return b"".join(staged_content(fd, "x"))
    except DamagedData:
        return None
    finally:
        os.close(fd)


def test_a_staged_file_cut_short_or_changed_is_never_read_as_another() -> None:
    plain = random.Random(5).randbytes(300) + bytes(50_000) + b"wal" * 50
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=len(plain))
    data = packer.compress(plain) + packer.flush()
    assert read_staged(data) == plain

    for length in range(len(data)):
        assert read_staged(data[:length]) is None
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            assert read_staged(bytes(changed)) in (None, plain)


def test_a_frame_that_unpacks_to_far_too_much_is_read_in_pieces() -> None:
    size = 256 << 20
    packer = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj(size=size)
    data = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(256)), packer.flush()])
    fd = os.memfd_create("bomb")
    try:
        os.write(fd, data)
        pieces = [len(piece) for piece in staged_content(fd, "x")]
    finally:
        os.close(fd)

    assert sum(pieces) == size
    assert max(pieces) == 1 << 20


def test_segments_made_for_tests_differ_by_their_seed() -> None:
    assert segment_bytes(1, seed=1) != segment_bytes(1, seed=2)


def test_a_process_that_asks_twice_starts_one_sync(stage: WalStage) -> None:
    """A worker inherits the locks of an open file; whoever started it must not share them."""
    workers: list[int] = []

    def start(own: WalStage) -> int:
        workers.append(os.dup(own.requests.fileno()))
        return 0

    ask_for_sync(stage, ARCHIVE, start=start)
    ask_for_sync(stage, SNAPSHOT, start=start)

    assert len(workers) == 1
    assert stage.requests.is_worker_alive()
    assert (stage.requests.flags().running, stage.requests.flags().pending) == (ARCHIVE, SNAPSHOT)
    os.close(workers[0])
    ask_for_sync(stage, 0, start=start)
    assert stage.requests.flags().running == ARCHIVE | SNAPSHOT, "what a dead worker owed"
    os.close(workers[1])


def test_the_history_of_a_timeline_goes_along_when_nobody_handed_it_in(
    stage: WalStage, tmp_path: Path
) -> None:
    (tmp_path / "00000002.history").write_text("1\t0/300000\tpromoted\n")
    path = write_segment(tmp_path, 4, timeline=2)
    with RequestFlags.open(os.path.join(stage.path, "requests")) as held:
        assert held.begin(ARCHIVE)
        held.publish(ARCHIVE)
        push(stage.path, str(path))

    assert content(stage, "00000002.history") == b"1\t0/300000\tpromoted\n"
    assert content(stage, path.name) == path.read_bytes()
