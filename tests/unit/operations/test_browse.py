from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore
from tests.harness.trees import File, Link, Tree, split_archive

from holdfast.archive.open import OpenSnapshot
from holdfast.errors import BadRequest, NotFound
from holdfast.operations.browse import file_pieces, list_tree

TREE: Tree = {
    "bin": {"tool": File(b"#!tool\n", mode=0o100755), "zz-same": Link("bin/tool")},
    "etc": {"passwd": File(b"root\n")},
    "link": "etc/passwd",
}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[OpenSnapshot]:
    store = SmallStore(tmp_path / "store")
    contents: dict[str, Sequence[bytes] | bytes] = {
        **split_archive("root", TREE),
        "d.img.fidx": [b"disk"],
        "a.conf.blob": b"blob",
    }
    with OpenSnapshot(
        store.store, store.snapshot("host/web1/2026-01-01T06:00:00Z", contents)
    ) as opened:
        yield opened


def paths(opened: OpenSnapshot, path: bytes = b"", *, recursive: bool = False) -> list[str]:
    listing = list_tree(opened.tree("root.pxar"), path, recursive=recursive)
    return [listed.path.decode() for listed in listing]


def test_a_directory_is_listed_by_name(opened: OpenSnapshot) -> None:
    assert paths(opened) == ["bin", "etc", "link"]
    assert paths(opened, b"/bin/") == ["bin/tool", "bin/zz-same"]


def test_everything_below_comes_with_full_paths(opened: OpenSnapshot) -> None:
    everything = ["bin", "bin/tool", "bin/zz-same", "etc", "etc/passwd", "link"]

    assert paths(opened, recursive=True) == everything
    assert paths(opened, b"etc", recursive=True) == ["etc/passwd"]


def test_a_file_lists_itself_and_nothing_else_is_found(opened: OpenSnapshot) -> None:
    assert paths(opened, b"etc/passwd") == ["etc/passwd"]
    with pytest.raises(NotFound, match="etc/shadow"):
        paths(opened, b"etc/shadow")


def test_a_hard_link_shows_size_and_time_of_its_file(opened: OpenSnapshot) -> None:
    tool, same = list_tree(opened.tree("root.pxar"), b"bin")

    assert (same.size, same.stat) == (7, tool.stat)
    assert same.entry.target == b"bin/tool"


def read(opened: OpenSnapshot, name: str, path: bytes | None) -> bytes:
    return b"".join(file_pieces(opened, name, path))


def test_files_links_images_and_blobs_are_read(opened: OpenSnapshot) -> None:
    assert read(opened, "root.pxar", b"etc/passwd") == b"root\n"
    assert read(opened, "root.pxar", b"bin/zz-same") == b"#!tool\n"
    assert read(opened, "d.img", None) == b"disk"
    assert read(opened, "a.conf", None) == b"blob"


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("root.pxar", b"link", "symbolic link to etc/passwd"),
        ("root.pxar", b"etc", "only regular files"),
        ("root.pxar", None, "which file"),
        ("d.img", b"x", "no files in it"),
    ],
)
def test_what_cannot_be_printed_is_explained(
    opened: OpenSnapshot, name: str, path: bytes | None, said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        read(opened, name, path)
