import os
from pathlib import Path

import pytest
from tests.harness.tree_streams import SplitArchive, write_split

from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder, References
from holdfast.archive.pxar.format import Kind
from holdfast.archive.walk_rules import WalkRules
from holdfast.host import gate


def contents_in_order(archive: SplitArchive) -> dict[bytes, bytes | None]:
    """Path to content (None for what has none)."""
    decoder = Decoder(archive.meta, archive.payload, references=References.ASCENDING)
    found: dict[bytes, bytes | None] = {}
    for step in decoder.steps():
        if not step.leaving:
            is_file = step.entry.kind is Kind.FILE
            found[step.path] = (
                bytes(decoder.content(step.entry).read_at(0, step.entry.size)) if is_file else None
            )
    return found


def contents(archive: SplitArchive) -> dict[bytes, bytes | None]:
    """Path to content (None for what has none), read in order and again at random."""
    found = contents_in_order(archive)
    accessor = Accessor(archive.meta, archive.payload)
    for path, content in found.items():
        entry = accessor.lookup(path)
        assert entry is not None
        if content is not None:
            assert bytes(accessor.content(entry).read_at(0, entry.size)) == content
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    for number in range(40):
        (root / f"file-{number:02}").write_bytes(bytes([number]) * (number * 17))
        (root / "sub" / f"f{number}").write_bytes(os.urandom(300))
    (root / "sub" / "deep" / "big").write_bytes(os.urandom(20_000))
    (root / "link").symlink_to("nowhere")
    os.link(root / "file-05", root / "sub" / "second-name")
    os.mkfifo(root / "pipe")
    return root


def test_every_file_comes_back_with_its_content(tree: Path) -> None:
    archive = write_split(str(tree))

    found = contents(archive)

    assert found[b"sub/deep/big"] == (tree / "sub/deep/big").read_bytes()
    assert found[b"file-07"] == bytes([7]) * 119
    assert {b"link", b"pipe", b"empty", b"sub/second-name"} <= set(found)
    assert archive.summary.changed_files == 81
    assert archive.warnings == []


def test_unchanged_tree_is_stored_again_without_reading_content(tree: Path) -> None:
    first = write_split(str(tree))

    def no_reading(call: str, _path: object) -> None:
        assert call != "read"

    with gate.installed(no_reading):
        second = write_split(str(tree), previous=first.as_previous())
        third = write_split(str(tree), previous=second.as_previous())

    assert contents(second) == contents(third) == contents(first)
    assert (second.summary.changed_files, second.summary.content_bytes) == (0, 0)
    assert (third.summary.changed_files, third.summary.content_bytes) == (0, 0)


def test_only_the_changed_file_counts_as_changed(tree: Path) -> None:
    first = write_split(str(tree))
    (tree / "sub" / "f20").write_bytes(b"other")

    second = write_split(str(tree), previous=first.as_previous(chunk_bytes=50))

    assert second.summary.changed_files == 1
    assert contents(second)[b"sub/f20"] == b"other"
    assert contents(second) == {**contents(first), b"sub/f20": b"other"}


