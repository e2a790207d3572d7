import stat
from pathlib import Path

import pytest
from tests.harness.archives import MemorySink
from tests.harness.pxar_encoder import Encoder
from tests.harness.small_store import SmallStore

from holdfast.archive.pxar.format import Metadata, Stat
from holdfast.datastore.affected import uses_of
from holdfast.datastore.keys import EncryptionKey
from holdfast.operations.affected import AffectedArchive, AffectedRequest, affected
from holdfast.operations.progress import NullProgress

DIRECTORY = Metadata(Stat(stat.S_IFDIR | 0o755))
FILE = Metadata(Stat(stat.S_IFREG | 0o644))
PIECE = 1000
CONTENTS = {name: bytes([name[0]]) * 2500 for name in (b"aa", b"bb", b"cc")}
KEY = EncryptionKey(bytes(range(32)))


def write_tree(encoder: Encoder, content: MemorySink) -> None:
    """d/{aa,bb,cc}, each 2500 bytes, and link, a second name of d/bb."""
    encoder.begin_directory(b"d", DIRECTORY)
    starts = {}
    for name, data in CONTENTS.items():
        starts[name] = encoder.file(name, FILE, len(data))
        content.write(data)
    encoder.end_directory()
    encoder.hardlink(b"link", target_start=starts[b"bb"], target_path=b"d/bb")
    encoder.finish()


def pieces(sink: MemorySink) -> list[bytes]:
    data = bytes(sink.data)
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def split_store(small: SmallStore, key: EncryptionKey | None = None) -> list[bytes]:
    """A snapshot with the tree in two streams; the chunks of its payload."""
    meta, payload = MemorySink(), MemorySink()
    write_tree(Encoder(meta, payload, root=DIRECTORY), payload)
    small.snapshot(
        "host/a/2026-01-01T00:00:00Z",
        {"r.mpxar.didx": pieces(meta), "r.ppxar.didx": pieces(payload)},
        key=key,
    )
    return pieces(payload)


def ask(small: SmallStore, digest: bytes, key: EncryptionKey | None = None) -> AffectedArchive:
    request = AffectedRequest(store=small.read_only(), digest=digest, key=key)
    (found,) = affected(request, NullProgress())
    return found


def test_the_files_of_a_payload_chunk_are_found_though_it_is_gone(small: SmallStore) -> None:
    chunks = split_store(small)
    in_bb = small.put(chunks[3])  # bytes 3000 to 3999 hold nothing but bb
    between = small.put(chunks[2])  # 2000 to 2999: the end of aa and the start of bb
    for digest in (in_bb, between):
        small.path(digest).unlink()

    assert ask(small, in_bb).paths == (b"d/bb", b"link")
    assert ask(small, between).paths == (b"d/aa", b"d/bb", b"link")
    assert ask(small, in_bb).ranges == ((3000, 5000),)  # two equal chunks, one digest
    assert (ask(small, in_bb).archive, ask(small, in_bb).gap) == ("r.ppxar", None)


def test_a_chunk_of_the_listing_itself_leaves_a_gap_that_is_told(small: SmallStore) -> None:
    split_store(small)
    (use,) = uses_of(
        small.store,
        small.store.open_index(
            small.store.snapshots(small.store.groups()[0])[0], "r.mpxar.didx"
        ).digest_at(0),
    )
    digest = small.store.open_index(use.snapshot, "r.mpxar.didx").digest_at(0)
    small.path(digest).unlink()

    found = ask(small, digest)

    assert found.archive == "r.mpxar"
    assert found.gap is not None
    assert "missing" in found.gap


def test_unified_archives_are_searched_too(small: SmallStore) -> None:
    sink = MemorySink()
    write_tree(Encoder(sink, root=DIRECTORY), sink)
    chunks = pieces(sink)
    small.snapshot("host/a/2026-01-01T00:00:00Z", {"r.pxar.didx": chunks})
    only_cc = next(chunk for chunk in chunks if set(chunk) == {ord("c")})

    digest = small.put(only_cc)
    small.path(digest).unlink()

    assert ask(small, digest).paths == (b"d/cc",)


def test_an_encrypted_listing_needs_its_key(small: SmallStore) -> None:
    chunks = split_store(small, KEY)
    digest = small.put(chunks[3], key=KEY)

    assert ask(small, digest).paths == ()
    assert "key" in (ask(small, digest).gap or "")
    assert ask(small, digest, KEY).paths == (b"d/bb", b"link")


def test_an_image_has_ranges_and_no_paths(small: SmallStore) -> None:
    block = b"x" * 65536
    small.snapshot("vm/1/2026-01-01T00:00:00Z", {"d.img.fidx": [block, block]})

    found = ask(small, small.put(block))

    assert (found.archive, found.paths, found.gap) == ("d.img", (), None)
    assert found.ranges == ((0, 2 * 65536),)


def test_a_chunk_nobody_uses_affects_nothing(small: SmallStore) -> None:
    request = AffectedRequest(store=small.store, digest=bytes(32))

    assert affected(request, NullProgress()) == []
