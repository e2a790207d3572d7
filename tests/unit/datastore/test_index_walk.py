from pathlib import Path

import pytest

from holdfast.datastore.index_walk import index_files, snapshot_of
from holdfast.ids import SnapshotId

FOUND = [
    "host/a/2026-01-01T00:00:00Z/x.didx",
    "host/a/2026-01-02T00:00:00Z/x.didx",
    "ns/n/vm/1/2026-01-01T00:00:00Z/d.fidx",
    "stray.fidx",
]


def lay_out(base: Path, *paths: str) -> None:
    for path in paths:
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).touch()


def test_finds_indexes_everywhere_in_the_order_of_names(tmp_path: Path) -> None:
    lay_out(tmp_path, *reversed(FOUND), "host/a/2026-01-01T00:00:00Z/index.json.blob")

    assert list(index_files(str(tmp_path), set())) == FOUND


def test_hidden_names_temporary_files_and_links_are_left_out(tmp_path: Path) -> None:
    lay_out(tmp_path, ".chunks/x.didx", "host/a/.hidden.didx", "host/a/x.tmp_didx")
    lay_out(tmp_path / "elsewhere", "x.didx")
    base = tmp_path / "base"
    base.mkdir()
    (base / "linked").symlink_to(tmp_path / "elsewhere")
    (base / "linked.didx").symlink_to(tmp_path / "elsewhere" / "x.didx")

    assert list(index_files(str(base), set())) == []
    assert list(index_files(str(tmp_path), set())) == ["elsewhere/x.didx"]


def test_a_second_walk_tells_only_what_is_new(tmp_path: Path) -> None:
    lay_out(tmp_path, *FOUND[:2])
    seen: set[str] = set()
    assert list(index_files(str(tmp_path), seen)) == FOUND[:2]
    lay_out(tmp_path, *FOUND[2:])

    assert list(index_files(str(tmp_path), seen)) == FOUND[2:]
    assert seen == set(FOUND)


def test_a_snapshot_that_appears_behind_the_walk_is_still_found(tmp_path: Path) -> None:
    lay_out(tmp_path, *FOUND[:2])
    walk = index_files(str(tmp_path), set())
    assert [next(walk), next(walk)] == FOUND[:2]
    lay_out(tmp_path, "host/a/2025-01-01T00:00:00Z/late.didx")

    assert list(walk) == ["host/a/2025-01-01T00:00:00Z/late.didx"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (FOUND[0], "host/a/2026-01-01T00:00:00Z"),
        (FOUND[2], "vm/1/2026-01-01T00:00:00Z"),
        ("stray.fidx", None),
        ("host/a/2026-13-01T00:00:00Z/x.didx", None),
        ("host/a/2026-01-01T00:00:00Z/deeper/x.didx", None),
        ("host/a b/2026-01-01T00:00:00Z/x.didx", None),
        ("ns/host/a/2026-01-01T00:00:00Z/x.didx", None),
    ],
)
def test_only_paths_inside_a_snapshot_belong_to_one(path: str, expected: str | None) -> None:
    found = snapshot_of(path)

    assert (None if found is None else str(found)) == expected
    if found is not None:
        assert isinstance(found, SnapshotId)
        assert path.startswith(found.path)
