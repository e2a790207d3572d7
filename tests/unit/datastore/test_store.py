"""Stores: the recorded sample read and changed, hostile names, refusals, removals."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.harness.stores import SAMPLE, materialise_sample

from holdfast.datastore import blob
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode, Manifest
from holdfast.datastore.store import Access, Contents, Datastore
from holdfast.errors import (
    BadRequest,
    Busy,
    DamagedData,
    KeyProblem,
    NotFound,
    Protected,
    ReadOnlyViolation,
    Refused,
)
from holdfast.host import gate
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, Namespace, SnapshotId

VM = GroupId.parse("vm/100")
FIRST, SECOND = (SnapshotId.parse(text) for text in SAMPLE["expect"]["finished_snapshots"][:2])
A = Namespace(("a",))
HOST = GroupId.parse("host/h1", A)
ENCRYPTED = SnapshotId.parse("host/h1/2024-06-10T06:15:00Z", A)
UNFINISHED = SnapshotId.parse("host/h1/2024-06-10T06:14:10Z", A)
KEY = EncryptionKey(bytes.fromhex(SAMPLE["expect"]["enc_key_hex"]))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return materialise_sample(tmp_path / "sample")


@pytest.fixture
def store(base: Path) -> Datastore:
    return Datastore.open(str(base), Access.READ_WRITE, name="sample")


@pytest.fixture
def reader(base: Path) -> Datastore:
    return Datastore.open(str(base), Access.READ_ONLY)


def _tree(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes() if each.is_file() else b"directory"
        for each in path.rglob("*")
    }


# The sample --------------------------------------------------------------------------------------


def test_sample_is_listed_as_recorded(reader: Datastore) -> None:
    found = {
        each.path: reader.is_finished(each)
        for ns in reader.namespaces()
        for group in reader.groups(ns)
        for each in reader.snapshots(group)
    }

    assert [path for path, finished in found.items() if finished] == SAMPLE["expect"][
        "finished_snapshots"
    ]
    assert [path for path, finished in found.items() if not finished] == SAMPLE["expect"][
        "unfinished_snapshots"
    ]
    assert reader.namespaces() == [Namespace(), A]
    assert reader.groups() == [VM]
    assert reader.newest_finished(VM) == SECOND


def test_sample_tells_owners_notes_and_protection(reader: Datastore) -> None:
    assert reader.owner(VM) == "backup@pbs!tok"
    assert reader.owner(HOST) == "root@pam"
    assert reader.notes(VM) == "sample group\nsecond line\n"
    assert reader.notes(HOST) == ""
    assert [reader.is_protected(each) for each in (FIRST, SECOND)] == [False, True]


@pytest.mark.parametrize("path", SAMPLE["expect"]["image_sha256"], ids=lambda path: path[-20:])
def test_streams_of_the_sample_are_the_recorded_ones(reader: Datastore, path: str) -> None:
    directory, _, filename = path.rpartition("/")
    snapshot = next(each for each in (FIRST, SECOND, ENCRYPTED) if each.path == directory)
    index = reader.open_index(snapshot, filename)
    entry = reader.manifest(snapshot).entry(filename)
    assert (entry.size, entry.csum) == (index.size_bytes, index.checksum())

    hasher = hashlib.sha256()
    for position, digest in enumerate(index.digests()):
        start, end = index.range_at(position)
        raw = Path(reader.base, ".chunks", digest.hex()[:4], digest.hex()).read_bytes()
        data = blob.decode(raw, key=KEY, size_max=end - start)
        assert len(data) == end - start
        hasher.update(data)

    assert hasher.hexdigest() == SAMPLE["expect"]["image_sha256"][path]


def test_manifests_of_the_sample_are_signed_and_list_their_files(reader: Datastore) -> None:
    manifest = reader.manifest(ENCRYPTED)

    manifest.check_signature(KEY)
    assert manifest.signature is not None
    assert manifest.is_encrypted
    assert [entry.crypt_mode for entry in manifest.files] == [CryptMode.ENCRYPT] * 2
    for entry in manifest.files:
        if entry.filename.endswith(".blob"):
            raw = reader.read_blob_file(ENCRYPTED, entry.filename)
            assert (len(raw), hashlib.sha256(raw).digest()) == (entry.size, entry.csum)


def test_blobs_are_decoded_with_the_key_they_need(reader: Datastore) -> None:
    assert reader.read_blob(FIRST, "qemu-server.conf.blob") == b"cores: 2\nmemory: 2048\n"
    assert set(reader.read_blob(SECOND, "client.log.blob").splitlines()) == {b"log line"}
    assert reader.read_blob(ENCRYPTED, "note.conf.blob", KEY)
    with pytest.raises(KeyProblem):
        reader.read_blob(ENCRYPTED, "note.conf.blob")


def test_files_on_the_disk_are_listed_without_temporary_ones(reader: Datastore) -> None:
    assert [file.name for file in reader.files(SECOND)] == [
        "client.log.blob",
        "drive-scsi0.img.fidx",
        "index.json.blob",
    ]
    assert reader.files(UNFINISHED) == []


# What is asked for and not there -----------------------------------------------------------------


def test_what_is_not_there_is_not_found(reader: Datastore, tmp_path: Path) -> None:
    nowhere = Namespace(("nowhere",))
    for ask in (
        lambda: Datastore.open(str(tmp_path / "none"), Access.READ_ONLY),
        lambda: Datastore.open(str(tmp_path), Access.READ_ONLY),
        lambda: reader.namespaces(nowhere),
        lambda: reader.groups(nowhere),
        lambda: reader.snapshots(GroupId.parse("vm/101")),
        lambda: reader.manifest(SnapshotId(VM, 5)),
        lambda: reader.manifest(UNFINISHED),
        lambda: reader.owner(GroupId.parse("vm/101")),
        lambda: reader.open_index(FIRST, "other.img.fidx"),
        lambda: reader.read_blob(FIRST, "other.conf.blob"),
    ):
        with pytest.raises(NotFound):
            ask()


@pytest.mark.parametrize(
    "name", ["../owner.blob", "a/b.blob", "/etc/x.blob", ".x.blob", "x.fidx", "", "..", "a\0.blob"]
)
def test_names_that_lead_elsewhere_are_refused(reader: Datastore, name: str) -> None:
    with pytest.raises(BadRequest):
        reader.read_blob(FIRST, name)
    with pytest.raises(BadRequest):
        reader.open_index_file(FIRST, name.replace(".blob", ".fidx").replace("x.fidx", "/x.fidx"))
    with pytest.raises((BadRequest, NotFound)):
        reader.open_index(FIRST, name.replace(".blob", ".img.fidx"))


def test_odd_names_links_and_files_among_groups_and_snapshots_are_ignored(base: Path) -> None:
    (base / "vm" / "-odd").mkdir()
    (base / "vm" / "with space").mkdir()
    (base / "vm" / "file").touch()
    (base / "vm" / "link").symlink_to("100")
    (base / "vm" / "100" / "2024-13-01T00:00:00Z").mkdir()
    (base / "vm" / "100" / "2024-06-12T06:13:20Z").symlink_to("2024-06-10T06:13:20Z")
    (base / "vm" / "100" / "2024-06-13T06:13:20Z").touch()
    (base / "vm" / "100" / "2024-6-1").mkdir()
    os.mkdir(os.fsencode(base / "vm") + b"/\xff\xfe")
    (base / "host").symlink_to("vm")
    (base / "ct").touch()
    (base / "ns" / ".hidden").mkdir()
    (base / "ns" / "loop").symlink_to(base)

    reader = Datastore.open(str(base), Access.READ_ONLY)

    assert reader.groups() == [VM]
    assert reader.snapshots(VM) == [FIRST, SECOND]
    assert reader.namespaces() == [Namespace(), A]
    for linked in (GroupId.parse("vm/link"), GroupId.parse("host/100")):
        with pytest.raises(NotFound):
            reader.snapshots(linked)
    with pytest.raises(NotFound):
        reader.manifest(SnapshotId.parse("vm/100/2024-06-12T06:13:20Z"))


def test_groups_come_in_the_order_of_verification(base: Path) -> None:
    for name in ("vm/9", "vm/20", "vm/b", "vm/a1", "ct/7", "host/z", "vm/1x"):
        (base / name).mkdir(parents=True)

    reader = Datastore.open(str(base), Access.READ_ONLY)

    assert [str(group) for group in reader.groups()] == [
        "ct/7",
        "host/z",
        "vm/9",
        "vm/20",
        "vm/100",
        "vm/1x",
        "vm/a1",
        "vm/b",
    ]


def test_namespaces_are_listed_as_deep_as_asked(store: Datastore) -> None:
    for text in ("a/b", "a/b/c", "z"):
        store.create_namespace(Namespace.parse(text))

    assert [str(ns) for ns in store.namespaces()] == ["", "a", "a/b", "a/b/c", "z"]
    assert [str(ns) for ns in store.namespaces(depth=1)] == ["", "a", "z"]
    assert [str(ns) for ns in store.namespaces(A, depth=0)] == ["a"]


@pytest.mark.parametrize("content", [b"", b"nobody", b"\xff@pam", b"a b@pam", b"../x@pam\n"])
def test_owner_that_names_nobody_is_damage(base: Path, reader: Datastore, content: bytes) -> None:
    (base / VM.path / "owner").write_bytes(content)

    with pytest.raises(DamagedData):
        reader.owner(VM)


def test_owner_is_the_first_line_without_white_space(base: Path, reader: Datastore) -> None:
    (base / VM.path / "owner").write_bytes(b"me@pam \t\nsecond line\n")

    assert reader.owner(VM) == "me@pam"


def test_missing_owner_is_damage_and_damaged_manifest_is_named(
    base: Path, reader: Datastore
) -> None:
    (base / VM.path / "owner").unlink()
    (base / FIRST.path / "index.json.blob").write_bytes(b"rubbish")

    with pytest.raises(DamagedData, match="owner of vm/100"):
        reader.owner(VM)
    with pytest.raises(DamagedData, match="manifest of vm/100/2024-06-10T06:13:20Z is damaged"):
        reader.manifest(FIRST)


# Reading only ------------------------------------------------------------------------------------


def test_store_opened_for_reading_refuses_every_change(base: Path, reader: Datastore) -> None:
    before = _tree(base)
    for change in (
        lambda: reader.set_owner(VM, "me@pam"),
        lambda: reader.set_notes(VM, "x"),
        lambda: reader.set_snapshot_notes(FIRST, "x"),
        lambda: reader.update_unprotected(FIRST, lambda _value: None),
        lambda: reader.set_protected(FIRST, protected=True),
        lambda: reader.create_namespace(Namespace(("n",))),
        lambda: reader.make_snapshot_directory(SnapshotId(VM, 5)),
        lambda: reader.remove_snapshot(FIRST),
        lambda: reader.discard_snapshot(FIRST),
        lambda: reader.remove_group(VM),
        lambda: reader.remove_namespace(A, Contents.DELETE),
        lambda: reader.write_manifest(FIRST, reader.manifest(FIRST)),
        lambda: reader.locked_group(VM, "me@pam").__enter__(),
    ):
        with pytest.raises(ReadOnlyViolation):
            change()
    assert _tree(base) == before


# Changes -----------------------------------------------------------------------------------------


def test_snapshot_notes_change_and_everything_else_survives(store: Datastore) -> None:
    before = store.manifest(ENCRYPTED)
    store.update_unprotected(ENCRYPTED, lambda value: value.update({"of-later": {"x": [1]}}))

    store.set_snapshot_notes(ENCRYPTED, "first line\nünd more")

    after = store.manifest(ENCRYPTED)
    after.check_signature(KEY)
    assert (after.files, after.signature) == (before.files, before.signature)
    assert after.notes == "first line\nünd more"
    assert dict(after.unprotected) == {
        **before.unprotected,
        "of-later": {"x": [1]},
        "notes": "first line\nünd more",
    }
    assert sorted(os.listdir(store.path_of(ENCRYPTED))) == [
        "index.json.blob",
        "note.conf.blob",
        "root.pxar.didx",
    ]
    store.set_snapshot_notes(ENCRYPTED, "")
    assert "notes" not in store.manifest(ENCRYPTED).unprotected


def test_change_that_fails_leaves_the_manifest_alone(store: Datastore) -> None:
    before = store.manifest(FIRST)

    def fail(unprotected: dict[str, Any]) -> None:
        unprotected["notes"] = "half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.update_unprotected(FIRST, fail)
    assert store.manifest(FIRST) == before
    with store.locks.manifest(FIRST):
        pass


def test_group_notes_and_owner_change(store: Datastore) -> None:
    store.set_notes(VM, "other\n")
    store.set_owner(VM, "me@pam")
    assert (store.notes(VM), store.owner(VM)) == ("other\n", "me@pam")
    assert Path(store.path_of(VM, "owner")).read_bytes() == b"me@pam\n"

    store.set_notes(VM, "")
    store.set_notes(VM, "")
    assert store.notes(VM) == ""
    assert "notes" not in os.listdir(store.path_of(VM))
    for bad in ("me", "me@", "@pam", "me@pam!", "a b@pam", "me@pam\n"):
        with pytest.raises(BadRequest):
            store.set_owner(VM, bad)
    for text in ("x" * (2 << 20), "\ud800"):
        with pytest.raises(BadRequest):
            store.set_notes(VM, text)


def test_protection_is_set_once_and_lifted(store: Datastore) -> None:
    store.set_protected(FIRST, protected=True)
    store.set_protected(FIRST, protected=True)
    assert store.is_protected(FIRST)

    store.set_protected(FIRST, protected=False)
    store.set_protected(FIRST, protected=False)
    assert not store.is_protected(FIRST)
    with store.locks.snapshot(FIRST, LockMode.SHARED), pytest.raises(Busy):
        store.set_protected(FIRST, protected=True)


def test_namespace_needs_its_parent_and_is_made_once(store: Datastore) -> None:
    with pytest.raises(NotFound):
        store.create_namespace(Namespace.parse("x/y"))
    store.create_namespace(Namespace.parse("x"))
    store.create_namespace(Namespace.parse("x/y"))
    for text in ("x", "x/y", ""):
        with pytest.raises(BadRequest):
            store.create_namespace(Namespace.parse(text))
    assert Path(store.base, "ns/x/ns/y").stat().st_mode & 0o777 == 0o755


def test_new_group_gets_its_owner_and_a_known_one_keeps_it(store: Datastore) -> None:
    new = GroupId.parse("ct/7", A)

    with store.locked_group(new, "me@pam") as owner:
        assert owner == "me@pam"
        with pytest.raises(Busy), store.locked_group(new, "me@pam"):
            pass
        store.make_snapshot_directory(SnapshotId(new, 1_700_000_000))
        with pytest.raises(Refused):
            store.make_snapshot_directory(SnapshotId(new, 1_700_000_000))
    with store.locked_group(new, "you@pam") as owner:
        assert owner == "me@pam"
    assert store.snapshots(new) == [SnapshotId(new, 1_700_000_000)]


def test_group_that_lost_its_owner_is_taken_over_only_while_it_is_empty(store: Datastore) -> None:
    empty = GroupId.parse("ct/8")
    Path(store.path_of(empty)).mkdir(parents=True)
    Path(store.path_of(VM, "owner")).unlink()

    with store.locked_group(empty, "me@pam") as owner:
        assert owner == "me@pam"
    with pytest.raises(DamagedData), store.locked_group(VM, "me@pam"):
        pass


def test_new_group_needs_its_namespace(store: Datastore) -> None:
    with (
        pytest.raises(NotFound),
        store.locked_group(GroupId.parse("ct/7", Namespace(("x",))), "a@b"),
    ):
        pass
    assert not Path(store.base, "ns/x").exists()


# Removals ----------------------------------------------------------------------------------------


def test_removed_snapshot_is_gone_and_its_chunks_stay(store: Datastore) -> None:
    Path(store.path_of(FIRST, "odd")).mkdir()
    Path(store.path_of(FIRST, "odd/file")).touch()
    Path(store.path_of(FIRST, "link")).symlink_to(store.base)
    chunks = _tree(Path(store.base, ".chunks"))

    store.remove_snapshot(FIRST)

    assert store.snapshots(VM) == [SECOND]
    assert not Path(store.path_of(FIRST)).exists()
    assert _tree(Path(store.base, ".chunks")) == chunks
    with pytest.raises(NotFound):
        store.remove_snapshot(FIRST)


def test_protected_and_busy_snapshots_stay(store: Datastore) -> None:
    before = _tree(Path(store.base))

    with pytest.raises(Protected):
        store.remove_snapshot(SECOND)
    with store.locks.snapshot(FIRST, LockMode.SHARED), pytest.raises(Busy):
        store.remove_snapshot(FIRST)
    assert _tree(Path(store.base)) == before


class _Killed(BaseException):
    """The end of the process, as far as the disk can tell."""


def test_removal_killed_at_any_step_leaves_a_whole_or_an_unfinished_snapshot(
    tmp_path: Path,
) -> None:
    """Goal: never finished with files missing. Method: die before the 1st, 2nd ... effect."""
    for step in range(100):
        base = materialise_sample(tmp_path / str(step))
        store = Datastore.open(str(base), Access.READ_WRITE)
        whole = {file.name for file in store.files(FIRST)}
        left = iter(range(step))

        def die(call: str, _path: object, left: Any = left) -> None:
            if call in ("unlink", "rmdir", "rename") and next(left, None) is None:
                raise _Killed

        try:
            with gate.installed(die):
                store.remove_snapshot(FIRST)
        except _Killed:
            if store.exists(FIRST) and store.is_finished(FIRST):
                assert {file.name for file in store.files(FIRST)} == whole
            if store.exists(FIRST):
                store.remove_snapshot(FIRST)
            assert store.snapshots(VM) == [SECOND]
            continue
        assert step > 2
        return
    pytest.fail("never came to an end")


def test_group_goes_when_nothing_in_it_is_protected(store: Datastore) -> None:
    partly = store.remove_group(VM)
    assert (partly.snapshots, partly.protected, partly.is_complete) == ((FIRST,), (SECOND,), False)
    assert store.owner(VM) == "backup@pbs!tok"

    store.set_protected(SECOND, protected=False)
    rest = store.remove_group(VM)
    assert (rest.snapshots, rest.protected, rest.is_complete) == ((SECOND,), (), True)
    assert store.groups() == []


def test_group_with_foreign_files_loses_its_snapshots_only(store: Datastore) -> None:
    Path(store.path_of(HOST, "thesis.txt")).write_text("years of work")

    outcome = store.remove_group(HOST)

    assert outcome.snapshots == (UNFINISHED, ENCRYPTED)
    assert not outcome.is_complete
    assert Path(store.path_of(HOST, "thesis.txt")).read_text() == "years of work"
    assert store.owner(HOST) == "root@pam"


def test_group_in_which_a_backup_runs_is_busy(store: Datastore) -> None:
    with store.locks.group(HOST), pytest.raises(Busy):
        store.remove_group(HOST)
    assert store.snapshots(HOST) == [UNFINISHED, ENCRYPTED]


def test_namespace_with_contents_is_removed_only_when_told_so(store: Datastore) -> None:
    store.create_namespace(A.child("b"))
    with pytest.raises(Refused):
        store.remove_namespace(A)
    with pytest.raises(Refused):
        store.remove_namespace(Namespace())
    assert store.snapshots(HOST) == [UNFINISHED, ENCRYPTED]

    outcome = store.remove_namespace(A, Contents.DELETE)

    assert outcome.snapshots == (UNFINISHED, ENCRYPTED)
    assert outcome.is_complete
    assert store.namespaces() == [Namespace()]
    assert not Path(store.base, "ns").exists()


def test_namespace_keeps_its_protected_snapshots(store: Datastore) -> None:
    store.set_protected(ENCRYPTED, protected=True)

    outcome = store.remove_namespace(A, Contents.DELETE)

    assert (outcome.snapshots, outcome.protected) == ((UNFINISHED,), (ENCRYPTED,))
    assert not outcome.is_complete
    assert store.snapshots(HOST) == [ENCRYPTED]


def test_removal_does_not_leave_through_a_link(base: Path, store: Datastore) -> None:
    (base / "vm").rename(base / "elsewhere")
    (base / "vm").symlink_to("elsewhere")

    for remove in (lambda: store.remove_snapshot(FIRST), lambda: store.remove_group(VM)):
        with pytest.raises(NotFound):
            remove()
    assert (base / "elsewhere" / "100" / FIRST.time_name / "index.json.blob").exists()


def test_unprotected_written_by_others_is_kept_by_our_changes(store: Datastore) -> None:
    manifest = store.manifest(FIRST)
    text = json.loads(manifest.to_json())
    text["unprotected"]["verify_state"] = {"state": "unheard-of", "upid": 7}
    store.write_manifest(FIRST, Manifest.from_json(json.dumps(text).encode()))

    store.set_snapshot_notes(FIRST, "n")

    kept = store.manifest(FIRST).unprotected["verify_state"]
    assert kept == {"state": "unheard-of", "upid": 7}


# What the manifest vouches for --------------------------------------------------------------------


def test_index_that_differs_from_the_manifest_is_opened_only_as_a_file(
    base: Path, reader: Datastore
) -> None:
    name = "drive-scsi0.img.fidx"
    path = base / FIRST.path / name
    data = bytearray(path.read_bytes())
    data[4096:4128], data[4128:4160] = data[4128:4160], data[4096:4128]  # two chunks change places
    path.write_bytes(data)

    with pytest.raises(DamagedData, match="not the index the manifest lists"):
        reader.open_index(FIRST, name)
    assert reader.open_index_file(FIRST, name).chunk_count == 3


def test_blob_that_differs_from_the_manifest_is_damage(base: Path, reader: Datastore) -> None:
    path = base / FIRST.path / "qemu-server.conf.blob"
    path.write_bytes(b"".join(blob.encode(b"cores: 64\n", level=None)))

    with pytest.raises(DamagedData, match="not the file the manifest lists"):
        reader.read_blob(FIRST, path.name)


def test_files_the_manifest_does_not_list_are_not_found(base: Path, reader: Datastore) -> None:
    directory = base / FIRST.path
    (directory / "more.conf.blob").write_bytes(b"".join(blob.encode(b"x")))
    (directory / "more.img.fidx").write_bytes((directory / "drive-scsi0.img.fidx").read_bytes())

    with pytest.raises(NotFound):
        reader.read_blob(FIRST, "more.conf.blob")
    with pytest.raises(NotFound):
        reader.open_index(FIRST, "more.img.fidx")


def test_key_that_did_not_sign_the_manifest_opens_nothing(reader: Datastore) -> None:
    other = EncryptionKey(bytes(32))

    reader.manifest(ENCRYPTED, key=KEY)
    for ask in (
        lambda: reader.manifest(ENCRYPTED, key=other),
        lambda: reader.open_index(ENCRYPTED, "root.pxar.didx", key=other),
        lambda: reader.read_blob(ENCRYPTED, "note.conf.blob", other),
    ):
        with pytest.raises(KeyProblem):
            ask()


def test_manifest_changed_under_its_signature_is_damage_to_whoever_has_the_key(
    store: Datastore,
) -> None:
    manifest = store.manifest(ENCRYPTED)
    entries = tuple(replace(entry, crypt_mode=CryptMode.NONE) for entry in manifest.files)
    store.write_manifest(ENCRYPTED, replace(manifest, files=entries))

    store.manifest(ENCRYPTED)
    with pytest.raises(DamagedData, match=r"manifest of host/h1/.* signature is wrong"):
        store.manifest(ENCRYPTED, key=KEY)