@pytest.mark.parametrize("queue_max", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("chunk_bytes", [37, 512, 5000])
def test_any_queue_and_any_chunks_give_the_same_tree(
    tree: Path, queue_max: int, chunk_bytes: int
) -> None:
    first = write_split(str(tree))
    (tree / "file-11").unlink()
    (tree / "sub" / "f3").write_bytes(b"changed")
    (tree / "sub" / "new").write_bytes(b"new")
    (tree / "sub" / "deep").rename(tree / "sub" / "deeper")
    fresh = write_split(str(tree))

    second = write_split(
        str(tree), previous=first.as_previous(chunk_bytes=chunk_bytes), queue_max=queue_max
    )

    assert contents(second) == contents(fresh)


def test_a_run_with_too_much_waste_is_read_again(tree: Path) -> None:
    first = write_split(str(tree))
    for number in range(0, 40, 2):
        (tree / f"file-{number:02}").unlink()

    second = write_split(str(tree), previous=first.as_previous(chunk_bytes=4000))

    assert second.summary.content_bytes > 0
    assert contents(second) == contents(write_split(str(tree)))


def test_unreadable_file_is_left_out_with_a_warning(tree: Path) -> None:
    def broken(call: str, path: object) -> None:
        if call == "read" and path == b"sub/f7":
            raise OSError(5, "Input/output error")

    with gate.installed(broken):
        archive = write_split(str(tree))

    found = contents(archive)
    assert b"sub/f7" not in found
    assert b"sub/f8" in found
    assert archive.warnings == ["sub/f7: cannot be read: Input/output error; left out"]


def test_file_that_breaks_in_the_middle_is_left_out(tree: Path) -> None:
    reads = 0

    def broken(call: str, path: object) -> None:
        nonlocal reads
        if call == "read" and path == b"sub/deep/big":
            reads += 1
            if reads == 4:
                raise OSError(5, "Input/output error")

    with gate.installed(broken):
        archive = write_split(str(tree))

    assert b"sub/deep/big" not in contents(archive)
    assert len(archive.warnings) == 1


def test_vanished_file_is_left_out_with_a_warning(tree: Path) -> None:
    def vanish(call: str, path: object) -> None:
        if call == "read" and path == b"sub/f6":
            (tree / "sub" / "f7").unlink(missing_ok=True)

    with gate.installed(vanish):
        archive = write_split(str(tree))

    assert b"sub/f7" not in contents(archive)
    assert archive.warnings == ["sub/f7: vanished while the directory was read; left out"]


@pytest.mark.parametrize(("size", "name"), [(50, "small"), (50_000, "large")])
def test_growing_and_shrinking_files_keep_their_announced_length(
    tmp_path: Path, size: int, name: str
) -> None:
    for what in ("grows", "shrinks"):
        (tmp_path / f"{what}-{name}").write_bytes(b"x" * size)

    def change(call: str, path: object) -> None:
        if call == "read":
            assert isinstance(path, bytes)
            target = tmp_path / os.fsdecode(path)
            change_to = b"x" * (size * 2 if path.startswith(b"grows") else size // 2)
            target.write_bytes(change_to)

    with gate.installed(change):
        archive = write_split(str(tmp_path))

    found = contents(archive)
    assert found[f"grows-{name}".encode()] == b"x" * size
    assert found[f"shrinks-{name}".encode()] == b"x" * (size // 2) + b"\0" * (size // 2)
    assert len(archive.warnings) == 2


def test_file_changed_after_the_walk_saw_it_is_described_again(tree: Path) -> None:
    def grow_next(call: str, path: object) -> None:
        if call == "read" and path == b"sub/f6":
            (tree / "sub" / "f7").write_bytes(b"longer than it was" * 100)

    with gate.installed(grow_next):
        archive = write_split(str(tree))

    assert contents(archive)[b"sub/f7"] == b"longer than it was" * 100
    assert archive.warnings == []


def test_file_that_vanishes_before_it_is_read_again_keeps_its_old_content(tree: Path) -> None:
    first = write_split(str(tree))
    for number in range(0, 40, 2):
        (tree / f"file-{number:02}").unlink()
    seen: list[object] = []

    def vanish(call: str, path: object) -> None:
        if call == "read" and not seen:
            seen.append(path)
            for number in range(1, 40, 2):
                (tree / f"file-{number:02}").unlink()

    with gate.installed(vanish):
        second = write_split(str(tree), previous=first.as_previous(chunk_bytes=4000))

    assert seen
    found = contents(second)
    assert found[b"file-39"] == bytes([39]) * (39 * 17)


def test_holes_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(3_000_000)
        sparse.seek(1_000_000)
        sparse.write(b"data")
    reads = 0

    def count(call: str, _path: object) -> None:
        nonlocal reads
        reads += call == "read"

    with gate.installed(count):
        archive = write_split(str(tmp_path), room=4096)

    content = contents(archive)[b"sparse"]
    assert content == (tmp_path / "sparse").read_bytes()
    assert reads < 40  # the 4 KiB blocks around the data, not all 733


def test_deep_trees_need_no_recursion_and_few_descriptors(tmp_path: Path) -> None:
    depth = 200
    fd = os.open(tmp_path, os.O_RDONLY)
    for _level in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        with os.fdopen(os.open("z", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
            file.write(b"here")
    os.close(fd)

    first = write_split(str(tmp_path))
    second = write_split(str(tmp_path), previous=first.as_previous())

    found = contents(second)
    assert found[b"d/" * depth + b"z"] == b"here"
    assert second.summary.changed_files == 0


def test_excluded_paths_and_their_content_are_left_out(tree: Path) -> None:
    (tree / "sub" / ".pxarexclude").write_text("deep\n!f1\n/f2\n")

    archive = write_split(str(tree), rules=WalkRules(patterns=(b"f1*", b"/empty/")))

    found = contents(archive)
    assert b"empty" not in found
    assert b"sub/deep" not in found
    assert b"sub/f1" in found
    assert b"sub/f12" not in found
    assert b"sub/f2" not in found
    assert b"sub/f22" in found
    assert b"sub/.pxarexclude" in found


def test_damaged_previous_metadata_only_makes_files_count_as_changed(tree: Path) -> None:
    first = write_split(str(tree))
    fresh = contents(first)
    for at in range(0, len(first.meta.data), 499):
        damaged = first.as_previous()
        data = bytearray(damaged.data)
        data[at] ^= 0xFF
        damaged.data = bytes(data)

        second = write_split(str(tree), previous=damaged)

        assert set(contents_in_order(second)) == set(fresh)
