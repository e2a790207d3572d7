"""What inserting a chunk does in every situation of the table in chunk_store.py."""

import errno
import os
from pathlib import Path

import pytest
from tests.harness.upload_rig import NoGuard

from holdfast.datastore import blob
from holdfast.datastore.chunk_store import ChunkStore, Inserted
from holdfast.datastore.keys import EncryptionKey, plain_digest
from holdfast.datastore.options import SyncLevel
from holdfast.errors import DamagedData, HoldfastError, MissingChunk
from holdfast.host import gate

DATA = b"some text that compresses, " * 40
DIGEST = plain_digest(DATA)
KEY = EncryptionKey(bytes(range(32)))
LONG_AGO_NS = 1_000_000_000 * 1_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    (tmp_path / ".chunks").mkdir()
    return ChunkStore(str(tmp_path))


def file_of(store: ChunkStore, content: bytes, digest: bytes = DIGEST) -> Path:
    path = Path(store.path(digest))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return path


def encoded(
    data: bytes = DATA, *, key: EncryptionKey | None = None, level: int | None = 1
) -> bytes:
    return b"".join(blob.encode(data, key=key, level=level))


def insert(store: ChunkStore, content: bytes, digest: bytes = DIGEST) -> Inserted:
    return store.insert(digest, [content[:44], content[44:]], NoGuard())


def was_touched(path: Path) -> bool:
    info = path.stat()
    return info.st_atime_ns > LONG_AGO_NS and info.st_mtime_ns == LONG_AGO_NS


def test_a_chunk_lies_under_the_first_four_digits_of_its_digest(store: ChunkStore) -> None:
    name = DIGEST.hex()

    assert store.path(DIGEST).endswith(f"/.chunks/{name[:4]}/{name}")


def test_a_new_chunk_is_written_with_plain_permissions_and_leaves_no_other_file(
    store: ChunkStore,
) -> None:
    content = encoded()

    assert insert(store, content) == Inserted(duplicate=False, stored_bytes=len(content))
    path = Path(store.path(DIGEST))
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(path.parent) == [path.name]
    assert store.read_raw(DIGEST) == content


def test_a_file_of_the_same_length_is_touched_and_kept(store: ChunkStore) -> None:
    content = encoded()
    path = file_of(store, content)

    assert insert(store, content) == Inserted(duplicate=True, stored_bytes=len(content))
    assert was_touched(path)


def test_an_empty_file_is_overwritten(store: ChunkStore) -> None:
    path = file_of(store, b"")

    assert not insert(store, encoded()).duplicate
    assert path.read_bytes() == encoded()


def test_a_longer_plain_file_is_replaced_by_the_shorter_form(store: ChunkStore) -> None:
    path = file_of(store, encoded(level=None))

    assert not insert(store, encoded()).duplicate
    assert path.read_bytes() == encoded()


def test_a_shorter_file_with_a_sound_checksum_is_kept(store: ChunkStore) -> None:
    short = encoded()
    path = file_of(store, short)

    assert insert(store, encoded(level=None)) == Inserted(duplicate=True, stored_bytes=len(short))
    assert was_touched(path)


@pytest.mark.parametrize("kept", [1, 12, 40])
def test_a_file_cut_short_by_a_power_failure_is_written_anew(store: ChunkStore, kept: int) -> None:
    path = file_of(store, encoded()[:kept])

    assert not insert(store, encoded()).duplicate
    assert path.read_bytes() == encoded()


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("kept", [0, 44])
def test_a_file_whose_content_a_power_failure_lost_is_written_anew(
    store: ChunkStore, key: EncryptionKey | None, kept: int
) -> None:
    content = encoded(key=key)
    path = file_of(store, content[:kept].ljust(len(content), b"\0"))

    assert not insert(store, content).duplicate
    assert path.read_bytes() == content


def test_a_file_of_the_same_length_in_another_form_is_kept_if_it_is_sound(
    store: ChunkStore,
) -> None:
    other = encoded(level=None)
    path = file_of(store, other)

    assert insert(store, other[:8] + b"????" + other[12:]).duplicate
    assert was_touched(path)


