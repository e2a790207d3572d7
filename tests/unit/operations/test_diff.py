from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore
from tests.harness.trees import File, Tree, split_archive, unified_archive

from holdfast.archive.compare import Contents
from holdfast.archive.open import OpenSnapshot
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import NotFound
from holdfast.ids import SnapshotId
from holdfast.operations.diff import DiffRequest, diff

OLD: Tree = {"same": File(b"s" * 5000), "gone": File(b"g"), "etc": {"conf": File(b"1")}}
NEW: Tree = {"same": File(b"s" * 5000), "etc": {"conf": File(b"22")}, "new": File(b"n")}
A, B = "host/web1/2026-01-01T06:00:00Z", "host/web1/2026-01-02T06:00:00Z"
BLOCK = 65536


@pytest.fixture
def store(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def lines(
    store: SmallStore,
    a: SnapshotId,
    b: SnapshotId,
    request: DiffRequest | None = None,
    key: EncryptionKey | None = None,
) -> list[tuple[object, ...]]:
    with OpenSnapshot(store.store, a, key) as before, OpenSnapshot(store.store, b, key) as after:
        return [
            (line.archive, line.path.decode(), line.change.value, line.size_a, line.size_b)
            for line in diff(before, after, request or DiffRequest())
        ]


TREE_LINES = [
    ("root.pxar", "etc/conf", "modified", 1, 2),
    ("root.pxar", "gone", "removed", 1, None),
    ("root.pxar", "new", "added", None, 1),
]


def test_files_of_archives_are_compared(store: SmallStore) -> None:
    a = store.snapshot(A, split_archive("root", OLD))
    b = store.snapshot(B, split_archive("root", NEW))

    assert lines(store, a, b) == TREE_LINES
    assert lines(store, a, a) == []


def test_one_and_two_stream_archives_can_be_compared(store: SmallStore) -> None:
    a = store.snapshot(A, unified_archive("root", OLD))
    b = store.snapshot(B, split_archive("root", NEW))

    assert lines(store, a, b) == TREE_LINES
    assert lines(store, a, b, DiffRequest(contents=Contents.READ)) == TREE_LINES


def test_images_tell_how_much_lies_in_other_chunks(store: SmallStore) -> None:
    a = store.snapshot(A, {"d.img.fidx": [b"1" * BLOCK, b"2" * BLOCK, b"3" * 10]})
    b = store.snapshot(B, {"d.img.fidx": [b"1" * BLOCK, b"x" * BLOCK, b"3" * 10]})

    with OpenSnapshot(store.store, a) as before, OpenSnapshot(store.store, b) as after:
        (line,) = diff(before, after, DiffRequest())

    assert (line.archive, line.change.value, line.changed_bytes) == ("d.img", "modified", BLOCK)


def test_archives_that_came_or_went_are_one_line(store: SmallStore) -> None:
    a = store.snapshot(A, {"a.blob": b"1", "c.blob": b"same", "b.img.fidx": [b"abc"]})
    b = store.snapshot(B, {"d.img.fidx": [b"abcd"], "c.blob": b"same"})

    found = [line[:3] for line in lines(store, a, b)]

    assert found == [("a", "", "removed"), ("b.img", "", "removed"), ("d.img", "", "added")]


def test_encrypted_blobs_are_compared_by_content(store: SmallStore) -> None:
    key = EncryptionKey.generate()
    a = store.snapshot(A, {"a.blob": b"one", "b.blob": b"same"}, key=key)
    b = store.snapshot(B, {"a.blob": b"two", "b.blob": b"same"}, key=key)

    assert [line[0] for line in lines(store, a, b, key=key)] == ["a"]


def test_one_archive_can_be_chosen(store: SmallStore) -> None:
    a = store.snapshot(A, {**split_archive("root", OLD), "a.blob": b"1"})
    b = store.snapshot(B, {**split_archive("root", NEW), "a.blob": b"2"})

    assert [line[0] for line in lines(store, a, b, DiffRequest(archive="a"))] == ["a"]
    assert lines(store, a, b, DiffRequest(archive="root.mpxar")) == TREE_LINES
    with pytest.raises(NotFound, match="neither"):
        lines(store, a, b, DiffRequest(archive="none.pxar"))
