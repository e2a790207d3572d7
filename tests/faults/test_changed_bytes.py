"""Every byte of a store, changed or cut off: the right answer or an error, never a wrong answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.stores import SAMPLE, materialise_sample

from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.key_files import KdfName, KeyFile
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import Manifest
from holdfast.datastore.reader import ChunkReader
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import DamagedData, HoldfastError, KeyProblem
from holdfast.ids import SnapshotId

KEY = EncryptionKey(bytes.fromhex(SAMPLE["expect"]["enc_key_hex"]))
FLIPS = (0xFF, 0x01, 0x80)
Question = Callable[[], object]


class _Reading:
    """The sample store and what may be asked about each of its files."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.store = Datastore.open(str(base), Access.READ_ONLY)
        self.chunks = ChunkReader(ChunkStore(self.store.base), KEY)
        self.snapshots = [
            snapshot
            for ns in self.store.namespaces()
            for group in self.store.groups(ns)
            for snapshot in self.store.snapshots(group)
        ]
        self.finished = [each for each in self.snapshots if self.store.is_finished(each)]
        self.manifests = {each: self.store.manifest(each) for each in self.finished}
        self.lengths = {
            index.digest_at(number): index.range_at(number)[1] - index.range_at(number)[0]
            for snapshot in self.finished
            for entry in self.manifests[snapshot].files
            if entry.filename.endswith("idx")
            for index in [self.store.open_index(snapshot, entry.filename)]
            for number in range(index.chunk_count)
        }

    def question_about(self, path: Path) -> Question | None:
        """What the bytes of `path` are asked for; None when nothing vouches for them."""
        if path.parent.parent.name == ".chunks":
            return self._question_about_chunk(path.name)
        snapshot = next((each for each in self.finished if path.parent == self._path(each)), None)
        return self._question_about_file(snapshot, path.name) if snapshot else None

    def _question_about_chunk(self, name: str) -> Question | None:
        if len(name) != 64 or bytes.fromhex(name) not in self.lengths:
            return None
        digest = bytes.fromhex(name)
        return lambda: self.chunks.read(digest, self.lengths[digest])

    def _question_about_file(self, snapshot: SnapshotId, name: str) -> Question | None:
        if name == "index.json.blob":
            return lambda: self._manifest(snapshot)
        if name == "client.log.blob":
            return lambda: self.store.read_blob(snapshot, name, KEY)
        if name.endswith(".blob"):
            return lambda: self.store.read_blob(snapshot, name, KEY)
        return (lambda: self._index(snapshot, name)) if name.endswith("idx") else None

    def _path(self, snapshot: SnapshotId) -> Path:
        return Path(self.store.path_of(snapshot))

    def _manifest(self, snapshot: SnapshotId) -> Manifest:
        manifest = self.store.manifest(snapshot)
        manifest.check_signature(KEY)
        return manifest

    def _index(self, snapshot: SnapshotId, filename: str) -> object:
        index = self.store.open_index(snapshot, filename, key=KEY)
        ranges = [index.range_at(number) for number in range(index.chunk_count)]
        return index.size_bytes, list(index.digests()), ranges


@pytest.fixture
def reading() -> Iterator[_Reading]:
    with quick_directory() as place:
        yield _Reading(materialise_sample(Path(place) / "sample"))


def _files(base: Path) -> list[Path]:
    return sorted(path for path in base.rglob("*") if path.is_file() and path.stat().st_size)


@contextmanager
def _restored(path: Path) -> Iterator[bytes]:
    before = path.read_bytes()
    try:
        yield before
    finally:
        path.write_bytes(before)


def _is_right(ask: Question, truth: object) -> bool:
    """Whether the answer is the truth; False for an error that says so. Anything else fails."""
    try:
        answer = ask()
    except HoldfastError:
        return False
    assert answer == truth
    return True


def test_any_changed_byte_gives_the_right_answer_or_an_error(reading: _Reading) -> None:
    """Goal: no wrong answers. Method: change each byte of each file in three ways, ask, restore."""
    asked = caught = 0
    for path in _files(reading.base):
        ask = reading.question_about(path)
        if ask is None:
            continue
        truth = ask()
        with _restored(path) as before, path.open("r+b", buffering=0) as file:
            for position, byte in enumerate(before):
                for flip in FLIPS if position < 4096 or byte else FLIPS[:1]:
                    file.seek(position)
                    file.write(bytes([byte ^ flip]))
                    asked += 1
                    caught += not _is_right(ask, truth)
                file.seek(position)
                file.write(bytes([byte]))
        assert ask() == truth
    assert asked > 20_000
    assert caught > 5_000


def test_file_cut_off_at_any_byte_is_an_error(reading: _Reading) -> None:
    """Goal: power loss that shortens a file is noticed. Method: every length of every file."""
    for path in _files(reading.base):
        ask = reading.question_about(path)
        if ask is None:
            continue
        with _restored(path) as before, path.open("r+b", buffering=0) as file:
            for length in range(len(before) - 1, -1, -1):
                file.truncate(length)
                with pytest.raises(HoldfastError):
                    ask()


def test_changed_text_files_never_end_in_a_traceback(reading: _Reading) -> None:
    """Nothing vouches for `owner` and `notes`: another text is believed, no text is an error."""
    group = reading.finished[0].group
    asks: dict[str, Question] = {
        "owner": lambda: reading.store.owner(group),
        "notes": lambda: reading.store.notes(group),
    }
    for name, ask in asks.items():
        path = reading.base / group.path / name
        with _restored(path) as before:
            for position, byte in enumerate(before):
                for flip in range(1, 256):
                    path.write_bytes(
                        before[:position] + bytes([byte ^ flip]) + before[position + 1 :]
                    )
                    try:
                        assert isinstance(ask(), str)
                    except HoldfastError:
                        continue


def test_listing_does_not_depend_on_what_files_hold(reading: _Reading) -> None:
    before = reading.snapshots
    for path in _files(reading.base):
        if path.parent.parent.name != ".chunks":
            path.write_bytes(b"\xff" * 40)

    again = Datastore.open(str(reading.base), Access.READ_ONLY)
    found = [
        each
        for ns in again.namespaces()
        for group in again.groups(ns)
        for each in again.snapshots(group)
    ]
    assert found == before


@pytest.mark.parametrize("kdf", [KdfName.NONE, KdfName.PBKDF2])
def test_key_file_with_a_changed_byte_never_gives_another_key(kdf: KdfName) -> None:
    passphrase = None if kdf is KdfName.NONE else b"correct horse"
    text = KeyFile.protect(KEY, passphrase, kdf=kdf).encode()

    for position, byte in enumerate(text):
        changed = text[:position] + bytes([byte ^ 1]) + text[position + 1 :]
        try:
            key_file = KeyFile.decode(changed)
            if key_file.fingerprint is None:
                continue  # the name of the field was hit: nothing announces a key any more
            assert key_file.unlock(passphrase) == KEY
        except (KeyProblem, DamagedData):
            continue
