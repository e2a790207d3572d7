"""What is encoded is decoded, for all inputs; checked against plainer truths."""

import bisect
import hashlib
import json
import os
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.datastore import blob
from holdfast.datastore.dynamic_index import DynamicIndex, DynamicIndexWriter
from holdfast.datastore.fixed_index import FixedIndex, FixedIndexWriter
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode, FileEntry, Manifest
from holdfast.errors import DamagedData, HoldfastError
from holdfast.ids import BackupType, GroupId, SnapshotId

KEYS = st.none() | st.binary(min_size=32, max_size=32).map(EncryptionKey)
DIGESTS = st.binary(min_size=32, max_size=32)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), 1 << 64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
SAFE_NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(
    data=st.binary(max_size=5000) | st.binary(max_size=20).map(lambda part: part * 300),
    key=KEYS,
    level=st.none() | st.integers(1, 6),
)
def test_blob_gives_back_what_was_put_in(
    data: bytes, key: EncryptionKey | None, level: int | None
) -> None:
    stored = b"".join(blob.encode(data, key=key, level=level))

    assert blob.decode(stored, key=key, size_max=len(data)) == data
    kind = blob.check_crc(stored)
    assert kind.is_encrypted == (key is not None)
    assert len(stored) <= len(data) + kind.header_bytes


@given(data=st.binary(max_size=400))
def test_rubbish_is_decoded_or_refused(data: bytes) -> None:
    for magic in (b"", *(kind.value for kind in blob.BlobKind)):
        try:
            blob.decode(magic + data, key=EncryptionKey(bytes(32)), size_max=1000)
        except DamagedData:
            continue


@given(lengths=st.lists(st.integers(1, 16 << 20), min_size=1, max_size=60), data=st.data())
def test_dynamic_index_finds_every_offset_like_a_plain_list(
    lengths: list[int], data: st.DataObject
) -> None:
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    digests = [hashlib.sha256(str(end).encode()).digest() for end in ends]
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "x.didx")
        with DynamicIndexWriter(path) as writer:
            for end, digest in zip(ends, digests, strict=True):
                writer.append(end, digest)
            writer.close()
        index = DynamicIndex.open(path)

    offset = data.draw(st.integers(0, ends[-1] - 1))
    assert index.find(offset) == bisect.bisect_right(ends, offset)
    start, end = index.range_at(index.find(offset))
    assert start <= offset < end
    assert list(index.digests()) == digests


@given(
    size=st.integers(1, 40 << 16),
    changes=st.lists(st.tuples(st.integers(0, 39), DIGESTS), max_size=20),
)
def test_fixed_index_holds_the_last_digest_put_at_each_place(
    size: int, changes: list[tuple[int, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "x.fidx")
        with FixedIndexWriter(path, size, 1 << 16) as writer:
            wanted = {number: bytes([number]) * 32 for number in range(writer.chunk_count)}
            wanted.update({at: digest for at, digest in changes if at in wanted})
            for number in wanted:
                writer.put(number, bytes(32))
            for number, digest in sorted(wanted.items(), reverse=True):
                writer.put(number, digest)
            summary = writer.close()
        index = FixedIndex.open(path)

    assert [index.digest_at(number) for number in range(index.chunk_count)] == list(wanted.values())
    assert index.range_at(index.chunk_count - 1)[1] == size == index.size_bytes
    assert summary.checksum == index.checksum()


@given(
    snapshot=st.builds(
        SnapshotId,
        st.builds(GroupId, st.sampled_from(list(BackupType)), SAFE_NAMES),
        st.integers(1, 200_000_000_000),
    ),
    names=st.lists(SAFE_NAMES, max_size=4, unique=True),
    size=st.integers(0, (1 << 64) - 1),
    unprotected=st.dictionaries(st.text(max_size=10), JSON, max_size=4),
    key=st.binary(min_size=32, max_size=32).map(EncryptionKey),
)
def test_manifest_is_read_back_whole_and_its_signature_holds(
    snapshot: SnapshotId,
    names: list[str],
    size: int,
    unprotected: dict[str, Any],
    key: EncryptionKey,
) -> None:
    files = tuple(FileEntry(f"{name}.didx", CryptMode.ENCRYPT, size, bytes(32)) for name in names)
    manifest = Manifest(snapshot, files, None, unprotected).signed_with(key)

    again = Manifest.decode(b"".join(manifest.encode()))

    assert again == manifest
    again.check_signature(key)


@given(value=JSON, at=st.sampled_from(["files", "backup-id", "backup-time", "signature", "x"]))
def test_manifest_of_any_json_is_read_or_refused(value: Any, at: str) -> None:
    text = {"backup-type": "vm", "backup-id": "1", "backup-time": 5, "files": [], at: value}
    try:
        manifest = Manifest.from_json(json.dumps(text).encode())
    except DamagedData:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(
    data=st.binary(max_size=300), header=st.sampled_from(["2f7f41ed91fd0fcd", "1c914ea519bab3cd"])
)
def test_rubbish_after_an_index_header_is_read_or_refused(data: bytes, header: str) -> None:
    text = bytes.fromhex(header) + bytes(56) + data[:16].ljust(16, b"\0")
    for kind in (FixedIndex, DynamicIndex):
        try:
            index = kind(text.ljust(4096, b"\0") + data, path="x")
        except HoldfastError:
            continue
        assert index.range_at(index.chunk_count - 1)[1] == index.size_bytes
