"""One store: open it, list it, read it, change what may be changed.

A store opened READ_ONLY is never written to: no lock file, no access time, no temporary file.
Everything that changes something asks `require_writable` first and takes the lock that belongs to
it (locks.py). Writing backups is session.py's business, chunks are chunk_store.py's.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Final, Self

from holdfast.datastore import blob, group_files, layout, listing, removal
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
from holdfast.errors import (
    BadRequest,
    DamagedData,
    HoldfastError,
    NotFound,
    Protected,
    ReadOnlyViolation,
    Refused,
)
from holdfast.host import files
from holdfast.host.locks import LockMode
from holdfast.ids import NAMESPACE_DEPTH_MAX, GroupId, Namespace, SnapshotId, is_safe_id

DEFAULT_OPTIONS: Final = StoreOptions()
_GROUP_ATTEMPTS: Final = 100


class Access(Enum):
    """What a store is opened for."""

    READ_ONLY = "read-only"
    READ_WRITE = "read-write"


class Contents(StrEnum):
    """What becomes of the groups of a namespace that is removed."""

    REFUSE = "refuse"  # remove nothing when there are any
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did.

    Attributes:
        snapshots: gone.
        protected: still there, because somebody protected them.
        is_complete: the group or namespace itself is gone, too.
    """

    snapshots: tuple[SnapshotId, ...]
    protected: tuple[SnapshotId, ...]
    is_complete: bool


