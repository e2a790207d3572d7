from pathlib import Path
from typing import Any

import pytest
from tests.harness.driven_clock import DrivenClock
from tests.harness.small_store import UPID, SmallStore
from tests.harness.stores import SAMPLE, materialise_sample

from holdfast.datastore import verify_history
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import VerifyResult, VerifyState
from holdfast.datastore.options import ChunkOrder, StoreOptions
from holdfast.datastore.session import BackupSession
from holdfast.datastore.snapshot_check import SnapshotFate
from holdfast.datastore.store import Access, Datastore
from holdfast.datastore.verify import VerifyOptions, VerifyOutcome, verify
from holdfast.datastore.verify_workers import Fault
from holdfast.host.locks import LockMode
from holdfast.ids import SnapshotId
from holdfast.units import DAY
from holdfast.upid import Upid

A, B, C = b"a" * 4096, b"b" * 4096, b"c" * 5000
KEY = EncryptionKey(bytes(range(32)))
EVERYTHING = VerifyOptions()
OK, FAILED, SKIPPED = SnapshotFate.OK, SnapshotFate.FAILED, SnapshotFate.SKIPPED
UNFINISHED = SnapshotFate.UNFINISHED


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def check(
    small: SmallStore,
    *snapshots: SnapshotId,
    store: Datastore | None = None,
    options: VerifyOptions = EVERYTHING,
    key: EncryptionKey | None = None,
) -> VerifyOutcome:
    return verify(store or small.store, snapshots, upid=UPID, options=options, key=key)


def fates(outcome: VerifyOutcome) -> list[SnapshotFate]:
    return [one.fate for one in outcome.snapshots]


def test_the_recorded_store_is_sound_and_the_unfinished_snapshot_is_told_apart(
    tmp_path: Path,
) -> None:
    materialise_sample(tmp_path)
    expect = SAMPLE["expect"]
    store = Datastore.open(str(tmp_path), Access.READ_WRITE)
    every = [
        snapshot
        for ns in store.namespaces()
        for group in store.groups(ns)
        for snapshot in store.snapshots(group)
    ]

    blind = verify(store, every, upid=UPID)
    keyed = verify(store, every, upid=UPID, key=EncryptionKey(bytes.fromhex(expect["enc_key_hex"])))

    for outcome in (blind, keyed):
        assert {one.snapshot.path for one in outcome.snapshots if one.fate is OK} == set(
            expect["finished_snapshots"]
        )
        assert {one.snapshot.path for one in outcome.snapshots if one.fate is UNFINISHED} == set(
            expect["unfinished_snapshots"]
        )
        assert outcome.chunks == expect["referenced_chunks"]
    assert blind.checksum_only > 0
    assert keyed.checksum_only == 0


def test_what_an_interrupted_backup_left_is_no_damage_but_a_lost_manifest_is(
    small: SmallStore,
) -> None:
    left, lost, empty = (
        small.snapshot(f"host/a/2026-01-0{day}T00:00:00Z", {"x.pxar.didx": [A]})
        for day in (1, 2, 3)
    )
    for snapshot in (left, lost, empty):
        (small.base / snapshot.path / "index.json.blob").unlink()
    (small.base / left.path / "y.pxar.tmp_didx").write_bytes(b"half")
    (small.base / empty.path / "x.pxar.didx").unlink()

    outcome = check(small, left, lost, empty)

    assert fates(outcome) == [UNFINISHED, FAILED, UNFINISHED]
    assert outcome.has_failed
    assert not check(small, left, empty).has_failed


def test_other_users_of_a_damaged_chunk_are_marked_so_that_no_backup_builds_on_them(
    small: SmallStore,
) -> None:
    asked = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, B]})
    shares = small.snapshot("vm/7/2026-01-02T00:00:00Z", {"y.img.didx": [B]}, ns="prod")
    sound = small.snapshot("host/c/2026-01-03T00:00:00Z", {"x.pxar.didx": [C]})
    small.flip(small.put(B))

    looked = check(small, asked, store=small.read_only())
    outcome = check(small, asked)

    assert looked.also_marked == ()
    assert outcome.also_marked == (shares,)
    states = [small.store.manifest(one).verify_state for one in (asked, shares, sound)]
    assert [state and str(state.state) for state in states] == ["failed", "failed", None]
    with BackupSession.start(small.store, shares.group, shares.time_s + 60) as session:
        assert session.base is None
        assert "verification" in (session.base_dropped_reason or "")


