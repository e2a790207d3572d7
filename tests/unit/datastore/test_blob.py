"""Blobs: every recorded case, round trips, and lies about sizes."""

import hashlib
import struct
import zlib
from typing import Any

import pytest
import zstandard
from tests.harness import vectors

from holdfast.datastore import blob
from holdfast.datastore.blob import BlobKind
from holdfast.datastore.keys import EncryptionKey, chunk_digest
from holdfast.errors import BadRequest, DamagedData, KeyProblem

RECORDED = vectors.load("datastore", "blobs")
KEY = EncryptionKey(bytes(range(32)))


def _input_of(case: dict[str, Any]) -> bytes:
    if "input_hex" in case:
        return bytes.fromhex(case["input_hex"])
    assert case["input_rule"] == "4096 zero bytes"
    return bytes(4096)


def _key_of(case: dict[str, Any]) -> EncryptionKey | None:
    return EncryptionKey(bytes.fromhex(case["key_hex"])) if "key_hex" in case else None


@pytest.mark.parametrize("case", RECORDED["blobs"], ids=lambda case: case["name"])
def test_recorded_blob_decodes_to_its_input(case: dict[str, Any]) -> None:
    stored = bytes.fromhex(case["blob_hex"])

    data = blob.decode(stored, key=_key_of(case))

    assert data == _input_of(case)
    assert hashlib.sha256(data).hexdigest() == case["plain_sha256"]
    assert chunk_digest(data, _key_of(case)).hex() == case["chunk_digest"]
    assert hashlib.sha256(stored).hexdigest() == case["manifest_csum_of_blob"]


@pytest.mark.parametrize("case", RECORDED["blobs"], ids=lambda case: case["name"])
def test_our_encoding_of_a_recorded_input_is_read_back_and_of_the_same_kind(
    case: dict[str, Any],
) -> None:
    recorded = blob.check_crc(bytes.fromhex(case["blob_hex"]))
    level = 1 if recorded.is_compressed or "requested" in case["name"] else None

    ours = b"".join(blob.encode(_input_of(case), key=_key_of(case), level=level))

    assert blob.check_crc(ours) is recorded
    assert blob.decode(ours, key=_key_of(case)) == _input_of(case)
    if not recorded.is_compressed and not recorded.is_encrypted:
        assert ours.hex() == case["blob_hex"]


@pytest.mark.parametrize("case", RECORDED["bad_blobs"], ids=lambda case: case["name"])
def test_recorded_damage_is_noticed(case: dict[str, Any]) -> None:
    stored = bytes.fromhex(case["blob_hex"])

    with pytest.raises(DamagedData):
        blob.decode(stored, key=_key_of(case))
    if "CRC check passes" in case["error"]:
        assert blob.check_crc(stored) is BlobKind.ENCRYPTED
    else:
        with pytest.raises(DamagedData):
            blob.check_crc(stored)


@pytest.mark.parametrize("case", RECORDED["digests"], ids=lambda case: case["name"])
def test_digests_of_recorded_chunks(case: dict[str, Any]) -> None:
    data = (
        bytes(4 << 20) if case["name"].startswith("zero") else bytes(i % 255 for i in range(10**5))
    )

    assert chunk_digest(data, None).hex() == case["plain_digest"]
    for name in "ab":
        if f"key_hex_{name}" in case:
            key = EncryptionKey(bytes.fromhex(case[f"key_hex_{name}"]))
            assert chunk_digest(data, key).hex() == case[f"digest_key_{name}"]


def test_magics_are_the_recorded_ones() -> None:
    magics = RECORDED["magics"]

    assert [kind.value.hex() for kind in BlobKind] == [
        magics["plain"],
        magics["zstd"],
        magics["enc"],
        magics["enczstd"],
    ]


def test_encrypted_blob_without_a_key_asks_for_the_key() -> None:
    stored = b"".join(blob.encode(b"secret", key=KEY))

    with pytest.raises(KeyProblem):
        blob.decode(stored)


def test_another_key_does_not_decrypt() -> None:
    stored = b"".join(blob.encode(b"secret" * 100, key=KEY))

    with pytest.raises(DamagedData):
        blob.decode(stored, key=EncryptionKey(bytes(32)))


def test_two_encryptions_of_the_same_data_share_nothing_but_the_magic() -> None:
    first, second = (b"".join(blob.encode(b"data" * 9, key=KEY)) for _ in range(2))

    assert first != second
    assert first[12:28] != second[12:28]


def _blob_of(payload: bytes) -> bytes:
    return BlobKind.ZSTD.value + struct.pack("<I", zlib.crc32(payload)) + payload


def test_declared_size_beyond_the_limit_is_refused_before_any_unpacking() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 20))

    with pytest.raises(DamagedData, match="unpacks to more than 1000 bytes"):
        blob.decode(_blob_of(bomb), size_max=1000)


def test_undeclared_size_beyond_the_limit_is_refused() -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    bomb = packer.compress(bytes(1 << 26)) + packer.flush()

    with pytest.raises(DamagedData, match="more than 1048576"):
        blob.decode(_blob_of(bomb), size_max=1 << 20)


def test_frames_of_any_kind_one_after_the_other_are_joined() -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    sized = zstandard.ZstdCompressor().compress(b"one")
    unsized = packer.compress(b"two") + packer.flush()
    empty = zstandard.ZstdCompressor().compress(b"")

    for order in ([sized, unsized], [unsized, sized], [empty, sized, empty, unsized]):
        expected = b"".join({sized: b"one", unsized: b"two", empty: b""}[part] for part in order)
        assert blob.decode(_blob_of(b"".join(order))) == expected


@pytest.mark.parametrize("cut", [0, 3, 5, 9, -1])
def test_compressed_data_cut_short_under_a_right_checksum_is_damage(cut: int) -> None:
    whole = zstandard.ZstdCompressor().compress(bytes(range(256)) * 40)

    with pytest.raises(DamagedData):
        blob.decode(_blob_of(whole[:cut]))


def test_rubbish_after_the_frame_is_damage() -> None:
    whole = zstandard.ZstdCompressor().compress(bytes(5000))

    with pytest.raises(DamagedData):
        blob.decode(_blob_of(whole + b"rubbish"))


def test_plain_payload_is_the_callers_buffer_and_not_a_copy() -> None:
    data = bytearray(b"some bytes")

    header, payload = blob.encode(data, level=None)

    assert payload is data
    assert len(header) == 12


def test_more_than_a_blob_holds_is_refused() -> None:
    with pytest.raises(BadRequest):
        blob.encode(bytes((128 << 20) + 1))


def test_plain_blob_longer_than_allowed_is_damage() -> None:
    with pytest.raises(DamagedData):
        blob.decode(b"".join(blob.encode(bytes(100), level=None)), size_max=99)
