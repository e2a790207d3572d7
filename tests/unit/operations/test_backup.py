import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.sessions import small_store
from tests.harness.tree_compare import snapshot_of

from holdfast.archive.change_detection import ChangeDetection
from holdfast.archive.restore_rules import Overwrite
from holdfast.archive.walk_rules import WalkRules
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.session import SessionSettings
from holdfast.datastore.store import Datastore
from holdfast.errors import KeyProblem, NotFound, NothingMatched, Refused
from holdfast.host import gate
from holdfast.ids import GroupId
from holdfast.operations.backup import BackupOutcome, BackupRequest, back_up, preview
from holdfast.operations.backup_spec import parse_specs
from holdfast.operations.progress import NullProgress
from holdfast.operations.restore import Restored, RestoreRequest, restore
from holdfast.operations.tree_walks import TreeWalks, Walker

GROUP = GroupId.parse("host/test")
SMALL = SessionSettings(chunk_mean=64 * 1024)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with quick_directory() as path:
        yield path


@pytest.fixture
def store(tmp_path: Path) -> Datastore:
    return small_store(tmp_path / "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    same_every_time = random.Random(59)  # where streams are cut decides what a test can expect
    (root / "sub" / "empty").mkdir(parents=True)
    for number in range(60):
        (root / "sub" / f"file-{number}").write_bytes(same_every_time.randbytes(number * 100))
    (root / "large").write_bytes(same_every_time.randbytes(700_000))
    (root / "link").symlink_to("large")
    os.link(root / "large", root / "sub" / "large too")
    os.setxattr(root / "large", "user.note", b"x")
    return root


def take(
    store: Datastore,
    *specs: str,
    time_s: int = 1000,
    detection: ChangeDetection = ChangeDetection.METADATA,
    settings: SessionSettings = SMALL,
    walker: Walker = Walker.HERE,
    rules: WalkRules | None = None,
) -> BackupOutcome:
    request = BackupRequest(
        specs=parse_specs(specs),
        group=GROUP,
        time_s=time_s,
        detection=detection,
        settings=settings,
        walker=walker,
        rules=rules or WalkRules(),
    )
    return back_up(store, request, NullProgress())


def bring_back(store: Datastore, taken: BackupOutcome, target: Path, **options: object) -> Restored:
    request = RestoreRequest(snapshot=taken.snapshot, target=str(target), **options)  # type: ignore[arg-type]
    return restore(store, request, NullProgress())


@pytest.mark.parametrize("detection", list(ChangeDetection))
@pytest.mark.parametrize("walker", list(Walker))
def test_a_tree_comes_back_as_it_was(
    store: Datastore, tree: Path, tmp_path: Path, detection: ChangeDetection, walker: Walker
) -> None:
    first = take(store, f"tree.pxar:{tree}", detection=detection, walker=walker)
    (tree / "sub" / "file-7").write_bytes(b"changed")
    second = take(store, f"tree.pxar:{tree}", time_s=2000, detection=detection, walker=walker)

    bring_back(store, second, tmp_path / "back")

    assert snapshot_of(tmp_path / "back") == snapshot_of(tree)
    assert first.warnings == second.warnings == ()
    names = {entry.filename for entry in store.manifest(second.snapshot).files}
    if detection is ChangeDetection.LEGACY:
        assert names == {"tree.pxar.didx", "catalog.pcat1.didx"}
    else:
        assert names == {"tree.mpxar.didx", "tree.ppxar.didx"}


def test_the_second_backup_reads_and_stores_nothing_that_did_not_change(
    store: Datastore, tree: Path
) -> None:
    first = take(store, f"tree.pxar:{tree}")

    def no_reading(call: str, path: object) -> None:
        assert call != "read" or not isinstance(path, bytes)

    with gate.installed(no_reading):
        second = take(store, f"tree.pxar:{tree}", time_s=2000)
        third = take(store, f"tree.pxar:{tree}", time_s=3000)

    (before,), (after,), (last,) = first.archives, second.archives, third.archives
    assert before.changed_files == 61
    assert (after.changed_files, after.files) == (0, 62)
    assert after.stored_bytes < before.stored_bytes / 20
    assert last.reused_bytes > 700_000
    assert last.new_chunks == 0


def test_contents_that_came_along_are_not_compared_with_a_snapshot_made_meanwhile(
    store: Datastore, tree: Path, tmp_path: Path
) -> None:
    specs = parse_specs((f"tree.pxar:{tree}",))
    with TreeWalks(specs, WalkRules(), Walker.PROCESS) as walks:
        walks.want_contents()
        before = take(store, f"tree.pxar:{tree}", time_s=1000)
        request = BackupRequest(specs=specs, group=GROUP, time_s=2000, settings=SMALL)
        outcome = back_up(store, request, NullProgress(), walks=walks)

    assert outcome.base == before.snapshot
    (archive,) = outcome.archives
    assert archive.changed_files == before.archives[0].changed_files  # all were read
    assert archive.new_chunks == 0  # and found to be what is stored
    bring_back(store, outcome, tmp_path / "back")
    assert snapshot_of(tmp_path / "back") == snapshot_of(tree)


def test_dry_run_stores_nothing_and_tells_what_changed(store: Datastore, tree: Path) -> None:
    take(store, f"tree.pxar:{tree}")
    (tree / "sub" / "file-3").write_bytes(b"new")

    def refuse(call: str, path: object) -> None:
        raise AssertionError((call, path))

    request = BackupRequest(
        specs=parse_specs((f"tree.pxar:{tree}",)), group=GROUP, walker=Walker.HERE
    )
    before = snapshot_of(store.base)
    told = preview(store, request, NullProgress())

    assert told.is_dry_run
    assert told.archives[0].changed_files == 1
    assert snapshot_of(store.base) == before


def test_several_archives_share_one_snapshot(store: Datastore, tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(random.Random(1).randbytes(5_000_000))
    config = tmp_path / "app.toml"
    config.write_text("[a]\n")

    taken = take(store, f"a.pxar:{tree}", f"b.pxar:{tree}/sub/empty", str(image), str(config))
    for name in ("a.pxar", "b.pxar", "app.conf"):
        bring_back(store, taken, tmp_path / name, archive=name)

    names = [archive.name for archive in taken.archives]
    assert names == ["a.pxar", "b.pxar", "disk.img", "app.conf"]
    assert snapshot_of(tmp_path / "a.pxar") == snapshot_of(tree)
    assert snapshot_of(tmp_path / "b.pxar") == snapshot_of(tree / "sub" / "empty")
    assert (tmp_path / "app.conf").read_text() == "[a]\n"
    index = store.open_index(taken.snapshot, "disk.img.fidx")
    with StreamReader(index, ChunkReader(ChunkStore.of(store))) as reader:
        assert reader.read_at(0, reader.size) == image.read_bytes()


def test_one_archive_goes_where_it_is_told(store: Datastore, tree: Path, tmp_path: Path) -> None:
    config = tmp_path / "app.toml"
    config.write_text("[a]\n")
    taken = take(store, f"a.pxar:{tree}", str(config))

    bring_back(store, taken, tmp_path / "only.toml", archive="app.conf")
    bring_back(store, taken, tmp_path / "tree-again", archive="a.pxar")

    assert (tmp_path / "only.toml").read_text() == "[a]\n"
    assert snapshot_of(tmp_path / "tree-again") == snapshot_of(tree)


def test_encrypted_trees_want_their_key(store: Datastore, tree: Path, tmp_path: Path) -> None:
    key = EncryptionKey(bytes(range(32)))
    secret = SessionSettings(key=key, crypt_mode=CryptMode.ENCRYPT, chunk_mean=64 * 1024)
    take(store, f"tree.pxar:{tree}", settings=secret)
    second = take(store, f"tree.pxar:{tree}", settings=secret, time_s=2000)

    assert second.archives[0].changed_files == 0
    with pytest.raises(KeyProblem):
        bring_back(store, second, tmp_path / "no")
    bring_back(store, second, tmp_path / "back", key=key)
    assert snapshot_of(tmp_path / "back") == snapshot_of(tree)


def test_a_target_that_holds_something_is_refused(store: Datastore, tree: Path) -> None:
    taken = take(store, f"tree.pxar:{tree}")

    with pytest.raises(Refused, match="not empty"):
        bring_back(store, taken, tree)
    again = bring_back(store, taken, tree, overwrite=Overwrite.NEVER)

    assert (again.tree.files, again.tree.conflicts) == (0, [])


def test_patterns_that_match_nothing_are_an_error(
    store: Datastore, tree: Path, tmp_path: Path
) -> None:
    taken = take(store, f"tree.pxar:{tree}")

    with pytest.raises(NothingMatched):
        bring_back(store, taken, tmp_path / "back", patterns=(b"no-such-*",))


def test_partial_restore_reads_only_the_chunks_it_needs(
    store: Datastore, tree: Path, tmp_path: Path
) -> None:
    taken = take(store, f"tree.pxar:{tree}")
    index = store.open_index(taken.snapshot, "tree.ppxar.didx")
    digest = index.digest_at(1)  # somewhere in the middle of the large file
    (Path(store.base) / ".chunks" / digest.hex()[:4] / digest.hex()).unlink()

    bring_back(store, taken, tmp_path / "back", patterns=(b"sub/file-59",))

    assert (tmp_path / "back/sub/file-59").read_bytes() == (tree / "sub/file-59").read_bytes()


def test_files_in_a_damaged_chunk_are_named_and_the_others_restored(
    store: Datastore, tree: Path, tmp_path: Path
) -> None:
    taken = take(store, f"tree.pxar:{tree}")
    index = store.open_index(taken.snapshot, "tree.ppxar.didx")
    digest = index.digest_at(1)
    (Path(store.base) / ".chunks" / digest.hex()[:4] / digest.hex()).unlink()

    outcome = bring_back(store, taken, tmp_path / "back")

    assert outcome.tree.damaged
    assert "large" in outcome.tree.damaged
    assert not (tmp_path / "back" / "large").exists()
    assert outcome.tree.files + len(outcome.tree.damaged) >= 62


def test_a_missing_root_leaves_no_snapshot(store: Datastore, tmp_path: Path) -> None:
    for walker in Walker:
        with pytest.raises(NotFound):
            take(store, f"tree.pxar:{tmp_path / 'nowhere'}", walker=walker)
    assert not store.exists(GROUP) or store.snapshots(GROUP) == []


def test_excluded_paths_are_in_the_prelude_but_not_in_the_archive(
    store: Datastore, tree: Path, tmp_path: Path
) -> None:
    taken = take(store, f"tree.pxar:{tree}", rules=WalkRules(patterns=(b"sub", b"*.tmp")))

    bring_back(store, taken, tmp_path / "back")

    assert sorted(os.listdir(tmp_path / "back")) == ["large", "link"]
