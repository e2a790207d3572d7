"""A real store made of a few small chunks, without the 65,536 directories of a full one."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from holdfast.datastore import blob
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.dynamic_index import DynamicIndexWriter
from holdfast.datastore.fixed_index import FixedIndexWriter
from holdfast.datastore.index import IndexSummary
from holdfast.datastore.keys import EncryptionKey, chunk_digest, plain_digest
from holdfast.datastore.manifest import CryptMode, FileEntry, Manifest
from holdfast.datastore.store import Access, Datastore
from holdfast.host import files
from holdfast.ids import Namespace, SnapshotId

FIXED_CHUNK_BYTES = 65536
UPID = "UPID:here:00000001:00000001:00000000:65500000:verify:small:root@pam:"


class SmallStore:
    """Writes snapshots the way a backup does, with chunks named by the test.

    Attributes:
        base: the store's directory.
        store: open for writing.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        (base / ".chunks").mkdir(parents=True, mode=0o750)
        self.store = Datastore.open(str(base), Access.READ_WRITE, name="small")
        self.chunks = ChunkStore(str(base))

    def read_only(self) -> Datastore:
        return Datastore.open(str(self.base), Access.READ_ONLY, name="small")

    def path(self, digest: bytes) -> Path:
        return self.base / ".chunks" / digest.hex()[:4] / digest.hex()

    def put(self, data: bytes, *, key: EncryptionKey | None = None) -> bytes:
        """Store a chunk; its digest."""
        digest = chunk_digest(data, key)
        self.path(digest).parent.mkdir(exist_ok=True)
        with self.store.store_lock.chunk_guard() as guard:
            self.chunks.insert(digest, blob.encode(data, key=key), guard)
        return digest

    def snapshot(
        self,
        name: str,
        contents: Mapping[str, Sequence[bytes] | bytes],
        *,
        ns: str = "",
        key: EncryptionKey | None = None,
    ) -> SnapshotId:
        """A finished snapshot.

        Args:
            name: `TYPE/ID/TIME`.
            contents: chunks by name of a `.didx` or `.fidx`, bytes by name of a `.blob`.
            ns: an existing or new namespace.
            key: encrypt and sign with it.
        """
        snapshot = SnapshotId.parse(name, Namespace.parse(ns))
        directory = self.base / snapshot.path
        directory.mkdir(parents=True)
        (directory.parent / "owner").write_text("root@pam\n")
        entries = [self._file(directory, each, data, key) for each, data in contents.items()]
        manifest = Manifest(snapshot, tuple(entries))
        if key is not None:
            manifest = manifest.signed_with(key)
        self.store.write_manifest(snapshot, manifest)
        return snapshot

    def _file(
        self,
        directory: Path,
        name: str,
        data: Sequence[bytes] | bytes,
        key: EncryptionKey | None,
    ) -> FileEntry:
        mode = CryptMode.ENCRYPT if key is not None else CryptMode.NONE
        path = str(directory / name)
        if isinstance(data, bytes):
            raw = b"".join(blob.encode(data, key=key))
            files.replace_file(path, [raw])
            return FileEntry(name, mode, len(raw), plain_digest(raw))
        digests = [self.put(chunk, key=key) for chunk in data]
        summary = write_index(path, digests, [len(chunk) for chunk in data])
        return FileEntry(name, mode, summary.size_bytes, summary.checksum)

    def age_chunks(self, seconds: float) -> None:
        """Make every chunk file look unused for so long."""
        for path in self.chunk_files():
            age(path, seconds)

    def chunk_files(self) -> list[Path]:
        """Everything in the chunk directories, set-aside and temporary files too."""
        return sorted((self.base / ".chunks").glob("*/*"))

    def written(self) -> dict[Path, tuple[int, ...]]:
        """Everything in the store with what changes when it is written to.

        Not the access time: looking at a directory here may change that.
        """
        found = {path: path.lstat() for path in self.base.rglob("*")}
        return {
            path: (info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            for path, info in found.items()
        }

    def digests(self) -> set[bytes]:
        """The chunks that are there."""
        return {bytes.fromhex(path.name) for path in self.chunk_files() if len(path.name) == 64}

    def flip(self, digest: bytes, position: int = -1) -> None:
        """Change one byte of a chunk file behind everybody's back."""
        data = bytearray(self.path(digest).read_bytes())
        data[position] ^= 0xFF
        self.path(digest).write_bytes(data)


def write_index(path: str, digests: Sequence[bytes], lengths: Sequence[int]) -> IndexSummary:
    """An index at `path` by its suffix."""
    if path.endswith(".didx"):
        with DynamicIndexWriter(path) as dynamic:
            end = 0
            for digest, length in zip(digests, lengths, strict=True):
                end += length
                dynamic.append(end, digest)
            return dynamic.close()
    with FixedIndexWriter(path, sum(lengths), FIXED_CHUNK_BYTES) as fixed:
        for position, digest in enumerate(digests):
            fixed.put(position, digest)
        return fixed.close()


def age(path: Path, seconds: float) -> None:
    """Make one file look unused for so long."""
    os.utime(path, (time.time() - seconds, path.stat().st_mtime))
