"""Contents that come with a walk make the same archive as contents that are read afterwards."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.tree_streams import MemoryStream, walking, write_split

from holdfast.archive.file_content import TICK_NS
from holdfast.archive.pxar import format as pxar
from holdfast.archive.walk import FILE, READ, RUN, Event
from holdfast.archive.walk_contents import CONTENT_BYTES_MAX, ContentReader
from holdfast.archive.walk_ring import RING_BYTES, SLOT_COUNT, Contents
from holdfast.archive.walk_rules import WalkRules


@pytest.fixture
def tree() -> Iterator[Path]:
    """Small, empty and large files, links, and more content than the ring and all slots hold."""
    source = random.Random(4)
    with quick_directory() as place:
        root = place / "tree"
        for directory in range(30):
            below = root / f"d{directory:02}" / "e"
            below.mkdir(parents=True)
            for number in range(40):
                below.joinpath(f"f{number}").write_bytes(source.randbytes(number * 2000))
        (root / "d03/large").write_bytes(source.randbytes(CONTENT_BYTES_MAX + 1))
        (root / "d04/just-small-enough").write_bytes(source.randbytes(CONTENT_BYTES_MAX))
        os.link(root / "d05/e/f7", root / "d05/e/f7-again")
        os.link(root / "d05/e/f7", root / "d29/e/f7-much-later")
        (root / "d06/pointer").symlink_to("e")
        settle(root)
        yield root


def settle(root: Path) -> None:
    """Until no file was changed so recently that a further change might not show."""
    newest_ns = max(path.lstat().st_ctime_ns for path in root.rglob("*"))
    while time.time_ns() - newest_ns < TICK_NS:
        os.sched_yield()


@pytest.fixture
def ring() -> Iterator[int]:
    fd = os.memfd_create("ring")
    os.truncate(fd, RING_BYTES)
    yield fd
    os.close(fd)


@pytest.fixture
def told() -> Iterator[tuple[int, int]]:
    """Both ends of the pipe on which free slots are told."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def contents_over(ring: int, told: int) -> Contents:
    """Contents are wanted from here on."""
    contents = Contents(os.dup(ring), lambda slots: _tell(told, slots))
    contents.want()
    return contents


def _tell(told: int, slots: bytes) -> None:
    assert os.write(told, slots) == len(slots)


def event_of(path: Path) -> Event:
    """What a walk says of a file, with a head that is not looked at."""
    info = path.stat()
    link = (info.st_dev, info.st_ino) if info.st_nlink > 1 else None
    return (FILE, path.name.encode(), b"head", info.st_size, link, info.st_ino, info.st_ctime_ns)


def test_the_archive_is_the_same_to_the_byte(tree: Path) -> None:
    afterwards = write_split(str(tree))
    on_the_way = write_split(str(tree), with_contents=True)

    assert on_the_way.meta.data == afterwards.meta.data
    assert on_the_way.payload.data == afterwards.payload.data
    assert on_the_way.payload.suggestions == afterwards.payload.suggestions
    assert on_the_way.summary == afterwards.summary
    assert on_the_way.warnings == []


def test_most_files_are_read_by_the_walk(tree: Path) -> None:
    with walking(os.fsencode(tree), WalkRules()) as walk:
        walk.contents.want()
        stream = MemoryStream()
        read = runs = 0
        for batch in walk.batches():
            for event in batch:
                if event[0] == RUN:
                    walk.contents.take(event[1], event[2], stream)
                    runs += 1
                elif event[0] == READ:
                    read += len(event[1])

    assert read > 1000
    assert runs > SLOT_COUNT  # slots were used again


def test_a_walk_that_nobody_asked_reads_nothing(tree: Path) -> None:
    with walking(os.fsencode(tree), WalkRules()) as walk:
        kinds = {event[0] for batch in walk.batches() for event in batch}

    assert not kinds & {RUN, READ}


def test_a_run_arrives_as_records_with_their_positions(
    ring: int, told: tuple[int, int], tmp_path: Path
) -> None:
    contents = contents_over(ring, told[1])
    reader = ContentReader(ring, told[0])
    batch: list[Event] = []
    for name, data in (("a", b"one"), ("b", b""), ("c", b"three")):
        path = tmp_path / name
        path.write_bytes(data)
        settle(tmp_path)
        with path.open("rb") as file:
            assert not reader.add(file.fileno(), event_of(path), batch)
    stream = MemoryStream(b"before")

    (_run, slot, sizes), (_read, names, heads, link) = batch
    positions = contents.take(slot, sizes, stream)

    assert (names, heads, link) == ([b"a", b"b", b"c"], [b"head"] * 3, None)
    assert positions == stream.suggestions == [6, 25, 41]
    assert bytes(stream.data[6:]) == b"".join(
        pxar.payload_header(len(data)) + data for data in (b"one", b"", b"three")
    )


def test_a_file_that_grew_since_it_was_described_is_left_to_the_reader(
    ring: int, told: tuple[int, int], tmp_path: Path
) -> None:
    contents_over(ring, told[1])
    reader = ContentReader(ring, told[0])
    path = tmp_path / "log"
    path.write_bytes(b"short")
    settle(tmp_path)
    event = event_of(path)
    with path.open("ab") as file:
        file.write(b"er no more")
    batch: list[Event] = []

    with path.open("rb") as file:
        ends_batch = reader.add(file.fileno(), event, batch)

    assert ends_batch
    assert batch == [event]


def test_a_file_changed_just_now_is_left_to_the_reader(
    ring: int, told: tuple[int, int], tmp_path: Path
) -> None:
    contents_over(ring, told[1])
    reader = ContentReader(ring, told[0])
    path = tmp_path / "new"
    path.write_bytes(b"new")
    event = (*event_of(path)[:6], time.time_ns() + TICK_NS // 2)
    batch: list[Event] = []
    while time.time_ns() <= event[6]:  # its change is in the past, but not long ago
        os.sched_yield()

    with path.open("rb") as file:
        assert reader.add(file.fileno(), event, batch)

    assert batch == [event]


def test_content_that_cannot_be_read_adds_nothing(
    ring: int, told: tuple[int, int], tmp_path: Path
) -> None:
    contents_over(ring, told[1])
    reader = ContentReader(ring, told[0])
    path = tmp_path / "file"
    path.write_bytes(b"content")
    settle(tmp_path)
    batch: list[Event] = []

    with path.open("ab") as file, pytest.raises(OSError, match="Bad file descriptor"):
        reader.add(file.fileno(), event_of(path), batch)

    assert batch == []


def test_a_reader_that_is_gone_ends_the_walk(ring: int, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    contents_over(ring, writing)
    reader = ContentReader(ring, reading)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    settle(tmp_path)
    batch: list[Event] = []
    with path.open("rb") as file:
        for _slot in range(SLOT_COUNT):
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            reader.add(file.fileno(), event_of(path), batch)
            reader.end_batch()
        os.close(writing)

        with pytest.raises(BrokenPipeError):
            reader.add(file.fileno(), event_of(path), batch)

    os.close(reading)