class Datastore:
    """An open store; safe to share between threads.

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

    @classmethod
    def open(
        cls,
        base: str,
        access: Access,
        *,
        name: str | None = None,
        options: StoreOptions = DEFAULT_OPTIONS,
    ) -> Self:
        """Open the store in the directory `base`.

        Raises:
            NotFound: there is no store.
            Refused: to be written to, and this user or file system does not allow it.
        """
        path = os.path.realpath(base)
        if not layout.is_store(path):
            raise NotFound(f"there is no store in {path}", hint="create one with `holdfast init`")
        if access is Access.READ_WRITE and not os.access(
            os.path.join(path, layout.CHUNKS_NAME), os.W_OK | os.X_OK
        ):
            raise Refused(f"the store {path} cannot be written to by this user")
        return cls(path, access, name, options)

    @classmethod
    def create(
        cls, base: str, *, name: str | None = None, options: StoreOptions = DEFAULT_OPTIONS
    ) -> Self:
        """Lay out a new, empty store; owned by Proxmox's user where root and that user exist.

        Raises:
            Refused: the place is not empty, already a store, or inside one.
        """
        path = os.path.realpath(base)
        layout.create_layout(path, owner_ids=layout.owner_of_new_store())
        return cls(path, Access.READ_WRITE, name, options)

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
        try:
            self._check_directory(item.path)
        except NotFound:
            return False
        return True

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

    # Changing -------------------------------------------------------------------------------------

    def set_owner(self, group: GroupId, owner: str) -> None:
        """Give the group to `owner`, an auth id (Busy while a backup runs)."""
        self.require_writable()
        self._check_directory(group.path)
        with self.locks.group(group), files.explained(f"changing the owner of {group}"):
            group_files.write_owner(self.base, group, owner, self.owner_ids)

    def set_notes(self, group: GroupId, text: str) -> None:
        """Replace the group's free text."""
        self.require_writable()
        self._check_directory(group.path)
        with files.explained(f"changing the notes of {group}"):
            group_files.write_notes(self.base, group, text, self.owner_ids)

    def set_snapshot_notes(self, snapshot: SnapshotId, text: str) -> None:
        """Replace the snapshot's free text; an empty one removes it."""
        group_files.encoded_text(text)

        def change(unprotected: dict[str, Any]) -> None:
            unprotected["notes"] = text
            if not text:
                del unprotected["notes"]

        self.update_unprotected(snapshot, change)

    def update_unprotected(
        self, snapshot: SnapshotId, change: Callable[[dict[str, Any]], None]
    ) -> Manifest:
        """Change what the signature does not cover, under the manifest's lock.

        Args:
            snapshot: a finished one.
            change: edits a copy of the JSON object in place.

        Returns:
            The manifest as it is now.

        Raises:
            Busy: somebody else has held the manifest for five seconds.
            NotFound, DamagedData: as `manifest`.
        """
        self.require_writable()
        self._check_directory(snapshot.path)
        if not self.is_finished(snapshot):
            raise NotFound(f"{snapshot} is not finished: it has no manifest")
        with self.locks.manifest(snapshot):
            manifest = self.manifest(snapshot)
            unprotected = json.loads(json.dumps(manifest.unprotected))  # a copy down to the leaves
            change(unprotected)
            changed = replace(manifest, unprotected=unprotected)
            self.write_manifest(snapshot, changed)
        return changed

    def write_manifest(self, snapshot: SnapshotId, manifest: Manifest) -> None:
        """Put the manifest in place in one step; the caller holds the right lock.

        Which is the manifest's own, or the exclusive lock of a snapshot that has none yet.
        """
        self.require_writable()
        with files.explained(f"writing the manifest of {snapshot}"):
            files.replace_file(
                self.path_of(snapshot, MANIFEST_NAME),
                manifest.encode(),
                mode=layout.FILE_MODE,
                owner=self.owner_ids,
            )

    def set_protected(self, snapshot: SnapshotId, *, protected: bool) -> None:
        """Keep the snapshot from being removed, or allow it again (Busy while in use)."""
        self.require_writable()
        self._check_directory(snapshot.path)
        path = self.path_of(snapshot, layout.PROTECTED_NAME)
        with (
            self.locks.snapshot(snapshot, LockMode.EXCLUSIVE),
            files.explained(f"changing the protection of {snapshot}"),
        ):
            if protected and not os.path.lexists(path):
                files.replace_file(path, [], mode=layout.FILE_MODE, owner=self.owner_ids)
            elif not protected:
                with suppress(FileNotFoundError):
                    files.unlink(path)

    def create_namespace(self, ns: Namespace) -> None:
        """Make `ns`, whose parent must exist (NotFound, BadRequest when it is there)."""
        self.require_writable()
        if ns.parent is None or self.exists(ns):
            raise BadRequest(f"the namespace {str(ns) or '(root)'} exists already")
        self._check_directory(ns.parent.path)
        with files.explained(f"creating the namespace {ns}"):
            layout.make_directories(self.base, ns.path, owner_ids=self.owner_ids)

    @contextmanager
    def locked_group(self, group: GroupId, owner: str) -> Iterator[str]:
        """Have the group alone, made for `owner` if it is new; gives whose it is.

        A group that lost its owner to a crash before it had any snapshot counts as new.

        Raises:
            Busy: another backup or a removal is at work in the group.
            NotFound: no such namespace.
        """
        self.require_writable()
        self._check_directory(group.ns.path)
        with self._group_made_and_locked(group):
            owner_path = self.path_of(group, layout.OWNER_NAME)
            if not os.path.lexists(owner_path) and not self.snapshots(group):
                with files.explained(f"creating the group {group}"):
                    group_files.write_owner(self.base, group, owner, self.owner_ids)
            yield self.owner(group)

    @contextmanager
    def _group_made_and_locked(self, group: GroupId) -> Iterator[None]:
        """A removal may take the directory away before it is locked: make it again."""
        with ExitStack() as stack:
            for is_last in (*(False,) * (_GROUP_ATTEMPTS - 1), True):
                try:
                    with files.explained(f"creating the group {group}"):
                        layout.make_directories(self.base, group.path, owner_ids=self.owner_ids)
                    stack.enter_context(self.locks.group(group))
                    break
                except HoldfastError as error:
                    vanished = isinstance(error.__cause__, FileNotFoundError)
                    if is_last or not (vanished or isinstance(error, NotFound)):
                        raise
            yield

    def make_snapshot_directory(self, snapshot: SnapshotId) -> None:
        """The empty directory of a new snapshot; the caller holds the group (Refused if there)."""
        self.require_writable()
        self._check_directory(snapshot.group.path)
        with files.explained(f"creating {snapshot}"):
            try:
                files.make_directory(
                    self.path_of(snapshot), mode=layout.BASE_MODE, owner=self.owner_ids
                )
            except FileExistsError as error:
                raise Refused(f"{snapshot} exists already") from error

    # Removing -------------------------------------------------------------------------------------

    def remove_snapshot(self, snapshot: SnapshotId) -> None:
        """Remove the snapshot; its chunks stay until the next garbage collection.

        Raises:
            Busy: it is being written, read or built upon.
            Protected: somebody protected it.
        """
        self.require_writable()
        self._check_directory(snapshot.path)
        with self.locks.snapshot(snapshot, LockMode.EXCLUSIVE):
            if self.is_protected(snapshot):
                raise Protected(
                    f"{snapshot} is protected", hint="lift the protection first, then remove it"
                )
            with self._manifest_lock_if_any(snapshot):
                self.discard_snapshot(snapshot)

    def discard_snapshot(self, snapshot: SnapshotId) -> None:
        """Remove the directory, protected or not; the caller holds the snapshot's lock."""
        self.require_writable()
        with files.explained(f"removing {snapshot}"):
            removal.remove_snapshot_tree(self.path_of(snapshot))

    @contextmanager
    def _manifest_lock_if_any(self, snapshot: SnapshotId) -> Iterator[None]:
        if not self.is_finished(snapshot):
            yield
            return
        with self.locks.manifest(snapshot):
            yield

    def remove_group(self, group: GroupId) -> Removed:
        """Remove all snapshots that are not protected, and the group when none is left.

        Raises:
            Busy: a backup runs in the group, or one of its snapshots is in use; those that were
                removed before stay removed.
        """
        self.require_writable()
        self._check_directory(group.path)
        gone: list[SnapshotId] = []
        protected: list[SnapshotId] = []
        with self.locks.group(group):
            for snapshot in self.snapshots(group):
                try:
                    self.remove_snapshot(snapshot)
                except Protected:
                    protected.append(snapshot)
                else:
                    gone.append(snapshot)
            with files.explained(f"removing {group}"):
                path = self.path_of(group)
                is_complete = not protected and removal.remove_group_directory(path)
        return Removed(tuple(gone), tuple(protected), is_complete)

    def remove_namespace(self, ns: Namespace, contents: Contents = Contents.REFUSE) -> Removed:
        """Remove a namespace and those below it.

        Raises:
            Refused: it is the root, or not empty and `contents` says to refuse.
            Busy: something in it is in use.
        """
        self.require_writable()
        if ns.parent is None:
            raise Refused("the root namespace cannot be removed")
        tree = self.namespaces(ns)
        groups = [group for each in tree for group in self.groups(each)]
        if contents is Contents.REFUSE and (groups or len(tree) > 1):
            raise Refused(
                f"the namespace {ns} is not empty",
                hint="remove what is in it first, or ask for its contents to be deleted",
            )
        outcomes = [self.remove_group(group) for group in groups]
        with files.explained(f"removing the namespace {ns}"):
            paths = [self.path_of(each) for each in reversed(tree)]
            left = [path for path in paths if not removal.remove_namespace_directory(path)]
            is_complete = not left
            if is_complete and ns.parent is not None:
                removal.remove_if_empty(self.path_of(ns.parent, "ns"))
        return Removed(
            tuple(each for outcome in outcomes for each in outcome.snapshots),
            tuple(each for outcome in outcomes for each in outcome.protected),
            is_complete,
        )


def _check_index_name(filename: str) -> None:
    if not filename.endswith((".fidx", ".didx")):
        raise BadRequest(f"{filename!r} is no index")
