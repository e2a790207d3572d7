"""A backup session keeps Proxmox's rules, and ends with a whole snapshot or none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.harness.driven_clock import DrivenClock
from tests.harness.sessions import GROUP, add_contents, back_up, small_store
from tests.harness.streams import pseudo_random

from holdfast.chunking.cutters import Chunker
from holdfast.datastore import blob
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode
from holdfast.datastore.options import StoreOptions, SyncLevel
from holdfast.datastore.reader import StreamReader
from holdfast.datastore.session import BackupSession, SessionSettings, free_second
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import BadRequest, Busy, DamagedData, HoldfastError, NotFound, Refused
from holdfast.errors import ReadOnlyViolation as ReadOnly
from holdfast.host import gate
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, SnapshotId
from holdfast.units import KIB, MIB

DATA = pseudo_random(MIB)
CONTENTS = {"root.pxar.didx": DATA, "disk.img.fidx": DATA[:5000], "fw.conf.blob": b"config"}
SMALL_CHUNKS = SessionSettings(chunk_mean=64 * KIB)
KEY = EncryptionKey(bytes(range(32)))
OTHER_KEY = EncryptionKey(bytes(32))
UPID = "UPID:pve:00000001:00000001:00000001:6543210F:verify:x:root@pam:"


@pytest.fixture
def store(tmp_path: Path) -> Datastore:
    return small_store(tmp_path / "store")


def names_in(store: Datastore, snapshot: SnapshotId) -> set[str]:
    return {path.name for path in Path(store.path_of(snapshot)).iterdir()}


def content_of(
    store: Datastore, snapshot: SnapshotId, name: str, key: EncryptionKey | None = None
) -> bytes:
    return b"".join(StreamReader.of(store, snapshot, name, key=key).pieces())


def set_verify_state(store: Datastore, snapshot: SnapshotId, state: str) -> None:
    def change(unprotected: dict[str, Any]) -> None:
        unprotected["verify_state"] = {"state": state, "upid": UPID}

    store.update_unprotected(snapshot, change)


def test_a_finished_snapshot_has_its_files_and_a_manifest_that_lists_them(
    store: Datastore,
) -> None:
    snapshot = back_up(store, CONTENTS, time_s=1000)
    manifest = store.manifest(snapshot)

    assert names_in(store, snapshot) == {*CONTENTS, "index.json.blob"}
    assert [entry.filename for entry in manifest.files] == list(CONTENTS)
    assert manifest.signature is None
    assert content_of(store, snapshot, "root.pxar.didx") == DATA
    assert content_of(store, snapshot, "disk.img.fidx") == DATA[:5000]
    assert store.read_blob(snapshot, "fw.conf.blob") == b"config"
    for name in ("root.pxar.didx", "disk.img.fidx"):
        index = store.open_index(snapshot, name)
        entry = manifest.entry(name)
        assert (entry.size, entry.csum) == (index.size_bytes, index.checksum())
    assert store.owner(GROUP) == "root@pam"


def test_upload_statistics_are_kept_in_the_manifest(store: Datastore) -> None:
    stats = store.manifest(back_up(store, {"a.didx": b"x" * 5000}, time_s=1000)).chunk_upload_stats

    assert stats is not None
    assert (stats.count, stats.size, stats.duplicates) == (1, 5000, 0)
    assert 0 < stats.compressed_size < 100


def test_a_second_backup_of_the_same_data_stores_nothing_new(store: Datastore) -> None:
    back_up(store, CONTENTS, time_s=1000, settings=SMALL_CHUNKS)
    with BackupSession.start(store, GROUP, 1001, settings=SMALL_CHUNKS) as session:
        add_contents(session, CONTENTS)
        summary = session.finish()

    assert summary.base == SnapshotId(GROUP, 1000)
    assert (summary.stats.count, summary.stats.new_bytes) == (0, 0)
    assert summary.stats.reused_bytes == len(DATA) + 5000
    assert content_of(store, summary.snapshot, "root.pxar.didx") == DATA


def test_notes_given_at_the_end_are_stored(store: Datastore) -> None:
    with BackupSession.start(store, GROUP, 1000) as session:
        session.blob("a.blob", b"")
        session.finish(notes="before the upgrade")

    assert store.manifest(session.snapshot).notes == "before the upgrade"


def test_a_failed_session_leaves_no_snapshot_but_keeps_the_group(store: Datastore) -> None:
    def failing() -> None:
        with BackupSession.start(store, GROUP, 1000) as session:
            session.blob("a.blob", b"")
            session.stream("a.didx").write(DATA)
            raise HoldfastError("stop")

    with pytest.raises(HoldfastError, match="stop"):
        failing()

    assert store.snapshots(GROUP) == []
    assert store.owner(GROUP) == "root@pam"
    back_up(store, CONTENTS, time_s=1000)


def test_a_session_that_is_not_finished_leaves_no_snapshot(store: Datastore) -> None:
    with BackupSession.start(store, GROUP, 1000) as session:
        session.blob("a.blob", b"")

    assert store.snapshots(GROUP) == []


def test_nothing_can_be_added_after_the_end(store: Datastore) -> None:
    with BackupSession.start(store, GROUP, 1000) as session:
        session.blob("a.blob", b"")
        session.finish()
        with pytest.raises(BadRequest):
            session.blob("b.blob", b"")
        with pytest.raises(BadRequest):
            session.finish()

    assert store.is_finished(session.snapshot)


def test_an_open_or_empty_session_cannot_be_finished(store: Datastore) -> None:
    with BackupSession.start(store, GROUP, 1000) as session:
        with pytest.raises(BadRequest):
            session.finish()
        stream = session.stream("a.didx")
        with pytest.raises(BadRequest, match=r"a\.didx"):
            session.finish()
        stream.write(b"x")
        stream.close()
        session.finish()


@pytest.mark.parametrize("name", ["a", "a.fidx", "../a.didx", ".a.didx", "index.json.blob"])
def test_names_that_no_stream_can_have_are_refused(store: Datastore, name: str) -> None:
    with BackupSession.start(store, GROUP, 1000) as session, pytest.raises(BadRequest):
        session.stream(name)


def test_a_name_is_used_once(store: Datastore) -> None:
    with BackupSession.start(store, GROUP, 1000) as session:
        session.blob("a.blob", b"")
        with pytest.raises(BadRequest):
            session.blob("a.blob", b"")
        session.stream("a.didx")
        with pytest.raises(BadRequest):
            session.stream("a.didx")
    with BackupSession.start(store, GROUP, 1001) as session, pytest.raises(BadRequest):
        session.blob("index.json.blob", b"")


# Group, time and base ------------------------------------------------------------------------------


def test_two_backups_of_a_group_exclude_each_other(store: Datastore) -> None:
    with BackupSession.start(store, GROUP, 1000), pytest.raises(Busy):
        BackupSession.start(store, GROUP, 1001)
    with BackupSession.start(store, GroupId.parse("host/other"), 1000):
        pass


def test_only_the_owner_and_the_user_of_an_owning_token_may_add(store: Datastore) -> None:
    with BackupSession.start(store, GROUP, 1000, owner="bob@pbs!nightly") as session:
        session.blob("a.blob", b"")
        session.finish()

    for owner in ("root@pam", "bob@pbs!other"):
        with pytest.raises(Refused, match="belongs to"):
            BackupSession.start(store, GROUP, 1001, owner=owner)
    with BackupSession.start(store, GROUP, 1001, owner="bob@pbs"):
        pass


@pytest.mark.parametrize("time_s", [999, 1000])
def test_a_backup_has_to_be_later_than_its_base(store: Datastore, time_s: int) -> None:
    back_up(store, CONTENTS, time_s=1000)

    with pytest.raises(Refused, match="later"):
        BackupSession.start(store, GROUP, time_s)
    assert [each.time_s for each in store.snapshots(GROUP)] == [1000]


def test_a_backup_in_the_second_of_the_last_one_waits_for_the_next(store: Datastore) -> None:
    back_up(store, CONTENTS, time_s=1000)
    clock = DrivenClock(1000.25)

    assert free_second(store, GROUP, clock) == 1001
    assert clock.waits == [0.75]


@pytest.mark.parametrize("now_s", [900.5, 1001.5])
def test_a_backup_in_another_second_does_not_wait(store: Datastore, now_s: float) -> None:
    back_up(store, CONTENTS, time_s=1000)
    clock = DrivenClock(now_s)

    assert free_second(store, GROUP, clock) == int(now_s)
    assert free_second(store, GroupId(GROUP.type, "unheard-of"), clock) == int(now_s)
    assert clock.waits == []


def test_a_base_whose_verification_failed_is_not_used_and_not_compared_with(
    store: Datastore,
) -> None:
    base = back_up(store, CONTENTS, time_s=1000)
    set_verify_state(store, base, "failed")

    with BackupSession.start(store, GROUP, 999) as session:
        assert session.base is None
        assert "verification" in str(session.base_dropped_reason)
        add_contents(session, CONTENTS)
        stats = session.finish().stats

    assert stats.count == stats.duplicates > 0


def test_a_base_that_was_verified_well_serves(store: Datastore) -> None:
    set_verify_state(store, back_up(store, CONTENTS, time_s=1000), "ok")

    with BackupSession.start(store, GROUP, 1001) as session:
        assert session.base is not None


def test_a_base_with_an_unreadable_manifest_refuses_the_backup(store: Datastore) -> None:
    base = back_up(store, CONTENTS, time_s=1000)
    Path(store.path_of(base, "index.json.blob")).write_bytes(b"nonsense")

    with pytest.raises(DamagedData):
        BackupSession.start(store, GROUP, 1001)
    assert store.snapshots(GROUP) == [base]


def test_an_unfinished_snapshot_is_no_base_and_no_hindrance(store: Datastore) -> None:
    first = back_up(store, CONTENTS, time_s=1000)
    Path(store.path_of(SnapshotId(GROUP, 2000))).mkdir()

    with BackupSession.start(store, GROUP, 1500) as session:
        assert session.base is not None
        assert session.base.snapshot == first


def test_the_base_cannot_be_removed_while_the_backup_runs(store: Datastore) -> None:
    base = back_up(store, CONTENTS, time_s=1000)
    with BackupSession.start(store, GROUP, 1001) as session:
        with pytest.raises(Busy):
            store.remove_snapshot(base)
        with pytest.raises(Busy):
            store.remove_snapshot(session.snapshot)

    store.remove_snapshot(base)


def test_a_base_that_is_being_removed_makes_the_backup_wait_for_another_time(
    store: Datastore,
) -> None:
    base = back_up(store, CONTENTS, time_s=1000)
    with store.locks.snapshot(base, LockMode.EXCLUSIVE), pytest.raises(Busy):
        BackupSession.start(store, GROUP, 1001)


def test_a_running_session_is_registered_as_a_writer(store: Datastore) -> None:
    assert store.store_lock.oldest_writer() is None
    with BackupSession.start(store, GROUP, 1000):
        assert store.store_lock.oldest_writer() is not None
    assert store.store_lock.oldest_writer() is None


def test_a_damaged_base_index_is_a_warning_and_a_full_upload(store: Datastore) -> None:
    base = back_up(store, CONTENTS, time_s=1000)
    path = Path(store.path_of(base, "root.pxar.didx"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with BackupSession.start(store, GROUP, 1001) as session:
        add_contents(session, CONTENTS)
        summary = session.finish()

    assert "root.pxar.didx" in summary.warnings[0]
    assert content_of(store, summary.snapshot, "root.pxar.didx") == DATA


def test_a_missing_namespace_is_named(store: Datastore) -> None:
    with pytest.raises(NotFound):
        BackupSession.start(store, GroupId.parse("host/a", store.namespaces()[0].child("x")), 1000)


def test_a_store_opened_for_reading_takes_no_backup(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", access=Access.READ_ONLY)

    with pytest.raises(ReadOnly):
        BackupSession.start(store, GROUP, 1000)


# Keys ----------------------------------------------------------------------------------------------


def test_an_encrypted_snapshot_is_signed_and_hides_its_contents(store: Datastore) -> None:
    settings = SessionSettings(key=KEY, crypt_mode=CryptMode.ENCRYPT)
    snapshot = back_up(store, CONTENTS, time_s=1000, settings=settings)
    manifest = store.manifest(snapshot)

    assert {entry.crypt_mode for entry in manifest.files} == {CryptMode.ENCRYPT}
    assert manifest.key_fingerprint == KEY.fingerprint
    assert manifest.signature is not None
    manifest.check_signature(KEY)
    assert content_of(store, snapshot, "root.pxar.didx", KEY) == DATA
    assert store.read_blob(snapshot, "fw.conf.blob", KEY) == b"config"
    kinds = {
        blob.kind_of(path.read_bytes()).is_encrypted
        for path in Path(store.base, ".chunks").glob("*/*")
    }
    assert kinds == {True}


def test_sign_only_signs_and_leaves_contents_readable(store: Datastore) -> None:
    settings = SessionSettings(key=KEY, crypt_mode=CryptMode.SIGN_ONLY)
    snapshot = back_up(store, CONTENTS, time_s=1000, settings=settings)

    assert store.manifest(snapshot).signature is not None
    assert content_of(store, snapshot, "root.pxar.didx") == DATA


def test_a_key_alone_neither_signs_nor_encrypts(store: Datastore) -> None:
    snapshot = back_up(store, CONTENTS, time_s=1000, settings=SessionSettings(key=KEY))

    assert store.manifest(snapshot).signature is None


@pytest.mark.parametrize("settings", [SessionSettings(), SessionSettings(key=OTHER_KEY)])
def test_a_base_made_with_another_key_or_read_without_one_does_not_serve(
    store: Datastore, settings: SessionSettings
) -> None:
    encrypted = SessionSettings(key=KEY, crypt_mode=CryptMode.ENCRYPT)
    back_up(store, CONTENTS, time_s=1000, settings=encrypted)

    with BackupSession.start(store, GROUP, 1001, settings=settings) as session:
        assert session.base is None
        assert "key" in str(session.base_dropped_reason)


def test_the_same_key_reuses_encrypted_chunks(store: Datastore) -> None:
    encrypted = SessionSettings(key=KEY, crypt_mode=CryptMode.ENCRYPT)
    back_up(store, CONTENTS, time_s=1000, settings=encrypted)
    with BackupSession.start(store, GROUP, 1001, settings=encrypted) as session:
        add_contents(session, CONTENTS)
        assert session.finish().stats.new_chunks == 0


def test_a_base_in_another_crypt_mode_lends_no_index(store: Datastore) -> None:
    signed = SessionSettings(key=KEY, crypt_mode=CryptMode.SIGN_ONLY)
    back_up(store, CONTENTS, time_s=1000, settings=signed)
    with BackupSession.start(
        store, GROUP, 1001, settings=replace(signed, crypt_mode=CryptMode.ENCRYPT)
    ) as session:
        assert session.base is not None
        assert session.base.index("root.pxar.didx") is None


def test_a_tampered_base_does_not_serve(store: Datastore) -> None:
    signed = SessionSettings(key=KEY, crypt_mode=CryptMode.SIGN_ONLY)
    base = back_up(store, CONTENTS, time_s=1000, settings=signed)
    manifest = store.manifest(base)
    store.write_manifest(base, replace(manifest, files=manifest.files[:1]))

    with BackupSession.start(store, GROUP, 1001, settings=signed) as session:
        assert session.base is None
        assert "signature" in str(session.base_dropped_reason)


def test_the_key_for_the_master_is_stored_plain_but_listed_as_encrypted(store: Datastore) -> None:
    settings = SessionSettings(key=KEY, crypt_mode=CryptMode.ENCRYPT, wrapped_key=b"rsa" * 100)
    snapshot = back_up(store, {"a.blob": b""}, time_s=1000, settings=settings)
    stored = Path(store.path_of(snapshot, "rsa-encrypted.key.blob")).read_bytes()

    assert blob.kind_of(stored) is blob.BlobKind.PLAIN
    assert stored[12:] == b"rsa" * 100
    entry = store.manifest(snapshot).entry("rsa-encrypted.key.blob")
    assert entry.crypt_mode is CryptMode.ENCRYPT
    assert entry.size == len(stored)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(BadRequest):
        SessionSettings(crypt_mode=CryptMode.ENCRYPT)
    with pytest.raises(BadRequest):
        SessionSettings(wrapped_key=b"x")


# The disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunker", list(Chunker))
def test_the_manifest_comes_after_everything_else(tmp_path: Path, chunker: Chunker) -> None:
    store = small_store(tmp_path / "store")
    calls: list[tuple[str, str]] = []
    settings = SessionSettings(chunker=chunker)

    with gate.installed(lambda call, path: calls.append((call, str(path)))):
        back_up(store, CONTENTS, time_s=1000, settings=settings)

    manifest_at = next(i for i, (_call, path) in enumerate(calls) if "index.json" in path)
    assert ("syncfs", store.base) in calls[:manifest_at]
    later = [(call, Path(path).name.partition(".tmp")[0]) for call, path in calls[manifest_at:]]
    assert [call for call, _name in later] == ["open", "write", "fsync", "rename", "fsync"]


@pytest.mark.parametrize(
    ("level", "flushes"),
    [
        (SyncLevel.NONE, {"fsync": 0, "syncfs": 0}),
        (SyncLevel.FILESYSTEM, {"fsync": 2, "syncfs": 1}),
        (SyncLevel.FILE, {"fsync": 2 + 2 + 3 + 2, "syncfs": 0}),
    ],
)
def test_sync_levels_flush_what_they_promise(
    tmp_path: Path, level: SyncLevel, flushes: dict[str, int]
) -> None:
    """Level file: chunk and directory, index and blob, three directories, manifest and directory."""
    store = small_store(tmp_path / "store", options=StoreOptions(sync_level=level))
    calls: list[str] = []

    with gate.installed(lambda call, _path: calls.append(call)):
        back_up(store, {"a.didx": b"x", "b.blob": b""}, time_s=1000)

    assert {name: calls.count(name) for name in flushes} == flushes
