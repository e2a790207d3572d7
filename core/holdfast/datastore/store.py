"""One store: open it, list it, read it, change what may be changed.

A store opened READ_ONLY is never written to: no lock file, no access time, no temporary file.
Everything that changes something asks `require_writable` first and takes the lock that belongs to
it (locks.py). Writing backups is session.py's business, chunks are chunk_store.py's.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self

from holdfast.datastore import group_files, layout, removal
from holdfast.datastore.manifest import MANIFEST_NAME, Manifest
from holdfast.datastore.options import StoreOptions
from holdfast.datastore.store_contents import Access, StoreContents
from holdfast.errors import BadRequest, HoldfastError, NotFound, Protected, Refused
from holdfast.host import files
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, Namespace, SnapshotId

__all__ = ["DEFAULT_OPTIONS", "Access", "Contents", "Datastore", "Removed"]

DEFAULT_OPTIONS: Final = StoreOptions()
_GROUP_ATTEMPTS: Final = 100


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


class Datastore(StoreContents):
    """An open store; safe to share between threads."""

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