def test_earlier_results_are_kept_with_those_of_other_programs(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    upids = [UPID.replace("65500000", f"6550000{number}") for number in range(4)]

    def other_program(unprotected: dict[str, Any]) -> None:
        unprotected["verify_state"] = {"state": "failed", "upid": upids[1]}

    verify(small.store, [snapshot], upid=upids[0])
    small.store.update_unprotected(snapshot, other_program)
    for upid in upids[2:]:
        verify(small.store, [snapshot], upid=upid)

    history = verify_history.read(small.store.manifest(snapshot).unprotected)
    assert [(str(one.state), str(one.upid)) for one in history] == [
        ("ok", upids[0]),
        ("failed", upids[1]),
        ("ok", upids[2]),
        ("ok", upids[3]),
    ]


def test_the_history_is_bounded_and_survives_nonsense() -> None:
    unprotected: dict[str, Any] = {
        verify_history.KEY: [None, 7, {"state": "ok"}, {"state": [], "upid": UPID}],
        "verify_state": "broken",
    }
    assert verify_history.read(unprotected) == ()
    for number in range(50):
        upid = Upid.parse(UPID.replace("65500000", f"655000{number:02}"))
        verify_history.add(unprotected, VerifyState(VerifyResult.OK, upid))

    kept = verify_history.read(unprotected)
    assert len(kept) == verify_history.RESULTS_MAX
    assert kept[-1].upid.start_s == 0x65500049
    assert verify_history.read({verify_history.KEY: "text"}) == ()


def test_a_sound_snapshot_is_marked_with_the_task(small: SmallStore) -> None:
    snapshot = small.snapshot(
        "host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C], "x.conf.blob": b"hello"}
    )

    outcome = check(small, snapshot)

    assert fates(outcome) == [OK]
    state = small.store.manifest(snapshot).verify_state
    assert state is not None
    assert (str(state.state), str(state.upid)) == ("ok", UPID)
    assert not outcome.has_failed


def test_each_chunk_is_read_once_for_all_snapshots(small: SmallStore) -> None:
    first = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, A, C]})
    second = small.snapshot("host/a/2026-01-02T00:00:00Z", {"x.pxar.didx": [A, B, C, C]})

    outcome = check(small, second, first)

    assert outcome.chunks == 3
    assert outcome.decoded_bytes == 4096 + 4096 + 5000
    assert outcome.stored_bytes == sum(path.stat().st_size for path in small.chunk_files())


@pytest.mark.parametrize("position", [0, 8, 12, -1])
def test_a_corrupt_chunk_is_set_aside_and_every_snapshot_that_wants_it_is_named(
    small: SmallStore, position: int
) -> None:
    first = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C]})
    second = small.snapshot("host/a/2026-01-02T00:00:00Z", {"x.pxar.didx": [C, B]})
    sound = small.snapshot("host/b/2026-01-02T00:00:00Z", {"x.pxar.didx": [B]})
    unasked = small.snapshot("host/c/2026-01-02T00:00:00Z", {"x.pxar.didx": [C]})
    digest = small.put(C)
    small.flip(digest, position)

    outcome = check(small, second, first, sound)

    assert fates(outcome) == [FAILED, FAILED, OK]
    assert [one.chunk.digest for one in outcome.damaged] == [digest]
    assert outcome.damaged[0].chunk.fault is Fault.CORRUPT
    assert outcome.damaged[0].snapshots == [first, second, unasked]
    assert not small.path(digest).exists()
    assert Path(f"{small.path(digest)}.0.bad").exists()
    state = small.store.manifest(first).verify_state
    assert state is not None
    assert str(state.state) == "failed"


def test_a_missing_chunk_fails_the_snapshot_and_is_told_apart(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C]})
    small.path(small.put(A)).unlink()

    outcome = check(small, snapshot)

    assert fates(outcome) == [FAILED]
    assert [one.chunk.fault for one in outcome.damaged] == [Fault.MISSING]
    assert outcome.with_fault(Fault.CORRUPT) == []


