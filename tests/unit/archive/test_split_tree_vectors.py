"""The recorded decisions of metadata mode, made by the real writer from a real previous archive."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.harness.tree_streams import Listener, MemoryStream
from tests.harness.vectors import load

from holdfast.archive.file_content import ByteSink
from holdfast.archive.previous_tree import PreviousTree
from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.decoder import Decoder
from holdfast.archive.pxar.format import Kind
from holdfast.archive.split_tree import SplitTree
from holdfast.archive.tree_frames import Frame
from holdfast.archive.tree_reading import TreeReading
from holdfast.archive.walk import BEGIN, END, FILE, LEAF, Event
from holdfast.datastore.segments import Segment

SCENARIOS = {case["name"]: case for case in load("pxar", "metadata_mode")["scenarios"]}


class CountedStream:
    """A payload stream of any length that keeps only its position."""

    def __init__(self) -> None:
        self.position = 0
        self._room = memoryview(bytearray(16))

    def room(self) -> memoryview:
        return self._room

    def commit(self, count: int) -> None:
        self.position += count

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.position += len(data)

    def suggest(self) -> None:
        pass

    def suggest_all(self, positions: Sequence[int]) -> None:
        raise AssertionError(f"a walk read nothing at {positions}")

    def adopt(self, _segment: Segment, start: int, count: int) -> None:
        raise AssertionError(f"no walk gave {count} bytes from {start} on")


class NothingToRead(TreeReading):
    """Files that exist only as numbers."""

    def open_described(self, _frame: Frame, event: Event) -> tuple[int, Event]:
        return -1, event

    def open_unchanged(self, _frame: Frame, _event: Event) -> int:
        return -1

    def copy(
        self, _fd: int, event: Event, _frame: Frame, sink: ByteSink, prefix: bytes = b""
    ) -> bool:
        sink.commit(len(prefix) + 16 + event[3])
        return True

    def copy_exactly(self, fd: int, event: Event, frame: Frame, sink: ByteSink) -> bool:
        return self.copy(fd, event, frame, sink)


class Index:
    """The recorded chunks of the previous payload stream."""

    def __init__(self, chunks: list[dict[str, Any]]) -> None:
        self.chunks = chunks

    @property
    def size_bytes(self) -> int:
        return int(self.chunks[-1]["end"])

    @property
    def chunk_count(self) -> int:
        return len(self.chunks)

    def range_at(self, number: int) -> tuple[int, int]:
        return (self.chunks[number - 1]["end"] if number else 0), self.chunks[number]["end"]

    def find(self, offset: int) -> int:
        return next(at for at, chunk in enumerate(self.chunks) if chunk["end"] > offset)

    def digest_at(self, number: int) -> bytes:
        return str(self.chunks[number]["digest"]).encode()


def head(name: bytes, mode: int, size: int = 0) -> bytes:
    return pxar.filename_item(name) + pxar.entry_item(pxar.Stat(mode, mtime_s=size))


def events_of(walk: list[dict[str, Any]]) -> list[Event]:
    root = pxar.entry_item(pxar.Stat(0o40755))
    events: list[Event] = [(BEGIN, b"", root, 1, 1)]
    inodes: dict[str, int] = {}
    for step in walk:
        name = step.get("name", "").encode()
        kind = step["kind"]
        if kind == "file":
            inode = inodes.setdefault(step.get("inode", f"only {len(events)}"), 100 + len(events))
            link = (1, inode) if "inode" in step else None
            size = step["size"]
            events.append((FILE, name, head(name, 0o100644, size), size, link, inode, 0))
        elif kind == "dir":
            events.append((BEGIN, name, head(name, 0o40755), 1, len(events)))
        elif kind == "dir-end":
            events.append((END,))
        else:
            item = head(name, 0o120777) + pxar.symlink_item(b"target")
            events.append((LEAF, name, item))
    return [*events, (END,)]


def previous_metadata(walk: list[dict[str, Any]]) -> bytes:
    """The archive before: the same names, files at their recorded offsets, others changed."""
    out = bytearray(pxar.header(pxar.FORMAT_VERSION, 8) + (2).to_bytes(8, "little"))
    frames = [Frame.of_root(-1, device=1, inode=1)]
    out += pxar.entry_item(pxar.Stat(0o40755))
    for step in [*walk, {"kind": "dir-end"}]:
        name = step.get("name", "").encode()
        here = frames[-1]
        if step["kind"] == "dir-end":
            frames.pop()
            out += here.table(len(out))
            continue
        here.names.append(name)
        here.starts.append(len(out))
        if step["kind"] == "dir":
            frames.append(Frame(here, name, len(out) + 17 + len(name), device=1, inode=1))
            out += head(name, 0o40755)
        elif step["kind"] == "file":
            offset = step["previous_payload_offset"]
            changed = offset is None
            out += head(name, 0o100600 if changed else 0o100644, step["size"])
            out += pxar.REF_ITEM.pack(pxar.PAYLOAD_REF, 32, offset or 16, step["size"])
        else:
            out += head(name, 0o120777) + pxar.symlink_item(b"target")
    return bytes(out)


@pytest.mark.parametrize("name", SCENARIOS)
def test_references_and_injections_are_those_recorded(name: str) -> None:
    case = SCENARIOS[name]
    expected = case.get("with_border_rule_le", case)
    index = Index(case["previous_index"])
    previous = PreviousTree(previous_metadata(case["walk"]), index)
    meta, payload = MemoryStream(), CountedStream()
    injections: list[tuple[int, list[str]]] = []

    def inject(numbers: Any) -> None:
        digests = [index.digest_at(number).decode() for number in numbers]
        boundary = payload.position
        payload.position += sum(end - start for start, end in map(index.range_at, numbers))
        injections.append((boundary, digests))

    tree = SplitTree(
        meta,
        payload,
        -1,
        NothingToRead(Listener(), []),
        previous=previous,
        inject=inject,
        queue_max=case["cache_limit"],
    )
    tree.consume([events_of(case["walk"])])
    tree.close()

    found = {
        step.path.decode(): step.entry.payload
        for step in Decoder(meta).steps()
        if step.entry.kind is Kind.FILE
    }
    wanted = {
        decision["path"]: decision["payload_offset"]
        for decision in expected["decisions"]
        if "payload_offset" in decision
    }
    assert found == wanted
    assert payload.position == expected["new_payload_length"]
    assert injections == [
        (
            one["boundary"],
            [chunk if isinstance(chunk, str) else chunk["digest"] for chunk in one["chunks"]],
        )
        for one in expected["injections"]
    ]
