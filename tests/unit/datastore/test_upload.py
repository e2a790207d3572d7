"""Workers store each chunk once, count what they do, and stop everything at the first failure."""

import errno
import threading
from pathlib import Path

import pytest
from tests.harness.upload_rig import UploadRig

from holdfast.datastore.upload import KnownChunks, Lane
from holdfast.errors import BadRequest, HoldfastError, NoSpace
from holdfast.host import gate


class StoreJob:
    """Stores one piece of data and tells when it is through."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.digest: bytes | None = None
        self.released = threading.Event()

    def run(self, lane: Lane) -> None:
        self.digest = lane.store(memoryview(self.data))

    def release(self) -> None:
        self.released.set()


def test_the_same_data_is_stored_once_and_counted_as_reused_after_that(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        jobs = [StoreJob(b"x" * 100) for _ in range(20)]
        for job in jobs:
            rig.uploader.submit(job)
        rig.uploader.stop()
        stats = rig.uploader.stats

    assert len({job.digest for job in jobs}) == 1
    assert (stats.count, stats.size, stats.new_chunks, stats.duplicates) == (1, 100, 1, 0)
    assert (stats.reused_chunks, stats.reused_bytes) == (19, 1900)
    assert len(rig.chunk_files()) == 1


def test_a_chunk_that_an_earlier_backup_left_is_a_duplicate(tmp_path: Path) -> None:
    for expected in (0, 1):
        with UploadRig(tmp_path) as rig:
            job = StoreJob(b"y" * 100)
            rig.uploader.submit(job)
            job.released.wait()
            rig.uploader.stop()
            stats = rig.uploader.stats

        assert (stats.count, stats.duplicates, stats.new_chunks) == (1, expected, 1 - expected)


def test_after_a_failure_waiting_jobs_are_released_unrun_and_check_raises(tmp_path: Path) -> None:
    def full_disk(call: str, _path: object) -> None:
        if call == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    with UploadRig(tmp_path) as rig, gate.installed(full_disk):
        first = StoreJob(b"1")
        rig.uploader.submit(first)
        first.released.wait()
        late = StoreJob(b"2")
        rig.uploader.submit(late)
        late.released.wait()

        with pytest.raises(NoSpace):
            rig.uploader.check()
        assert late.digest is None


def test_stopping_with_a_failure_drops_what_waits(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        rig.uploader.stop(HoldfastError("enough"))
        with pytest.raises(HoldfastError, match="enough"):
            rig.uploader.check()


def test_an_uploader_without_workers_is_refused(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig, pytest.raises(BadRequest):
        type(rig.uploader)(rig._lane, workers=0)


def test_only_the_first_claim_of_a_digest_has_to_store_it() -> None:
    known = KnownChunks()
    known.register([(b"a" * 32, 5)])

    assert not known.claim(b"a" * 32, 5)
    assert known.claim(b"b" * 32, 7)
    assert not known.claim(b"b" * 32, 7)
    assert known.length(b"b" * 32) == 7
    assert known.length(b"c" * 32) is None
