"""What can be said about a snapshot without its chunks: manifest, blobs, and the indexes' tables."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from holdfast.datastore import blob
from holdfast.datastore.index import Index
from holdfast.datastore.index_walk import SUFFIXES as INDEX_SUFFIXES
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode, FileEntry, Manifest
from holdfast.errors import DamagedData, KeyProblem, NotFound
from holdfast.ids import SnapshotId

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore


class SnapshotFate(StrEnum):
    """What verification says about a snapshot."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNFINISHED = "unfinished"  # what an interrupted backup left; no data was ever promised


@dataclass(frozen=True, slots=True)
class CheckedIndex:
    """An index whose table is as the manifest says; its chunks are still to be looked at."""

    filename: str
    index: Index
    wants_encrypted: bool


@dataclass(slots=True)
class SnapshotCheck:
    """What was found so far.

    Attributes:
        problems: sentences; any of them fails the snapshot.
        indexes: whose chunks are to be checked, in the manifest's order.
        key: to check chunks in full with; None when there is none for this snapshot.
    """

    problems: list[str] = field(default_factory=list)
    indexes: list[CheckedIndex] = field(default_factory=list)
    key: EncryptionKey | None = None


def check_files(
    store: "Datastore", snapshot: SnapshotId, manifest: Manifest, key: EncryptionKey | None
) -> SnapshotCheck:
    """Compare every file of the snapshot with its manifest (HoldfastError: cannot be read)."""
    check = SnapshotCheck()
    if manifest.snapshot != snapshot:
        check.problems.append(f"its manifest is that of {manifest.snapshot}")
    _use_key(check, manifest, key)
    for entry in manifest.files:
        try:
            if entry.filename.endswith(INDEX_SUFFIXES):
                check.indexes.append(_checked_index(store, snapshot, entry))
            elif entry.filename.endswith(".blob"):
                _check_blob(store, snapshot, entry, check.key)
            else:
                check.problems.append(f"{entry.filename}: neither an index nor a blob")
        except NotFound:
            check.problems.append(f"{entry.filename}: it is missing")
        except (DamagedData, KeyProblem) as error:
            check.problems.append(f"{entry.filename}: {error.message}")
    return check


def _use_key(check: SnapshotCheck, manifest: Manifest, key: EncryptionKey | None) -> None:
    """Trust the key for this snapshot only if it signed the manifest.

    A wrong key makes every chunk look damaged, and damaged chunks are set aside.
    """
    if key is None or manifest.signature is None:
        return
    try:
        manifest.check_signature(key)
    except KeyProblem:
        return
    except DamagedData as error:
        check.problems.append(error.message)
        return
    check.key = key


def _checked_index(store: "Datastore", snapshot: SnapshotId, entry: FileEntry) -> CheckedIndex:
    index = store.open_index_file(snapshot, entry.filename)
    if index.size_bytes != entry.size:
        raise DamagedData(
            "the index", f"it covers {index.size_bytes} bytes, the manifest says {entry.size}"
        )
    if index.checksum() != entry.csum:
        raise DamagedData("the index", "its table does not match the manifest's checksum")
    return CheckedIndex(entry.filename, index, entry.crypt_mode is CryptMode.ENCRYPT)


def _check_blob(
    store: "Datastore", snapshot: SnapshotId, entry: FileEntry, key: EncryptionKey | None
) -> None:
    raw = store.read_blob_file(snapshot, entry.filename)
    if len(raw) != entry.size:
        raise DamagedData("the blob", f"{len(raw)} bytes, the manifest says {entry.size}")
    if hashlib.sha256(raw).digest() != entry.csum:
        raise DamagedData("the blob", "it does not match the manifest's checksum")
    if blob.check_crc(raw).is_encrypted and key is None:
        return
    blob.decode(raw, key=key)
