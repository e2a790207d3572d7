from typing import Any

import pytest
from tests.harness.archives import (
    BytesReader,
    metadata_of,
    name_of,
    recorded_archives,
    streams_of,
)
from tests.harness.vectors import load

from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder, References
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Entry, Step
from holdfast.errors import BadRequest, DamagedData

ARCHIVES = recorded_archives()
WITH_OPERATIONS = [archive for archive in ARCHIVES if "ops" in archive]
INVALID = load("pxar", "invalid")["cases"]
MALICIOUS = {case["name"]: case for case in load("pxar", "malicious")["cases"]}
KINDS = {"dir": Kind.DIRECTORY, "ref": Kind.FILE, "device": None}


def named(name: str) -> dict[str, Any]:
    return next(archive for archive in ARCHIVES if archive["name"] == name)


@pytest.mark.parametrize("archive", WITH_OPERATIONS, ids=lambda archive: archive["name"])
def test_reads_back_what_was_recorded(archive: dict[str, Any]) -> None:
    decoder = Decoder(*streams_of(archive), references=References.ASCENDING)
    operations = [op for op in archive["ops"] if op["op"] != "advance"]
    starts = [
        start
        for op, start in zip(archive["ops"], archive["filename_offsets"], strict=True)
        if op["op"] != "advance"
    ]

    root, *steps, last = decoder.steps()

    assert root.entry.metadata == metadata_of({**archive["root"]})
    assert last.leaving
    assert len(steps) == len(operations)
    for step, operation, start in zip(steps, operations, starts, strict=True):
        check_step(decoder, step, operation, start)
    if "prelude_hex" in archive:
        assert decoder.prelude == bytes.fromhex(archive["prelude_hex"])
    else:
        assert decoder.prelude is None


def check_step(decoder: Decoder, step: Step, operation: dict[str, Any], start: int | None) -> None:
    entry = step.entry
    if operation["op"] == "end":
        assert step.leaving
        return
    assert entry.name == name_of(operation)
    assert step.path.endswith(entry.name)
    assert entry.start == start
    assert entry.problem is None
    if operation["op"] == "hardlink":
        assert entry.kind is Kind.HARDLINK
        assert entry.target == operation["target"].encode()
        return
    assert entry.metadata == metadata_of(operation["meta"])
    if operation["op"] == "file":
        content = bytes.fromhex(operation["data_hex"])
        assert b"".join(decoder.content(entry).pieces()) == content
        assert decoder.content(entry).read_at(1, 10) == content[1:11]
    elif operation["op"] == "ref":
        assert (entry.payload, entry.size) == (operation["payload_offset"], operation["size"])
    elif operation["op"] == "symlink":
        assert entry.target == operation["target"].encode()
    elif operation["op"] == "device":
        assert entry.device == (operation["major"], operation["minor"])
    else:
        assert entry.kind is KINDS.get(operation["op"], entry.kind)


def test_reads_entries_with_times_in_plain_nanoseconds() -> None:
    archive = named("v1-entry-v1-legacy")
    steps = list(Decoder(*streams_of(archive)).steps())

    (step,) = [step for step in steps if step.entry.kind is Kind.FILE]

    assert step.entry.metadata is not None
    assert step.entry.metadata.stat.uid == 1000
    assert step.entry.metadata.stat.mtime_s == 1430487000
    assert step.entry.metadata.stat.mtime_ns == 0


def read_everything(meta: bytes, payload: bytes | None) -> list[Step]:
    decoder = Decoder(
        BytesReader(meta),
        None if payload is None else BytesReader(payload),
        references=References.ASCENDING,
    )
    steps = list(decoder.steps())
    for step in steps:
        if step.entry.kind is Kind.FILE and payload is not None:
            b"".join(decoder.content(step.entry).pieces())
    return steps


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
def test_rejects_malformed_archives(case: dict[str, Any]) -> None:
    payload = case["payload_hex"]

    with pytest.raises(DamagedData):
        read_everything(
            bytes.fromhex(case["archive_hex"]), None if payload is None else bytes.fromhex(payload)
        )


def malicious(name: str) -> list[Entry]:
    data = bytes.fromhex(MALICIOUS[name]["pxar_hex"])
    return [step.entry for step in read_everything(data, None) if not step.leaving]


def test_entries_whose_type_contradicts_their_content_are_marked() -> None:
    entries = malicious("type-mismatch")

    assert [entry.problem is not None for entry in entries[1:]] == [True] * (len(entries) - 1)


@pytest.mark.parametrize("name", ["hardlink-absolute", "hardlink-offset-zero"])
def test_hard_links_that_lead_nowhere_are_marked_and_not_resolved(name: str) -> None:
    links = [entry for entry in malicious(name) if entry.kind is Kind.HARDLINK]
    accessor = Accessor(BytesReader(bytes.fromhex(MALICIOUS[name]["pxar_hex"])))

    assert links
    for link in links:
        assert link.problem is not None
        with pytest.raises(DamagedData):
            accessor.resolve_hardlink(link)


def test_a_hard_link_to_a_directory_is_not_resolved() -> None:
    data = bytes.fromhex(MALICIOUS["hardlink-to-directory"]["pxar_hex"])
    accessor = Accessor(BytesReader(data))
    (link,) = [s.entry for s in accessor.walk() if s.entry.kind is Kind.HARDLINK]

    with pytest.raises(DamagedData, match="no regular file"):
        accessor.resolve_hardlink(link)


def test_links_without_a_possible_target_are_marked_and_the_rest_is_read() -> None:
    entries = malicious("symlink-odd-target")

    links = [entry for entry in entries if entry.kind is Kind.SYMLINK]
    assert [link.problem is not None for link in links] == [True] * len(links)
    assert len(links) == 2


@pytest.mark.parametrize(
    "name",
    ["symlink-then-dir", "symlink-then-file", "hardlink-through-symlink", "xattr-namespaces"],
)
def test_archives_that_are_only_dangerous_to_restore_are_read(name: str) -> None:
    assert all(entry.problem is None for entry in malicious(name))


def test_deep_nesting_takes_no_stack() -> None:
    entries = malicious("deep-nesting")
    accessor = Accessor(BytesReader(bytes.fromhex(MALICIOUS["deep-nesting"]["pxar_hex"])))

    assert len(entries) >= 300
    assert len([step for step in accessor.walk() if not step.leaving]) == len(entries)


def test_contents_need_the_payload_stream() -> None:
    archive = named("v2-noprelude")
    meta, _payload = streams_of(archive)
    decoder = Decoder(meta)
    entry = next(step.entry for step in decoder.steps() if step.entry.kind is Kind.FILE)

    with pytest.raises(BadRequest, match="without its payload"):
        decoder.content(entry)
    with pytest.raises(BadRequest, match="only regular files"):
        decoder.content(next(decoder.steps()).entry)
