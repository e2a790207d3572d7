"""The earlier snapshot that a backup may take chunks from.

The newest finished snapshot of the group. It is set aside when its verification failed; when its
signature or key does not fit this run its chunks are of no use, since their digests depend on the
key. A manifest that cannot be read refuses the backup: nobody could say what it would build on.
"""

from collections.abc import Iterator

from holdfast.datastore.index import Index
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode, Manifest, VerifyResult
from holdfast.datastore.store import Datastore
from holdfast.datastore.upload import KnownChunks
from holdfast.errors import DamagedData, HoldfastError, KeyProblem, NotFound
from holdfast.ids import SnapshotId


def unusable_because(manifest: Manifest, key: EncryptionKey | None) -> str | None:
    """Why chunks of that snapshot cannot serve this run, None when they can."""
    fingerprint = manifest.key_fingerprint
    if fingerprint is not None and key is None:
        return "it was made with a key, and this run has none"
    if key is None:
        return None
    if fingerprint is not None and not key.has_fingerprint(fingerprint):
        return "it was made with another key"
    try:
        manifest.check_signature(key)
    except (DamagedData, KeyProblem) as error:
        return error.message
    return None


def has_failed_verification(manifest: Manifest) -> bool:
    state = manifest.verify_state
    return state is not None and state.state is VerifyResult.FAILED


def chunks_of(index: Index) -> Iterator[tuple[bytes, int]]:
    """Digest and length of every chunk of the index, in order."""
    for position in range(index.chunk_count):
        start, end = index.range_at(position)
        yield index.digest_at(position), end - start


class BaseSnapshot:
    """A locked, finished snapshot whose chunks may be used without looking at them.

    Attributes:
        snapshot: which one.
        manifest: what it contains.
        warnings: sentences about indexes that could not be used.
    """

    def __init__(
        self,
        store: Datastore,
        snapshot: SnapshotId,
        manifest: Manifest,
        known: KnownChunks,
        crypt_mode: CryptMode,
    ) -> None:
        self.snapshot = snapshot
        self.manifest = manifest
        self.warnings: list[str] = []
        self._store = store
        self._known = known
        self._crypt_mode = crypt_mode
        self._indexes: dict[str, Index | None] = {}

    def index(self, filename: str) -> Index | None:
        """The index `filename`, its chunks known from now on.

        None when the snapshot has no such file, has it with another crypt mode, or when the file
        is not what the manifest says; the last leaves a warning.
        """
        if filename not in self._indexes:
            self._indexes[filename] = self._open(filename)
        return self._indexes[filename]

    def _open(self, filename: str) -> Index | None:
        try:
            entry = self.manifest.entry(filename)
        except NotFound:
            return None
        if entry.crypt_mode is not self._crypt_mode:
            return None
        try:
            index = self._store.open_index_file(self.snapshot, filename)
        except HoldfastError as error:
            self.warnings.append(f"{filename} of {self.snapshot} cannot be used: {error.message}")
            return None
        if (index.size_bytes, index.checksum()) != (entry.size, entry.csum):
            self.warnings.append(f"{filename} of {self.snapshot} is not what its manifest says")
            return None
        self._known.register(chunks_of(index))
        return index
