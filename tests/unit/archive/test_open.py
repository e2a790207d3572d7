from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore
from tests.harness.trees import File, Tree, split_archive, unified_archive

from holdfast.archive.open import ArchiveKind, OpenSnapshot
from holdfast.archive.pxar.format import Kind
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import BadRequest, DamagedData, KeyProblem, MissingChunk, NotFound

NAME = "host/web1/2026-01-01T06:00:00Z"
TREE: Tree = {
    "a": File(b"a" * 3000),
    "dir": {"b": File(bytes(range(256)) * 20), "link": "../a"},
    "z": File(b"z" * 3000),
}
IMAGE = [b"\1" * 65536, b"\2" * 1000]


@pytest.fixture
def store(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def test_archives_go_by_the_names_people_use(store: SmallStore) -> None:
    contents: dict[str, Sequence[bytes] | bytes] = {
        **split_archive("root", TREE),
        **unified_archive("old", TREE),
        "drive.img.fidx": IMAGE,
        "app.conf.blob": b"x = 1\n",
    }
    with OpenSnapshot(store.store, store.snapshot(NAME, contents)) as opened:
        found = {archive.name: archive.kind for archive in opened.archives()}

        assert found == {
            "root.pxar": ArchiveKind.TREE,
            "old.pxar": ArchiveKind.TREE,
            "drive.img": ArchiveKind.IMAGE,
            "app.conf": ArchiveKind.BLOB,
        }
        for name in ("root.pxar", "root.mpxar", "root.ppxar", "root.mpxar.didx", "root.pxar.didx"):
            assert opened.find(name).name == "root.pxar"
        for name in ("root.pxar", "old.pxar"):
            tree = opened.tree(name)
            entry = tree.accessor.lookup(b"dir/b")
            assert entry is not None
            assert bytes(tree.accessor.content(entry).read_at(0, 9999)) == bytes(range(256)) * 20
        assert b"".join(opened.stream("drive.img").pieces()) == b"".join(IMAGE)
        assert opened.blob("app.conf.blob") == b"x = 1\n"


def test_what_does_not_fit_is_refused_with_advice(store: SmallStore) -> None:
    contents: dict[str, Sequence[bytes] | bytes] = {
        **split_archive("root", TREE),
        "drive.img.fidx": IMAGE,
        "app.conf.blob": b"x",
    }
    with OpenSnapshot(store.store, store.snapshot(NAME, contents)) as opened:
        with pytest.raises(NotFound) as missing:
            opened.find("etc.pxar")
        assert missing.value.hint == "it has root.pxar, drive.img, app.conf"
        with pytest.raises(BadRequest, match="no archive of files but a image"):
            opened.tree("drive.img")
        with pytest.raises(BadRequest, match="two streams"):
            opened.stream("root.pxar")
        with pytest.raises(BadRequest, match="no blob"):
            opened.blob("drive.img")
        with pytest.raises(BadRequest, match="blob"):
            opened.stream("app.conf")
        assert opened.stream("root.ppxar").size > opened.stream("root.mpxar").size


def test_half_a_pair_is_damage(store: SmallStore) -> None:
    streams = split_archive("root", TREE)
    for number, name in enumerate(streams):
        snapshot = store.snapshot(f"host/web{number}/2026-01-01T06:00:00Z", {name: streams[name]})
        with OpenSnapshot(store.store, snapshot) as opened, pytest.raises(DamagedData):
            opened.archives()


def test_only_the_chunks_of_what_is_read_are_touched(store: SmallStore) -> None:
    snapshot = store.snapshot(NAME, split_archive("root", TREE))
    with OpenSnapshot(store.store, snapshot) as opened:
        tree = opened.tree("root.pxar")
        entry = tree.accessor.lookup(b"dir/b")
        assert entry is not None
        needed = {digest for digest, _offset, _length in tree.extents(entry)}
        needed |= set(tree.streams[0].index.digests())
        header = tree.content_index.find(entry.payload)
        needed.add(tree.content_index.digest_at(header))
    assert len(needed) < len(store.digests())
    for digest in store.digests() - needed:
        store.path(digest).unlink()

    with OpenSnapshot(store.store, snapshot) as opened:
        accessor = opened.tree("root.pxar").accessor
        again = accessor.lookup(b"dir/b")
        other = accessor.lookup(b"z")
        assert again is not None
        assert other is not None

        assert b"".join(accessor.content(again).pieces()) == bytes(range(256)) * 20
        with pytest.raises(MissingChunk):
            b"".join(accessor.content(other).pieces())
        assert len([s for s in accessor.walk() if s.entry.kind is Kind.FILE]) == 3


def test_encrypted_archives_need_their_key(store: SmallStore) -> None:
    key = EncryptionKey.generate()
    snapshot = store.snapshot(NAME, {**split_archive("root", TREE), "a.blob": b"secret"}, key=key)

    with OpenSnapshot(store.store, snapshot) as opened:
        for work in (lambda: opened.tree("root.pxar"), lambda: opened.blob("a")):
            with pytest.raises(KeyProblem, match="encrypted"):
                work()
    with OpenSnapshot(store.store, snapshot, key) as opened:
        assert opened.tree("root.pxar").accessor.lookup(b"dir/b") is not None
        assert opened.blob("a") == b"secret"