def test_an_encrypted_chunk_that_is_there_is_kept(store: ChunkStore) -> None:
    path = file_of(store, encoded(key=KEY))

    assert insert(store, encoded(key=KEY)).duplicate
    assert was_touched(path)


def test_an_encrypted_chunk_never_takes_a_plain_one_for_itself(store: ChunkStore) -> None:
    file_of(store, encoded())

    with pytest.raises(DamagedData):
        insert(store, encoded(key=KEY))


def test_two_uncompressed_encrypted_forms_must_have_the_same_length(store: ChunkStore) -> None:
    file_of(store, encoded(DATA + b"!", key=KEY, level=None))

    with pytest.raises(DamagedData):
        insert(store, encoded(key=KEY, level=None))


def test_an_encrypted_chunk_of_another_level_is_kept(store: ChunkStore) -> None:
    path = file_of(store, encoded(key=KEY))

    assert insert(store, encoded(key=KEY, level=None)).duplicate
    assert was_touched(path)


def test_something_else_under_the_name_is_reported_and_left_alone(store: ChunkStore) -> None:
    Path(store.path(DIGEST)).mkdir(parents=True)

    with pytest.raises(DamagedData):
        insert(store, encoded())


def test_a_link_under_the_name_is_not_followed(store: ChunkStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(encoded())
    Path(store.path(DIGEST)).parent.mkdir()
    Path(store.path(DIGEST)).symlink_to(outside)

    with pytest.raises(DamagedData):
        insert(store, encoded())


def test_touching_tells_whether_the_chunk_is_there(store: ChunkStore) -> None:
    assert not store.touch(DIGEST)
    path = file_of(store, encoded())

    assert store.touch(DIGEST)
    assert was_touched(path)


def test_reading_a_chunk_that_is_not_there_names_it(store: ChunkStore) -> None:
    with pytest.raises(MissingChunk) as caught:
        store.read_raw(DIGEST)

    assert caught.value.digest == DIGEST


@pytest.mark.parametrize(
    ("level", "expected"),
    [(SyncLevel.NONE, []), (SyncLevel.FILESYSTEM, ["flush"]), (SyncLevel.FILE, ["fsync"] * 2)],
)
def test_level_file_waits_for_each_chunk_and_its_directory_and_level_filesystem_only_begins(
    tmp_path: Path, level: SyncLevel, expected: list[str]
) -> None:
    (tmp_path / ".chunks").mkdir()
    calls: list[str] = []

    with gate.installed(lambda call, _path: calls.append(call)):
        insert(ChunkStore(str(tmp_path), sync_level=level), encoded())

    assert [call for call in calls if call in ("flush", "fsync")] == expected


def test_a_disk_error_when_flushing_begins_is_reported(store: ChunkStore) -> None:
    def broken(call: str, _path: object) -> None:
        if call == "flush":
            raise OSError(errno.EIO, "Input/output error")

    with gate.installed(broken), pytest.raises(HoldfastError):
        insert(store, encoded())
    assert not Path(store.path(DIGEST)).exists()


@pytest.mark.parametrize("key", [None, KEY])
def test_a_sound_chunk_is_kept_before_anything_is_compressed(
    store: ChunkStore, key: EncryptionKey | None
) -> None:
    content = encoded(key=key)
    path = file_of(store, content)

    kept = store.keep(DIGEST, NoGuard(), is_encrypted=key is not None)

    assert kept == len(content)
    assert was_touched(path)


@pytest.mark.parametrize(
    "content",
    [b"", encoded()[:-1], encoded()[:40] + bytes(len(encoded()) - 40), b"no chunk at all"],
    ids=["empty", "cut short", "content lost", "another file"],
)
def test_what_is_not_sound_is_not_kept(store: ChunkStore, content: bytes) -> None:
    path = file_of(store, content)

    assert store.keep(DIGEST, NoGuard(), is_encrypted=False) == 0
    assert not was_touched(path)


def test_nothing_or_the_other_kind_is_not_kept(store: ChunkStore) -> None:
    assert store.keep(DIGEST, NoGuard(), is_encrypted=False) == 0
    file_of(store, encoded(key=KEY))

    assert store.keep(DIGEST, NoGuard(), is_encrypted=False) == 0