def test_a_store_open_for_reading_is_checked_and_left_as_it_is(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C]})
    digest = small.put(A)
    small.flip(digest)
    before = small.written()

    outcome = check(small, snapshot, store=small.read_only())

    assert fates(outcome) == [FAILED]
    assert not outcome.is_marked
    assert small.written() == before


def test_encrypted_chunks_are_checked_as_far_as_the_key_allows(small: SmallStore) -> None:
    snapshot = small.snapshot(
        "host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A, C], "n.conf.blob": b"n"}, key=KEY
    )
    digest = small.put(A, key=KEY)
    small.flip(digest, 12)  # the IV, which no checksum covers

    blind = check(small, snapshot)
    wrong = check(small, snapshot, key=EncryptionKey(bytes(32)))
    keyed = check(small, snapshot, key=KEY)

    assert (fates(blind), blind.checksum_only) == ([OK], 2)
    assert (fates(wrong), wrong.checksum_only) == ([OK], 2)
    assert (fates(keyed), keyed.checksum_only) == ([FAILED], 0)
    assert [one.chunk.digest for one in keyed.damaged] == [digest]


def test_a_plain_chunk_in_an_encrypted_archive_is_a_problem(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]}, key=KEY)
    digest = small.put(A, key=KEY)
    small.path(digest).write_bytes(small.path(small.put(A)).read_bytes())

    outcome = check(small, snapshot)

    assert fates(outcome) == [FAILED]


@pytest.mark.parametrize("name", ["x.pxar.didx", "y.img.fidx", "n.conf.blob", "index.json.blob"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_of_a_snapshot_fails_it_and_leaves_the_chunks_alone(
    small: SmallStore, name: str, damage: str
) -> None:
    snapshot = small.snapshot(
        "host/a/2026-01-01T00:00:00Z",
        {"x.pxar.didx": [A], "y.img.fidx": [B * 16], "n.conf.blob": b"note"},
    )
    path = small.base / snapshot.path / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))

    outcome = check(small, snapshot)

    assert fates(outcome) == [FAILED]
    assert outcome.damaged == ()


def test_verified_snapshots_may_be_skipped_until_they_are_outdated(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    check(small, snapshot)
    state = small.store.manifest(snapshot).verify_state
    assert state is not None
    clock = DrivenClock(state.upid.start_s + 5 * DAY)

    def at_day_five(options: VerifyOptions) -> SnapshotFate:
        run = verify(small.store, [snapshot], upid=UPID, options=options, clock=clock)
        return run.snapshots[0].fate

    assert at_day_five(VerifyOptions()) is OK
    assert at_day_five(VerifyOptions(skip_verified=True)) is SKIPPED
    assert at_day_five(VerifyOptions(skip_verified=True, outdated_after_days=5)) is SKIPPED
    assert at_day_five(VerifyOptions(skip_verified=True, outdated_after_days=4)) is OK


def test_a_snapshot_that_is_in_use_or_gone_is_skipped(small: SmallStore) -> None:
    used = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    gone = SnapshotId.parse("host/a/2026-01-02T00:00:00Z")

    with small.store.locks.snapshot(used, LockMode.EXCLUSIVE):
        outcome = check(small, used, gone)

    assert fates(outcome) == [SKIPPED, SKIPPED]
    assert not outcome.has_failed


def test_a_chunk_that_was_set_aside_ten_times_replaces_the_last_copy(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [A]})
    digest = small.put(A)
    for number in range(10):
        Path(f"{small.path(digest)}.{number}.bad").write_bytes(b"old")
    small.flip(digest)

    check(small, snapshot)

    assert len(small.chunk_files()) == 10
    assert Path(f"{small.path(digest)}.9.bad").read_bytes() != b"old"


def test_the_order_on_the_disk_finds_the_same(small: SmallStore) -> None:
    snapshot = small.snapshot("host/a/2026-01-01T00:00:00Z", {"x.pxar.didx": [C, B, A]})
    small.path(small.put(B)).unlink()

    for order in ChunkOrder:
        options = StoreOptions(chunk_order=order)
        store = Datastore.open(str(small.base), Access.READ_WRITE, options=options)
        assert [one.chunk.digest for one in check(small, snapshot, store=store).damaged] == [
            small.store.open_index(snapshot, "x.pxar.didx").digest_at(1)
        ]
