"""Archives of random trees come back as they were; damaged ones end in DamagedData, soon."""

import stat as stat_bits
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.archives import BytesReader, MemorySink, recorded_archives
from tests.harness.pxar_encoder import Encoder
from tests.harness.vectors import load

from holdfast.archive.catalog import CatalogReader
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder, References
from holdfast.archive.pxar.format import (
    ABSENT,
    Acl,
    AclDefault,
    AclEntry,
    Kind,
    Metadata,
    Stat,
    Xattr,
    name_problem,
)
from holdfast.archive.pxar.items import Entry, Step
from holdfast.errors import DamagedData

U32 = st.integers(0, 2**32 - 1)
NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: name_problem(name) is None)
TARGETS = st.binary(min_size=1, max_size=40).filter(lambda target: b"\0" not in target)


@dataclass(frozen=True)
class Node:
    """An entry to be: what kind, its metadata, and what it holds."""

    kind: Kind
    metadata: Metadata
    content: bytes = b""
    device: tuple[int, int] = (0, 0)
    children: tuple[tuple[bytes, "Node"], ...] = ()


def acl_entries() -> st.SearchStrategy[tuple[AclEntry, ...]]:
    one = st.builds(AclEntry, U32, st.integers(0, 7))
    return st.lists(one, max_size=2).map(tuple)


def acls() -> st.SearchStrategy[Acl | None]:
    defaults = st.builds(
        AclDefault, *(st.one_of(st.integers(0, 7), st.just(ABSENT)) for _ in range(4))
    )
    full = st.builds(
        Acl,
        acl_entries(),
        acl_entries(),
        st.one_of(st.none(), st.integers(0, 7)),
        st.one_of(st.none(), defaults),
        acl_entries(),
        acl_entries(),
    )
    return st.one_of(st.none(), full.map(lambda acl: None if acl == Acl() else acl))


def metadata(type_bits: int) -> st.SearchStrategy[Metadata]:
    stats = st.builds(
        Stat,
        st.integers(0, 0o7777).map(lambda mode: mode | type_bits),
        st.sampled_from([0, 0x10000, 0x3FF0000]),
        U32,
        U32,
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 999_999_999),
    )
    xattr_names = st.binary(min_size=1, max_size=9).filter(lambda name: b"\0" not in name)
    xattrs = st.lists(st.builds(Xattr, xattr_names, st.binary(max_size=9)), max_size=2).map(tuple)
    return st.builds(
        Metadata,
        stats,
        xattrs,
        acls(),
        st.one_of(st.none(), st.binary(max_size=20)),
        st.one_of(st.none(), st.integers(1, 2**32 - 1)),
    )


def leaves() -> st.SearchStrategy[Node]:
    files = st.builds(Node, st.just(Kind.FILE), metadata(stat_bits.S_IFREG), st.binary(max_size=60))
    links = st.builds(Node, st.just(Kind.SYMLINK), metadata(stat_bits.S_IFLNK), TARGETS)
    devices = st.builds(
        Node,
        st.just(Kind.BLOCK),
        metadata(stat_bits.S_IFBLK),
        device=st.tuples(U32, U32),
    )
    fifos = st.builds(Node, st.just(Kind.FIFO), metadata(stat_bits.S_IFIFO))
    sockets = st.builds(Node, st.just(Kind.SOCKET), metadata(stat_bits.S_IFSOCK))
    return st.one_of(files, files, links, devices, fifos, sockets)


