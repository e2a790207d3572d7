import hashlib
from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore
from tests.harness.trees import File, Link, Tree, split_archive, unified_archive

from holdfast.errors import BadRequest, NotFound
from holdfast.ids import GroupId, Namespace
from holdfast.operations.find import FindRequest, FoundPath, find
from holdfast.operations.progress import NullProgress


class Warnings(NullProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


def day(number: int, group: str = "host/web1") -> str:
    return f"{group}/2026-01-{number:02d}T06:00:00Z"


FIRST: Tree = {"etc": {"app.conf": File(b"one", 100), "keep": File(b"k")}, "app.conf": "etc/x"}
SECOND: Tree = {"etc": {"app.conf": File(b"two", 200), "keep": File(b"k"), "z": File(b"z")}}


@pytest.fixture
def store(tmp_path: Path) -> SmallStore:
    store = SmallStore(tmp_path / "store")
    store.snapshot(day(1), split_archive("root", FIRST))
    store.snapshot(day(2), split_archive("root", FIRST))
    store.snapshot(day(3), split_archive("root", SECOND))
    store.snapshot(day(4, "host/db"), unified_archive("root", SECOND))
    return store


def search(store: SmallStore, pattern: bytes, group: str | None = None) -> list[FoundPath]:
    request = FindRequest(
        pattern=pattern, ns=Namespace(), group=None if group is None else GroupId.parse(group)
    )
    return find(store.read_only(), request, None, NullProgress())


def summary(found: list[FoundPath]) -> list[tuple[str, str, list[int]]]:
    return [
        (str(one.group), one.path.decode(), [len(version.snapshots) for version in one.versions])
        for one in found
    ]


def test_versions_of_a_path_are_told_apart(store: SmallStore) -> None:
    (found,) = search(store, b"/etc/app.conf", "host/web1")

    assert [version.size for version in found.versions] == [3, 3]
    assert [len(version.snapshots) for version in found.versions] == [2, 1]
    assert found.versions[0].snapshots[0].time_name == "2026-01-01T06:00:00Z"
    assert found.versions[0].digest == hashlib.sha256(b"one").digest()
    assert found.versions[1].digest == hashlib.sha256(b"two").digest()


def test_a_file_that_stayed_the_same_is_one_version(store: SmallStore) -> None:
    assert summary(search(store, b"etc/keep")) == [
        ("host/db", "etc/keep", [1]),
        ("host/web1", "etc/keep", [3]),
    ]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        (b"app.conf", ["app.conf", "etc/app.conf"]),
        (b"/app.conf", ["app.conf"]),
        (b"/etc/*", ["etc/app.conf", "etc/keep", "etc/z"]),
        (b"*.conf", ["app.conf", "etc/app.conf"]),
        (b"/**/z", ["etc/z"]),
        (b"etc/", ["etc"]),
        (b"/etc", ["etc"]),
        (b"/nothing/here", []),
        (b"/etc/keep/x", []),
        (b"/e[t]c/z", ["etc/z"]),
    ],
)
def test_patterns_match_whole_paths_or_at_any_depth(
    store: SmallStore, pattern: bytes, paths: list[str]
) -> None:
    assert [one.path.decode() for one in search(store, pattern, "host/web1")] == paths


def test_links_count_as_the_file_they_name(tmp_path: Path) -> None:
    store = SmallStore(tmp_path / "store")
    store.snapshot(day(1), split_archive("x", {"a": File(b"same"), "b": Link("a")}))

    (found,) = search(store, b"/b")

    assert found.versions[0].digest == hashlib.sha256(b"same").digest()


def test_large_files_get_no_digest(store: SmallStore) -> None:
    request = FindRequest(pattern=b"keep", ns=Namespace(), read_bytes_max=0)

    found = find(store.read_only(), request, None, NullProgress())

    assert all(version.digest is None for one in found for version in one.versions)


def test_a_damaged_snapshot_does_not_hide_the_others(store: SmallStore) -> None:
    victim = store.snapshot(day(9, "host/sick"), split_archive("root", {"keep": File(b"?" * 99)}))
    index = store.store.open_index(victim, "root.mpxar.didx")
    store.path(index.digest_at(0)).unlink()
    warnings = Warnings()

    found = find(store.read_only(), FindRequest(pattern=b"keep", ns=Namespace()), None, warnings)

    assert len(found) == 2
    assert len(warnings.said) == 1
    assert "host/sick" in warnings.said[0]


def test_a_malformed_pattern_or_unknown_group_is_refused(store: SmallStore) -> None:
    with pytest.raises(BadRequest):
        search(store, b"[")
    with pytest.raises(NotFound):
        search(store, b"x", "host/nobody")
