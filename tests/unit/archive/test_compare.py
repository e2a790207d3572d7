from tests.harness.archives import BytesReader
from tests.harness.trees import File, Tree, encoded

from holdfast.archive.compare import Change, Comparison, Contents
from holdfast.archive.pxar.accessor import Accessor


def file(content: bytes, *, mtime: int = 0, mode: int = 0o100644) -> File:
    return File(content, mtime, mode)


def archive(tree: Tree) -> tuple[Accessor, BytesReader]:
    meta, payload = encoded(tree)
    contents = BytesReader(payload)
    return Accessor(BytesReader(meta), contents), contents


def changes(before: Tree, after: Tree, contents: Contents = Contents.TRUST_TIMES) -> list[str]:
    comparison = Comparison(archive(before)[0], archive(after)[0], contents=contents)
    return [f"{d.change} {d.path.decode()}" for d in comparison.differences()]


def test_the_same_trees_have_no_differences() -> None:
    tree: Tree = {"a": file(b"x"), "d": {"e": "link"}}

    assert changes(tree, tree) == []


def test_added_and_removed_directories_come_with_all_they_hold() -> None:
    with_d: Tree = {"a": file(b"x"), "d": {"e": file(b"1"), "f": {"g": file(b"2")}}, "z": "y"}
    without: Tree = {"a": file(b"x"), "z": "y"}

    assert changes(without, with_d) == ["added d", "added d/e", "added d/f", "added d/f/g"]
    assert changes(with_d, without) == ["removed d", "removed d/e", "removed d/f", "removed d/f/g"]


def test_contents_and_metadata_are_told_apart() -> None:
    before: Tree = {
        "grown": file(b"a"),
        "touched": file(b"same", mtime=1),
        "edited": file(b"old!", mtime=1),
        "mode": file(b"m", mode=0o100600),
        "link": "here",
        "kind": file(b"x"),
    }
    after: Tree = {
        "grown": file(b"ab"),
        "touched": file(b"same", mtime=2),
        "edited": file(b"new!", mtime=2),
        "mode": file(b"m", mode=0o100644),
        "link": "there",
        "kind": {"x": file(b"x")},
    }

    assert changes(before, after) == [
        "modified edited",
        "modified grown",
        "modified kind",
        "added kind/x",
        "modified link",
        "metadata mode",
        "metadata touched",
    ]


def test_a_content_changed_behind_its_time_is_found_only_by_reading() -> None:
    before: Tree = {"sly": file(b"good", mtime=5)}
    after: Tree = {"sly": file(b"evil", mtime=5)}

    assert changes(before, after) == []
    assert changes(before, after, Contents.READ) == ["modified sly"]


def test_contents_in_the_same_chunks_are_not_read() -> None:
    before, old_contents = archive({"a": file(b"x" * 100, mtime=1)})
    after, new_contents = archive({"a": file(b"x" * 100, mtime=2)})

    comparison = Comparison(before, after, same_chunks=lambda _old, _new: True)

    assert [d.change for d in comparison.differences()] == [Change.METADATA]
    assert old_contents.reads == new_contents.reads == []