def directory_of(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    named = st.dictionaries(NAMES, children, max_size=6).map(
        lambda kids: tuple(sorted(kids.items()))
    )
    return st.builds(Node, st.just(Kind.DIRECTORY), metadata(stat_bits.S_IFDIR), children=named)


TREES = directory_of(st.recursive(leaves(), directory_of, max_leaves=14))


def encode(tree: Node, *, is_split: bool) -> tuple[bytes, bytes | None]:
    meta, payload = MemorySink(), MemorySink()
    encoder = Encoder(meta, payload if is_split else None, root=tree.metadata)
    _encode_children(encoder, payload if is_split else meta, tree)
    encoder.finish()
    return bytes(meta.data), bytes(payload.data) if is_split else None


def _encode_children(encoder: Encoder, content: MemorySink, directory: Node) -> None:
    for name, node in directory.children:
        if node.kind is Kind.DIRECTORY:
            encoder.begin_directory(name, node.metadata)
            _encode_children(encoder, content, node)
            encoder.end_directory()
        elif node.kind is Kind.FILE:
            encoder.file(name, node.metadata, len(node.content))
            content.write(node.content)
        elif node.kind is Kind.SYMLINK:
            encoder.symlink(name, node.metadata, node.content)
        elif node.kind is Kind.BLOCK:
            encoder.device(name, node.metadata, major=node.device[0], minor=node.device[1])
        else:
            encoder.special(name, node.metadata)


def flattened(tree: Node, path: bytes = b"") -> dict[bytes, Node]:
    found = {path: tree}
    for name, node in tree.children:
        found |= flattened(node, path + b"/" + name if path else name)
    return found


def readers(streams: tuple[bytes, bytes | None]) -> tuple[BytesReader, BytesReader | None]:
    meta, payload = streams
    return BytesReader(meta), None if payload is None else BytesReader(payload)


@given(tree=TREES, is_split=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_trees_come_back_as_they_were(tree: Node, is_split: bool) -> None:
    streams = encode(tree, is_split=is_split)
    decoder = Decoder(*readers(streams), references=References.ASCENDING)
    accessor = Accessor(*readers(streams))
    expected = flattened(tree)

    met = {step.path: step.entry for step in decoder.steps() if not step.leaving}

    assert list(met) == list(expected)
    for path, node in expected.items():
        entry = met[path]
        found = accessor.lookup(path)
        assert found is not None
        assert found._replace(end=0) == entry._replace(end=0)
        assert (entry.kind, entry.metadata, entry.problem) == (node.kind, node.metadata, None)
        if node.kind is Kind.FILE:
            assert b"".join(decoder.content(entry).pieces()) == node.content
            assert bytes(accessor.content(found).read_at(0, 1000)) == node.content
        elif node.kind is Kind.SYMLINK:
            assert entry.target == node.content
        elif node.kind is Kind.BLOCK:
            assert entry.device == node.device
    walked = [(step.path, step.leaving) for step in accessor.walk()]
    assert walked == [(step.path, step.leaving) for step in decoder.steps()]


# Damage --------------------------------------------------------------------------------------

CORPUS = [
    (
        bytes.fromhex(archive.get("pxar_hex") or archive["mpxar_hex"]),
        bytes.fromhex(archive["ppxar_hex"]) if archive["version"] == 2 else None,
    )
    for archive in recorded_archives()
] + [
    (bytes.fromhex(case["pxar_hex"]), None)
    for case in load("pxar", "malicious")["cases"]
    if case["name"] != "deep-nesting"
]
CATALOGS = [bytes.fromhex(case["catalog_hex"]) for case in load("pxar", "catalog")["catalogs"]]
INTERESTING = st.one_of(
    st.binary(min_size=1, max_size=9),
    st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\x10" + b"\0" * 7]),
)


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        patch = draw(INTERESTING)
        how = draw(st.sampled_from(["write", "insert", "cut", "move"]))
        if how == "write":
            data[at : at + len(patch)] = patch
        elif how == "insert":
            data[at:at] = patch
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 80))]
        else:
            source = draw(st.integers(0, max(len(data) - 1, 0)))
            data[at : at + 48] = data[source : source + 48]
    return bytes(data)


def only_damage(work: Callable[[], object]) -> None:
    with suppress(DamagedData):
        work()


def read_content(archive: Accessor | Decoder, entry: Entry) -> None:
    content = archive.content(entry)
    assert sum(map(len, content.pieces())) == content.size


def read_contents(archive: Accessor | Decoder, steps: list[Step]) -> None:
    for step in steps:
        if step.entry.kind is Kind.FILE:
            only_damage(partial(read_content, archive, step.entry))


@given(meta=damaged([meta for meta, _payload in CORPUS]), payload=st.sampled_from(CORPUS))
@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_archives_are_reported_as_such(
    meta: bytes, payload: tuple[bytes, bytes | None]
) -> None:
    other = BytesReader(payload[1] or b"")
    steps: list[Step] = []

    def decode() -> None:
        decoder = Decoder(BytesReader(meta), other)
        steps.extend(decoder.steps())
        read_contents(decoder, steps)

    def access() -> None:
        accessor = Accessor(BytesReader(meta), other)
        found = []
        for step in accessor.walk():
            found.append(step)
            assert len(found) <= 2 * len(meta)
        read_contents(accessor, found)
        for step in found:
            only_damage(partial(accessor.lookup, step.path))
            if step.entry.kind is Kind.HARDLINK:
                only_damage(partial(accessor.resolve_hardlink, step.entry))

    only_damage(decode)
    only_damage(access)
    assert len(steps) <= 2 * len(meta)


@given(data=damaged(CATALOGS))
@settings(max_examples=300, deadline=2000)
def test_damaged_catalogs_are_reported_as_such(data: bytes) -> None:
    def read() -> None:
        reader = CatalogReader(BytesReader(data))
        for path, entry in reader.walk():
            assert entry.name
            only_damage(partial(reader.lookup, path))

    only_damage(read)


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_every_single_flipped_byte_gives_the_same_names_or_damage(number: int) -> None:
    meta, _payload = CORPUS[number]
    original = [s.path for s in Accessor(BytesReader(meta)).walk()] if number < 19 else None
    for at in range(0, min(len(meta), 1500), 3):
        flipped = bytearray(meta)
        flipped[at] ^= 0x40

        def walk(data: bytes = bytes(flipped)) -> None:
            paths = [step.path for step in Accessor(BytesReader(data)).walk()]
            if original is not None:
                assert len(paths) <= len(original) + 2

        only_damage(walk)
