from tests.harness.archives import BytesReader, MemorySink

from holdfast.archive.compare import Change, Comparison, Contents
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.encoder import Encoder
from holdfast.archive.pxar.format import Metadata, Stat

DIRECTORY = Metadata(Stat(0o40755))


def file(content: bytes, *, mtime: int = 0, mode: int = 0o100644) -> tuple[Metadata, bytes]:
    return Metadata(Stat(mode, 0, 0, 0, mtime)), content


Tree = dict[str, "tuple[Metadata, bytes] | Tree | str"]


def archive(tree: Tree) -> tuple[Accessor, BytesReader]:
    """A dictionary is a directory, a text is a symbolic link."""
    meta, payload = MemorySink(), MemorySink()
    encoder = Encoder(meta, payload, root=DIRECTORY)
    _fill(encoder, payload, tree)
    encoder.finish()
    contents = BytesReader(bytes(payload.data))
    return Accessor(BytesReader(bytes(meta.data)), contents), contents


def _fill(encoder: Encoder, payload: MemorySink, tree: Tree) -> None:
    for name, node in sorted(tree.items()):
        if isinstance(node, dict):
            encoder.begin_directory(name.encode(), DIRECTORY)
            _fill(encoder, payload, node)
            encoder.end_directory()
        elif isinstance(node, str):
            encoder.symlink(name.encode(), Metadata(Stat(0o120777)), node.encode())
        else:
            encoder.file(name.encode(), node[0], len(node[1]))
            payload.write(node[1])


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
