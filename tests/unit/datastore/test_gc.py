import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.harness.small_store import FIXED_CHUNK_BYTES, UPID, SmallStore, age
from tests.harness.stores import SAMPLE, materialise_sample

from holdfast.datastore.gc import GcOutcome, collect_garbage, preview_garbage
from holdfast.datastore.gc_status import read_status
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import Busy, DamagedData, ReadOnlyViolation
from holdfast.host import gate
from holdfast.operations.progress import NullProgress
from holdfast.units import DAY, HOUR

BLOCK = b"d" * FIXED_CHUNK_BYTES
A, B, C = b"a" * 4096, b"b" * 4096, b"c" * 5000


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


class Phases(NullProgress):
    """Keeps the names of phases, and warnings."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.warnings: list[str] = []

    def phase(self, name: str) -> None:
        self.names.append(name)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def collect(store: Datastore, cutoff_s: int = DAY) -> GcOutcome:
    return collect_garbage(store, upid=UPID, cutoff_s=cutoff_s)


def test_the_sample_store_gives_the_recorded_numbers(tmp_path: Path) -> None:
    materialise_sample(tmp_path)
    expect = SAMPLE["expect"]
    for path in (tmp_path / ".chunks").glob("*/*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    store = Datastore.open(str(tmp_path), Access.READ_WRITE)

    status = collect(store).status

    assert status.index_file_count == expect["index-file-count"]
    assert status.index_data_bytes == expect["index-data-bytes"]
    assert status.disk_chunks == expect["referenced_chunks"]
    assert status.disk_bytes == expect["referenced_chunk_file_bytes"]
    assert (status.removed_chunks, status.removed_bad) == (1, 1)
    assert not list((tmp_path / ".chunks").glob(f"*/{expect['orphan_digest']}"))
    assert not list((tmp_path / ".chunks").glob(f"*/{expect['bad_chunk_digest']}*"))


def test_old_unused_chunks_go_and_used_ones_stay_and_are_touched(small: SmallStore) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C]})
    orphan = small.put(B)
    small.age_chunks(2 * DAY)

    status = collect(small.store).status

    assert orphan not in small.digests()
    assert len(small.digests()) == 2
    assert (status.removed_chunks, status.disk_chunks, status.pending_chunks) == (1, 2, 0)
    assert all(path.stat().st_atime > path.stat().st_mtime for path in small.chunk_files())


def test_an_unused_chunk_younger_than_the_cutoff_is_pending(small: SmallStore) -> None:
    orphan = small.put(B)
    small.age_chunks(HOUR)

    status = collect(small.store).status

    assert orphan in small.digests()
    assert (status.removed_chunks, status.pending_chunks) == (0, 1)
    assert status.pending_bytes == small.path(orphan).stat().st_size


def test_a_registered_writer_older_than_the_cutoff_protects_what_it_may_have_touched(
    small: SmallStore,
) -> None:
    small.put(B)
    small.age_chunks(2 * DAY)
    began_s = int(small.chunk_files()[0].stat().st_atime) - 10

    with small.store.store_lock.writer(began_s):
        kept = collect(small.store).status
    removed = collect(small.store).status

    assert (kept.removed_chunks, kept.disk_chunks) == (0, 1)
    assert removed.removed_chunks == 1


def test_a_preview_tells_what_the_real_run_then_does_and_changes_nothing(
    small: SmallStore,
) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C]})
    removable = small.put(B)
    small.age_chunks(2 * DAY)
    age(small.path(small.put(b"young" * 100)), HOUR)
    before = {path: path.stat() for path in small.chunk_files()}

    told = preview_garbage(small.read_only(), cutoff_s=DAY)

    assert {path: path.stat() for path in small.chunk_files()} == before
    assert not (small.base / ".gc-status").exists()
    done = collect(small.store)
    assert removable not in small.digests()
    assert told.status.removed_bytes == done.status.removed_bytes > 0
    assert told.status.removed_chunks == done.status.removed_chunks
    assert told.status.pending_bytes == done.status.pending_bytes
    assert told.status.disk_bytes == done.status.disk_bytes


def test_chunks_of_an_unfinished_snapshot_and_of_a_stray_index_are_kept(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    (small.base / snapshot.path / "index.json.blob").unlink()
    small.snapshot("host/b/2026-01-01T00:00:00Z", {"y.pxar.didx": [B]})
    (small.base / "host/b/2026-01-01T00:00:00Z").rename(small.base / "by-hand")
    small.age_chunks(2 * DAY)

    outcome = collect(small.store)

    assert len(small.digests()) == 2
    assert outcome.unexpected == ("by-hand/y.pxar.didx",)


def test_a_store_of_many_chunks_is_collected_in_stretches_with_the_same_result(
    small: SmallStore,
) -> None:
    """Goal: memory has a bound and nothing else changes. Method: a bound of five digests."""
    chunks = [bytes([number]) * 4096 for number in range(60)]
    for day in range(1, 7):
        held = chunks[day * 5 : day * 5 + 20]
        small.snapshot(f"host/a/2026-01-0{day}T00:00:00Z", {"x.pxar.didx": held})
    lost = small.put(chunks[12])
    orphans = [small.put(b"orphan %d" % number) for number in range(40)]
    small.age_chunks(2 * DAY)
    small.path(lost).unlink()
    observer = Phases()

    whole = preview_garbage(small.store, cutoff_s=DAY)
    looked = preview_garbage(small.store, cutoff_s=DAY, digests_max=5)
    done = collect_garbage(small.store, upid=UPID, cutoff_s=DAY, digests_max=5, observer=observer)

    assert observer.names[0::2] == ["mark"] * (len(observer.names) // 2)
    assert len(observer.names) > 12
    assert looked.status == whole.status
    assert done.status == replace(whole.status, upid=UPID)
    assert whole.missing == looked.missing == done.missing
    assert (done.referenced_chunks, done.missing_chunks) == (45, 1)
    assert whole.referenced_chunks == 45
    assert small.digests().isdisjoint(orphans)
    assert len(small.digests()) == 44
    assert len(observer.warnings) == 1


@pytest.mark.parametrize("position", [0, 40, 70, 4096, 4103, 4104, 4135])
def test_a_damaged_index_ends_the_collection_before_anything_is_deleted(
    small: SmallStore, position: int
) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C]})
    orphan = small.put(B)
    small.age_chunks(2 * DAY)
    path = small.base / snapshot.path / "x.pxar.didx"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    if position == 70:  # reserved bytes mean nothing
        assert collect(small.store).status.removed_chunks == 1
        return

    with pytest.raises(DamagedData, match=r"2026-01-01T00:00:00Z/x\.pxar\.didx") as caught:
        collect(small.store)

    assert caught.value.exit_code == 20
    assert orphan in small.digests()


def test_a_missing_chunk_is_told_with_those_who_want_it_and_its_bad_copy_is_kept(
    small: SmallStore,
) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    small.snapshot("host/a/2026-01-02T00:00:00Z", {"x.pxar.didx": [A, C]})
    digest = small.put(A)
    unwanted = small.put(B)
    for each in (digest, unwanted):
        small.path(each).rename(f"{small.path(each)}.0.bad")
    small.age_chunks(2 * DAY)

    outcome = collect(small.store)

    assert [(one.digest, one.wanted_by) for one in outcome.missing] == [
        (
            digest,
            (
                "host/a/2026-01-01T00:00:00Z/x.pxar.didx",
                "host/a/2026-01-02T00:00:00Z/x.pxar.didx",
            ),
        )
    ]
    assert outcome.missing_chunks == 1
    assert outcome.bad_chunks == 1
    assert outcome.status.removed_bad == 1
    assert [path.name for path in small.chunk_files() if path.name.endswith(".bad")] == [
        f"{digest.hex()}.0.bad"
    ]


def test_a_bad_copy_grows_old_once_a_good_one_is_there(small: SmallStore) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    digest = small.put(A)
    Path(f"{small.path(digest)}.0.bad").write_bytes(b"rotten")
    small.age_chunks(HOUR)
    young = collect(small.store)
    small.age_chunks(2 * DAY)
    old = collect(small.store)

    assert (young.status.still_bad, young.status.removed_bad, young.bad_chunks) == (1, 0, 1)
    assert (old.status.still_bad, old.status.removed_bad, old.bad_chunks) == (0, 1, 0)


def test_foreign_names_stay_and_half_written_chunks_go_when_they_are_old(
    small: SmallStore,
) -> None:
    digest = small.put(B)
    directory = small.path(digest).parent
    (directory / f"{digest.hex()}.tmp_a1b2c3").write_bytes(b"half")
    (directory / "README").write_bytes(b"mine")
    (directory / f"{digest.hex()[:63]}g").write_bytes(b"no digest")
    small.age_chunks(2 * DAY)

    collect(small.store)

    assert {path.name for path in small.chunk_files()} == {"README", f"{digest.hex()[:63]}g"}


def test_one_collection_at_a_time(small: SmallStore) -> None:
    with small.store.store_lock.gc(), pytest.raises(Busy) as caught:
        collect(small.store)

    assert caught.value.exit_code == 11


def test_a_store_opened_for_reading_is_not_collected(small: SmallStore) -> None:
    with pytest.raises(ReadOnlyViolation):
        collect(small.read_only())


def test_the_status_file_has_exactly_the_keys_proxmox_reads(small: SmallStore) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, A, C], "y.img.fidx": [BLOCK]})

    outcome = collect(small.store)

    record = json.loads((small.base / ".gc-status").read_bytes())
    assert list(record) == [
        "upid",
        "index-file-count",
        "index-data-bytes",
        "disk-bytes",
        "disk-chunks",
        "removed-bytes",
        "removed-chunks",
        "pending-bytes",
        "pending-chunks",
        "removed-bad",
        "still-bad",
    ]
    assert record["upid"] == UPID
    assert record["index-data-bytes"] == 2 * 4096 + 5000 + FIXED_CHUNK_BYTES
    assert read_status(str(small.base)) == outcome.status


def test_a_preview_of_a_store_without_a_lock_file_makes_none(small: SmallStore) -> None:
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    (small.base / ".lock").unlink()
    before = small.written()

    preview_garbage(small.read_only())

    assert small.written() == before


def test_a_preview_sees_running_writers(small: SmallStore) -> None:
    small.put(B)
    small.age_chunks(2 * DAY)
    began_s = int(small.chunk_files()[0].stat().st_atime) - 10

    with small.store.store_lock.writer(began_s):
        assert preview_garbage(small.read_only()).status.removed_chunks == 0
    assert preview_garbage(small.read_only()).status.removed_chunks == 1


def test_a_full_disk_can_be_collected(small: SmallStore) -> None:
    orphan = small.put(B)
    small.age_chunks(2 * DAY)

    def full(call: str, path: object) -> None:
        if call == "write" or ".tmp" in str(path):
            raise OSError(errno.ENOSPC, "full", path)

    with gate.installed(full):
        outcome = collect(small.store)

    assert outcome.status.removed_chunks == 1
    assert orphan not in small.digests()
