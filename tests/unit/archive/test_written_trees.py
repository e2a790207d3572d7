"""Real directories become the very bytes that the recorded rules give for them."""

import os
import socket
import stat as stat_bits
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.archives import BytesReader, MemorySink
from tests.harness.pxar_encoder import Encoder
from tests.harness.tree_streams import Listener, MemoryStream, write_split

from holdfast.archive.catalog import CatalogReader, CatalogWriter
from holdfast.archive.pxar.decoder import Decoder, References
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Step
from holdfast.archive.tree_reading import TreeReading
from holdfast.archive.unified_tree import UnifiedTree
from holdfast.archive.walk import TreeWalk
from holdfast.archive.walk_rules import WalkRules


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Every kind of entry, odd names, links, attributes where the file system has them."""
    root = tmp_path / "tree"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr-empty").mkdir(mode=0o711)
    (root / "usr/bin/tool").write_bytes(b"#!tool" * 999)
    os.link(root / "usr/bin/tool", root / "usr/bin/tool2")
    os.link(root / "usr/bin/tool", root / "zz-link")
    (root / "bin").symlink_to("usr/bin")
    (root / "empty").touch(mode=0o600)
    Path(os.fsdecode(os.fsencode(root) + b"/odd\xff\nname")).write_bytes(b"odd")
    (root / ("long" * 60)).write_bytes(b"long")
    os.utime(root / "empty", ns=(0, -1))
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as endpoint:
        here = os.getcwd()
        os.chdir(root)
        try:
            endpoint.bind("sock")
        finally:
            os.chdir(here)
    if os.geteuid() == 0:
        os.mknod(root / "null", stat_bits.S_IFCHR | 0o666, os.makedev(1, 3))
    try:
        os.setxattr(root / "empty", "user.note", b"some\0thing")
        os.setxattr(root / "usr", "user.on-a-directory", b"")
    except OSError:
        pass  # the test's file system keeps none; the others still have to come out right
    for number in range(40):
        (root / "usr" / f"file-{number:02}").write_bytes(b"x" * number)
    return root


def encoded_again(decoder: Decoder, *, is_split: bool) -> tuple[bytes, bytes]:
    """The archive of the same entries, written by the rules one by one."""
    meta, payload = MemorySink(), MemorySink()
    content_out = payload if is_split else meta
    steps = decoder.steps()
    root = next(steps).entry.metadata
    assert root is not None
    encoder = Encoder(meta, payload if is_split else None, root=root, prelude=decoder.prelude)
    starts: dict[int, int] = {}
    for step in steps:
        if step.leaving:
            if step.path:
                encoder.end_directory()
            continue
        starts[step.entry.start] = _add(encoder, decoder, step, content_out, starts)
    encoder.finish()
    return bytes(meta.data), bytes(payload.data)


def _add(
    encoder: Encoder, decoder: Decoder, step: Step, out: MemorySink, starts: dict[int, int]
) -> int:
    entry = step.entry
    if entry.kind is Kind.HARDLINK:
        target = starts[entry.start - entry.distance]
        return encoder.hardlink(entry.name, target_start=target, target_path=entry.target)
    assert entry.metadata is not None
    if entry.kind is Kind.DIRECTORY:
        return encoder.begin_directory(entry.name, entry.metadata)
    if entry.kind is Kind.FILE:
        start = encoder.file(entry.name, entry.metadata, entry.size)
        for piece in decoder.content(entry).pieces():
            out.write(bytes(piece))
        return start
    if entry.kind is Kind.SYMLINK:
        return encoder.symlink(entry.name, entry.metadata, entry.target)
    if entry.device is not None:
        major, minor = entry.device
        return encoder.device(entry.name, entry.metadata, major=major, minor=minor)
    return encoder.special(entry.name, entry.metadata)


@pytest.mark.parametrize("prelude", [None, b"", b'{"exclude-patterns":"x\\n"}'])
def test_a_split_archive_is_written_byte_by_byte_as_the_rules_say(
    tree: Path, prelude: bytes | None
) -> None:
    written = write_split(str(tree), prelude=prelude)
    meta, payload = bytes(written.meta.data), bytes(written.payload.data)
    decoder = Decoder(BytesReader(meta), BytesReader(payload), references=References.ASCENDING)

    assert encoded_again(decoder, is_split=True) == (meta, payload)


def write_unified(tree: Path, patterns: bytes = b"") -> tuple[bytes, bytes]:
    """The archive and its catalog."""
    stream, names = MemoryStream(), MemorySink()
    catalog = CatalogWriter(names)
    catalog.begin_directory(b"root.pxar.didx")
    root_fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        writer = UnifiedTree(
            stream, catalog, root_fd, TreeReading(Listener(), []), patterns_text=patterns
        )
        writer.consume(TreeWalk(os.fsencode(tree), WalkRules()).batches())
    finally:
        os.close(root_fd)
    catalog.end_directory()
    catalog.finish()
    return bytes(stream.data), bytes(names.data)


@pytest.mark.parametrize("patterns", [b"", b"*.tmp\n"])
def test_a_unified_archive_is_written_byte_by_byte_as_the_rules_say(
    tree: Path, patterns: bytes
) -> None:
    archive, _catalog = write_unified(tree, patterns)
    decoder = Decoder(BytesReader(archive))

    assert encoded_again(decoder, is_split=False) == (archive, b"")
    last = [step for step in decoder.steps() if not step.leaving][-1]
    assert (last.entry.name == b".pxarexclude-cli") == bool(patterns)


def test_the_catalog_lists_what_the_archive_holds(tree: Path) -> None:
    archive, catalog = write_unified(tree)
    reader = CatalogReader(BytesReader(catalog))

    found = {path: entry for path, entry in reader.walk() if path != b"root.pxar.didx"}

    for path, step in entries(archive):
        listed = found.pop(b"root.pxar.didx/" + path)
        assert listed.kind is step.entry.kind
        if step.entry.kind is Kind.FILE:
            assert listed.size == step.entry.size
            assert step.entry.metadata is not None
            assert listed.mtime_s == step.entry.metadata.stat.mtime_s
    assert not found


def entries(archive: bytes) -> Iterator[tuple[bytes, Step]]:
    for step in Decoder(BytesReader(archive)).steps():
        if step.path and not step.leaving:
            yield step.path, step
