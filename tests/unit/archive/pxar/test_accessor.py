import struct
from typing import Any

import pytest
from tests.harness.archives import BytesReader, MemorySink, recorded_archives, streams_of
from tests.harness.pxar_encoder import Encoder

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder
from holdfast.archive.pxar.format import Kind, Metadata, Stat
from holdfast.errors import BadRequest, DamagedData

ARCHIVES = recorded_archives()
ROOT = Metadata(Stat(0o40755))
FILE = Metadata(Stat(0o100644))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive["name"])
def test_finds_every_entry_the_decoder_meets(archive: dict[str, Any]) -> None:
    accessor = Accessor(*streams_of(archive))
    met = [step for step in Decoder(*streams_of(archive)).steps() if not step.leaving]

    for step in met:
        found = accessor.lookup(step.path)
        assert found is not None
        assert found._replace(end=0) == step.entry._replace(end=0)
    walked = [step.path for step in accessor.walk() if not step.leaving]
    assert sorted(walked) == sorted(step.path for step in met)


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive["name"])
def test_lists_children_by_name(archive: dict[str, Any]) -> None:
    accessor = Accessor(*streams_of(archive))
    for step in accessor.walk():
        if step.entry.kind is Kind.DIRECTORY:
            names = [child.name for child in accessor.children(step.entry)]
            assert names == sorted(names)


def rich() -> Accessor:
    return Accessor(*streams_of(next(a for a in ARCHIVES if a["name"] == "v2-rich")))


def test_paths_may_have_slashes_and_dots_but_not_lead_upwards() -> None:
    accessor = rich()

    assert accessor.lookup(b"/usr/./bin//ping") == accessor.lookup(b"usr/bin/ping") is not None
    assert accessor.lookup(b"usr/bin/pong") is None
    assert accessor.lookup(b"usr/bin/ping/x") is None
    assert accessor.lookup(b"") == accessor.root
    with pytest.raises(BadRequest, match="upwards"):
        accessor.lookup(b"usr/../dev")


def test_hard_links_lead_to_their_file() -> None:
    accessor = rich()
    link = accessor.lookup(b"zz-link")
    assert link is not None

    target = accessor.resolve_hardlink(link)

    assert target == accessor.lookup(b"usr/bin/bunzip2")
    assert b"".join(accessor.content(target).pieces()) == b"\x7fELF bzip2 executable"
    with pytest.raises(BadRequest, match="only a hard link"):
        accessor.resolve_hardlink(target)


def test_a_walk_begins_where_it_is_told() -> None:
    accessor = rich()
    top = accessor.lookup(b"usr/bin")

    paths = [step.path for step in accessor.walk(top, b"usr/bin") if not step.leaving]

    assert paths == [b"usr/bin", b"usr/bin/bunzip2", b"usr/bin/bzip2", b"usr/bin/ping"]


def build(names: list[bytes]) -> bytes:
    meta = MemorySink()
    encoder = Encoder(meta, root=ROOT)
    for name in names:
        encoder.begin_directory(name, ROOT)
        encoder.end_directory()
    encoder.finish()
    return bytes(meta.data)


def patched(data: bytes, row: int, **changes: int) -> bytes:
    """`data` with fields of one row of the root's table replaced."""
    count = (struct.unpack("<Q", data[-8:])[0] - 40) // 24
    at = len(data) - 24 * (count + 1 - row)
    digest, distance, size = struct.unpack_from("<QQQ", data, at)
    fields = {"digest": digest, "distance": distance, "size": size, **changes}
    new = struct.pack("<QQQ", fields["digest"], fields["distance"], fields["size"])
    return data[:at] + new + data[at + 24 :]


def test_equal_hashes_are_told_apart_by_name() -> None:
    data = build([b"a", b"b", b"c"])
    same = pxar.siphash(b"b")
    for row in range(3):
        data = patched(data, row, digest=same)
    accessor = Accessor(BytesReader(data))

    found = accessor.child(accessor.root, b"b")

    assert found is not None
    assert found.name == b"b"


@pytest.mark.parametrize(
    "changes",
    [
        {"distance": 0},
        {"distance": 1 << 63},
        {"distance": 40},
        {"size": 0},
        {"size": 1 << 63},
    ],
)
def test_rows_that_lead_out_of_the_directory_are_damage(changes: dict[str, int]) -> None:
    accessor = Accessor(BytesReader(patched(build([b"a", b"b"]), 0, **changes)))

    with pytest.raises(DamagedData):
        accessor.children(accessor.root)


def test_two_rows_for_one_directory_are_damage_not_two_directories() -> None:
    data = build([b"a", b"b"])
    count = 2
    first = struct.unpack_from("<QQQ", data, len(data) - 24 * (count + 1))
    accessor = Accessor(BytesReader(patched(data, 1, distance=first[1], size=first[2])))

    with pytest.raises(DamagedData, match="overlap"):
        accessor.children(accessor.root)


def test_a_table_with_more_rows_than_entries_is_damage() -> None:
    data = bytearray(build([]))
    rows = 100_000
    size = 40 + 24 * rows
    data[56:72] = struct.pack("<QQ", pxar.GOODBYE, size)
    data[72:] = bytes(24 * rows) + struct.pack("<QQQ", pxar.GOODBYE_TAIL_MARKER, 56, size)
    accessor = Accessor(BytesReader(bytes(data)))

    with pytest.raises(DamagedData, match="more rows"):
        accessor.children(accessor.root)


def test_one_path_reads_a_small_part_of_a_large_archive() -> None:
    meta, payload = MemorySink(), MemorySink()
    encoder = Encoder(meta, payload, root=ROOT)
    for number in range(200):
        encoder.begin_directory(b"d%03d" % number, ROOT)
        for name in range(200):
            encoder.file(b"f%03d" % name, FILE, 0)
        encoder.end_directory()
    encoder.finish()
    source = BytesReader(bytes(meta.data))
    accessor = Accessor(source, BytesReader(bytes(payload.data)))

    found = accessor.lookup(b"d100/f100")

    assert found is not None
    assert sum(length for _offset, length in source.reads) < source.size / 10
