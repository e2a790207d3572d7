import hashlib
import stat as stat_bits
from typing import Any

import pytest
from tests.harness.archives import MemorySink, encode_recorded, recorded_archives
from tests.harness.pxar_encoder import Encoder

from holdfast.archive.pxar.format import Metadata, Stat, Xattr
from holdfast.errors import BadRequest

ARCHIVES = [archive for archive in recorded_archives() if "ops" in archive]
ROOT = Metadata(Stat(stat_bits.S_IFDIR | 0o755))
FILE = Metadata(Stat(stat_bits.S_IFREG | 0o644))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive["name"])
def test_writes_the_recorded_bytes(archive: dict[str, Any]) -> None:
    meta, payload, starts = encode_recorded(archive)

    if archive["version"] == 1:
        assert meta.hex() == archive["pxar_hex"]
        assert hashlib.sha256(meta).hexdigest() == archive["sha256"]
    else:
        assert meta.hex() == archive["mpxar_hex"]
        if "reuse" not in archive["name"]:  # there the skipped bytes are someone else's chunks
            assert payload.hex() == archive["ppxar_hex"]
    recorded = [start for start in archive["filename_offsets"] if start is not None]
    assert [start for start in starts if start is not None] == recorded


def test_suggests_a_cut_before_every_file() -> None:
    meta, payload = MemorySink(), MemorySink()
    encoder = Encoder(meta, payload, root=ROOT)
    for name in (b"a", b"b"):
        encoder.file(name, FILE, 3)
        payload.write(b"xyz")
    encoder.finish()

    assert payload.suggested == [16, 35]


def test_a_long_name_and_attributes_take_the_same_form_as_short_ones() -> None:
    meta, payload = MemorySink(), MemorySink()
    encoder = Encoder(meta, payload, root=ROOT)
    plain = encoder.file_at(b"n" * 255, FILE, 1, 16)
    longer = encoder.file_at(b"n" * 256, FILE, 1, 33)
    rich = encoder.file_at(b"x", FILE._replace(xattrs=(Xattr(b"user.a", b"1"),)), 1, 50)
    encoder.finish()

    assert longer - plain == 255 + 17 + 56 + 32
    assert rich - longer == 256 + 17 + 56 + 32
    assert meta.data[longer + 17 + 256 :][:56] == meta.data[plain + 17 + 255 :][:56]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"n" * 4097])
def test_refuses_names_no_archive_can_hold(name: bytes) -> None:
    encoder = Encoder(MemorySink(), MemorySink(), root=ROOT)

    with pytest.raises(BadRequest, match="cannot hold"):
        encoder.file_at(name, FILE, 0, 16)
    with pytest.raises(BadRequest, match="cannot hold"):
        encoder.begin_directory(name, ROOT)
    with pytest.raises(BadRequest, match="cannot hold"):
        encoder.hardlink(name, target_start=0, target_path=b"x")


def test_refuses_payload_offsets_that_do_not_grow() -> None:
    encoder = Encoder(MemorySink(), MemorySink(), root=ROOT)
    encoder.file_reference(b"a", FILE, 10, 500)

    with pytest.raises(BadRequest, match="does not follow"):
        encoder.file_reference(b"b", FILE, 10, 500)


def test_notices_content_that_is_not_as_long_as_announced() -> None:
    sink = MemorySink()
    encoder = Encoder(sink, root=ROOT)
    encoder.file(b"a", FILE, 4)
    sink.write(b"abc")

    with pytest.raises(BadRequest, match="not as long"):
        encoder.finish()


def test_notices_directories_left_open() -> None:
    encoder = Encoder(MemorySink(), root=ROOT)
    encoder.begin_directory(b"d", ROOT)

    with pytest.raises(BadRequest, match="still open"):
        encoder.finish()


def test_hands_items_over_in_pieces_rather_than_at_the_end() -> None:
    meta = MemorySink()
    encoder = Encoder(meta, MemorySink(), root=ROOT)
    for number in range(3000):
        encoder.file_at(b"%05d" % number, FILE, 0, 16 + 16 * number)

    assert len(meta.data) > 100_000
    assert encoder.position - len(meta.data) < 70_000
