"""What a store holds: finding, listing and reading it, all that READ_ONLY allows.

Nothing here writes: no lock file, no access time, no temporary file. `store.Datastore` adds what
changes a store.
"""

import hashlib
import os
from enum import Enum

from holdfast.datastore import blob, group_files, layout, listing
from holdfast.datastore.index import Index, open_index
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.listing import StoredFile
from holdfast.datastore.locks import PROXMOX_RUN, StoreLocks, proxmox_name
from holdfast.datastore.manifest import (
    CLIENT_LOG_NAME,
    MANIFEST_BYTES_MAX,
    MANIFEST_NAME,
    ROOT,
    FileEntry,
    Manifest,
)
from holdfast.datastore.options import StoreOptions
from holdfast.datastore.process_lock import StoreLock
from holdfast.errors import BadRequest, DamagedData, NotFound, ReadOnlyViolation
from holdfast.host import files
from holdfast.ids import NAMESPACE_DEPTH_MAX, GroupId, Namespace, SnapshotId, is_safe_id


class Access(Enum):
    """What a store is opened for."""

    READ_ONLY = "read-only"
    READ_WRITE = "read-write"


class StoreContents:
    """An open store as readers know it; safe to share between threads.

    Attributes:
        base: absolute path without symbolic links.
        name: for messages and task names.
        access: what it was opened for.
        options: the configuration's choices.
        owner_ids: uid and gid that new files are given to; None when that happens by itself.
        locks: group, snapshot and manifest locks.
        store_lock: keeps writers and garbage collection apart.
    """

    def __init__(self, base: str, access: Access, name: str | None, options: StoreOptions) -> None:
        self.base = base
        self.access = access
        self.name = name or os.path.basename(base) or "store"
        self.options = options
        self.owner_ids = layout.owner_of_store(base)
        self.store_lock = StoreLock(base, owner_ids=self.owner_ids)
        known_as = proxmox_name(base)
        self.locks = StoreLocks(
            base,
            proxmox_locks=known_as and os.path.join(PROXMOX_RUN, "locks", known_as),
            owner_ids=self.owner_ids,
            is_writable=access is Access.READ_WRITE,
        )

    @property
    def is_writable(self) -> bool:
        return self.access is Access.READ_WRITE

    def require_writable(self) -> None:
        """Pass when the store may be changed (ReadOnlyViolation)."""
        if not self.is_writable:
            raise ReadOnlyViolation(f"the store {self.name} was opened for reading only")

    # Listing --------------------------------------------------------------------------------------

    def namespaces(self, below: Namespace = ROOT, depth: int | None = None) -> list[Namespace]:
        """`below` itself and everything `depth` levels down, parents first (NotFound)."""
        self._check_directory(below.path)
        with files.explained(f"listing the namespaces of {self.name}"):
            levels = NAMESPACE_DEPTH_MAX if depth is None else depth
            return list(listing.namespaces(self.base, below, levels))

    def groups(self, ns: Namespace = ROOT) -> list[GroupId]:
        """All groups of one namespace: containers, hosts, machines, numbers before names (NotFound)."""
        self._check_directory(ns.path)
        with files.explained(f"listing the groups of {self.name}"):
            return listing.groups(self.base, ns)

    def snapshots(self, group: GroupId) -> list[SnapshotId]:
        """Oldest first, finished or not (NotFound for no such group)."""
        self._check_directory(group.path)
        with files.explained(f"listing the snapshots of {group}"):
            return listing.snapshots(self.base, group)

    def files(self, snapshot: SnapshotId) -> list[StoredFile]:
        """Indexes and blobs on the disk by name, whether the manifest knows them or not."""
        self._check_directory(snapshot.path)
        with files.explained(f"listing the files of {snapshot}"):
            return listing.snapshot_files(self.base, snapshot)

    def exists(self, item: GroupId | SnapshotId | Namespace) -> bool:
        """Whether the group, snapshot or namespace is there."""
        return layout.has_real_directory(self.base, item.path)

    def is_finished(self, snapshot: SnapshotId) -> bool:
        """Whether the snapshot has a manifest; it may still be damaged."""
        with files.explained(f"looking at {snapshot}"):
            return listing.is_finished(self.base, snapshot)

    def is_protected(self, snapshot: SnapshotId) -> bool:
        """Whether the snapshot refuses to be removed."""
        return os.path.lexists(self.path_of(snapshot, layout.PROTECTED_NAME))

    def newest_finished(self, group: GroupId) -> SnapshotId | None:
        """The snapshot a new backup may build on."""
        return next(
            (each for each in reversed(self.snapshots(group)) if self.is_finished(each)), None
        )

    def path_of(self, item: GroupId | SnapshotId | Namespace, filename: str = "") -> str:
        """Absolute path of a directory of the store, or of a file in it."""
        parts = [self.base, item.path, filename]
        return "/".join(part for part in parts if part)

    def _check_directory(self, relative: str) -> None:
        layout.check_real_directory(self.base, relative)

    # Reading --------------------------------------------------------------------------------------

    def manifest(self, snapshot: SnapshotId, *, key: EncryptionKey | None = None) -> Manifest:
        """What the snapshot contains.

        Args:
            snapshot: a finished one.
            key: check that this key signed it, if it is signed.

        Raises:
            NotFound: no such snapshot, or it is not finished.
            DamagedData: the manifest cannot be believed.
            KeyProblem: signed with another key.
        """
        self._check_directory(snapshot.path)
        with files.explained(f"reading the manifest of {snapshot}"):
            try:
                data = files.read_file(
                    self.path_of(snapshot, MANIFEST_NAME), size_max=MANIFEST_BYTES_MAX
                )
            except FileNotFoundError as error:
                raise NotFound(
                    f"{snapshot} is not finished: it has no manifest",
                    hint="it is still being written, or its backup was interrupted",
                ) from error
        try:
            manifest = Manifest.decode(data, ns=snapshot.ns)
            if key is not None:
                manifest.check_signature(key)
        except DamagedData as error:
            what = f"the manifest of {snapshot}"
            raise DamagedData(what, error.reason, hint=error.hint) from error
        return manifest

    def open_index(
        self, snapshot: SnapshotId, filename: str, *, key: EncryptionKey | None = None
    ) -> Index:
        """An index of a finished snapshot that is exactly what its manifest says of it.

        Args:
            snapshot: a finished one.
            filename: listed in its manifest, ending in `.fidx` or `.didx`.
            key: also check that this key signed the manifest, if it is signed.

        Raises:
            NotFound: not listed, or its file is missing.
            DamagedData: the manifest cannot be believed, or the index is another.
            KeyProblem: signed with another key.
            BadRequest: the name is none of an index.
        """
        _check_index_name(filename)
        return self.open_listed_index(snapshot, self.manifest(snapshot, key=key).entry(filename))

    def open_listed_index(self, snapshot: SnapshotId, entry: FileEntry) -> Index:
        """The index that `entry` of the manifest describes (NotFound, DamagedData)."""
        index = self.open_index_file(snapshot, entry.filename)
        if (index.size_bytes, index.checksum()) != (entry.size, entry.csum):
            raise DamagedData(
                f"{entry.filename} of {snapshot}", "it is not the index the manifest lists"
            )
        return index

    def open_index_file(self, snapshot: SnapshotId, filename: str) -> Index:
        """An index as it lies there, whatever the manifest says: for checks and counts.

        Raises:
            NotFound, DamagedData: there is none, or it is malformed.
            BadRequest: the name is none of an index.
        """
        self._check_directory(snapshot.path)
        _check_index_name(filename)
        return open_index(self._file_path(snapshot, filename))

    def read_blob(
        self, snapshot: SnapshotId, filename: str, key: EncryptionKey | None = None
    ) -> bytes:
        """The decoded contents of a `.blob`, exactly as the manifest lists it.

        `client.log.blob` is never listed and is taken as it is.

        Raises:
            NotFound: not listed, or its file is missing.
            DamagedData: it is another file, or cannot be decoded.
            KeyProblem: encrypted and no key given, or the manifest is another key's.
            BadRequest: the name is none of a blob.
        """
        raw = self.read_blob_file(snapshot, filename)
        what = f"{filename} of {snapshot}"
        if filename not in (CLIENT_LOG_NAME, MANIFEST_NAME):
            entry = self.manifest(snapshot, key=key).entry(filename)
            if (len(raw), hashlib.sha256(raw).digest()) != (entry.size, entry.csum):
                raise DamagedData(what, "it is not the file the manifest lists")
        return blob.decode(raw, key=key, what=what)

    def read_blob_file(self, snapshot: SnapshotId, filename: str) -> bytes:
        """The stored form of a `.blob` (NotFound, DamagedData, BadRequest)."""
        self._check_directory(snapshot.path)
        if not filename.endswith(".blob"):
            raise BadRequest(f"{filename!r} is no blob")
        path = self._file_path(snapshot, filename)
        with files.explained(f"reading {filename} of {snapshot}"):
            try:
                return files.read_file(path, size_max=blob.BLOB_FILE_BYTES_MAX)
            except FileNotFoundError as error:
                raise NotFound(f"{snapshot} has no file {filename}") from error

    def _file_path(self, snapshot: SnapshotId, filename: str) -> str:
        if not is_safe_id(filename):
            raise BadRequest(f"{filename!r} cannot name a file of a snapshot")
        return self.path_of(snapshot, filename)

    def owner(self, group: GroupId) -> str:
        """Auth id of whoever may add to the group (NotFound, DamagedData)."""
        self._check_directory(group.path)
        with files.explained(f"reading the owner of {group}"):
            try:
                return group_files.read_owner(self.base, group)
            except FileNotFoundError as error:
                raise DamagedData(f"the owner of {group}", "its file is missing") from error

    def notes(self, group: GroupId) -> str:
        """The group's free text, empty when there is none (NotFound, DamagedData)."""
        self._check_directory(group.path)
        with files.explained(f"reading the notes of {group}"):
            return group_files.read_notes(self.base, group)


def _check_index_name(filename: str) -> None:
    if not filename.endswith((".fidx", ".didx")):
        raise BadRequest(f"{filename!r} is no index")
