r"""Group, snapshot and manifest locks: who may write, remove or rely on what.

    group      exclusive   beginning a backup, removing the group
    snapshot   exclusive   writing it, removing it, changing its protection
               shared      reading it for a restore, verifying it, being the base of a backup
    manifest   exclusive   every change of `index.json.blob`; waits up to five seconds

Always: flock on the group's or snapshot's directory (Proxmox up to 3.3), for manifests on the
manifest file itself. Where Proxmox knows the store under a name, its lock files as well, so that
either of its generations sees us (R = /run/proxmox-backup/locks/NAME):
    3.4 and later  R/[a:b/]ESCAPED, of `vm/100`, `vm/100/TIME` or `vm/100/TIME/.index.json.lck`;
                   255 letters or more: R/[a:b/]hashed/FIRST80...LAST80-SHA256
    before         R/ns/a/vm/100/TIME/TIME.index.json.lck, manifests only
A lock counts only while the path still leads to the file that was locked.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from holdfast.errors import Busy, NotFound
from holdfast.host import files, locks
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, Namespace, SnapshotId
from holdfast.upid import escape

MANIFEST_WAIT_S_MAX: Final = 5.0
PROXMOX_RUN: Final = "/run/proxmox-backup"
PROXMOX_STORES: Final = "/etc/proxmox-backup/datastore.cfg"

_MANIFEST_LOCK: Final = ".index.json.lck"
_MANIFEST_NAME: Final = "index.json.blob"
_NAME_MAX: Final = 255
_LOCK_FILE_MODE: Final = 0o660
_STORES_BYTES_MAX: Final = 1 << 20
_PAUSE_S: Final = 0.01
_ATTEMPTS: Final = 10


def lock_file_name(ns: Namespace, text: str) -> str:
    """Where Proxmox 3.4 and later locks `TYPE/ID...` of a namespace, below R."""
    name = escape(text)
    if len(name) >= _NAME_MAX:
        digest = hashlib.sha256(text.encode()).hexdigest()
        name = f"hashed/{name[:80]}...{name[-80:]}-{digest}"
    return f"{':'.join(ns.parts)}/{name}" if ns.parts else name


def proxmox_name(base: str, *, config_path: str = PROXMOX_STORES) -> str | None:
    """The name under which Proxmox on this host knows the store, None when it does not."""
    try:
        text = files.read_file(config_path, size_max=_STORES_BYTES_MAX).decode(errors="replace")
    except OSError:
        return None
    wanted = os.path.realpath(base)
    name = None
    for line in text.splitlines():
        key, _space, value = line.strip().partition(" ")
        if line.startswith("datastore:"):
            name = value.strip()
        elif name and key == "path" and os.path.realpath(value.strip()) == wanted:
            return name
    return None


class StoreLocks:
    """Takes the locks of one store; safe to share between threads."""

    def __init__(
        self,
        base: str,
        *,
        proxmox_locks: str | None = None,
        owner_ids: tuple[int, int] | None = None,
        is_writable: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Nothing is taken yet.

        Args:
            base: of the store.
            proxmox_locks: R of the module's text, None where Proxmox does not know the store.
            owner_ids: uid and gid of new lock files.
            is_writable: whether lock files may be made; an unwritable store takes those there are.
            clock: for the wait for a manifest.
        """
        self._base = base
        self._proxmox_locks = proxmox_locks
        self._owner_ids = owner_ids
        self._is_writable = is_writable
        self._clock = clock

    @contextmanager
    def group(self, group: GroupId) -> Iterator[None]:
        """Have the group alone (Busy, NotFound)."""
        path = os.path.join(self._base, group.path)
        with self._held(path, lock_file_name(group.ns, str(group)), LockMode.EXCLUSIVE, str(group)):
            yield

    @contextmanager
    def snapshot(self, snapshot: SnapshotId, mode: LockMode) -> Iterator[None]:
        """Have the snapshot alone, or rely on its staying as it is (Busy, NotFound)."""
        path = os.path.join(self._base, snapshot.path)
        name = lock_file_name(snapshot.ns, str(snapshot))
        with self._held(path, name, mode, str(snapshot)):
            yield

    @contextmanager
    def manifest(self, snapshot: SnapshotId) -> Iterator[None]:
        """Be the only one who changes the manifest (Busy after five seconds, NotFound)."""
        what = f"the manifest of {snapshot}"
        targets = [os.path.join(self._base, snapshot.path, _MANIFEST_NAME)]
        if self._proxmox_locks is not None:
            name = lock_file_name(snapshot.ns, f"{snapshot}/{_MANIFEST_LOCK}")
            before = f"{snapshot.path}/{snapshot.time_name}{_MANIFEST_LOCK}"
            targets += [os.path.join(self._proxmox_locks, each) for each in (name, before)]
        deadline = self._clock.monotonic_s() + MANIFEST_WAIT_S_MAX
        with ExitStack() as stack, files.explained(f"locking {what}"):
            for number, target in enumerate(targets):
                fd = self._wait(target, what, deadline, is_lock_file=number > 0)
                stack.callback(os.close, fd)
            held = stack.pop_all()
        with held:
            yield

    def _wait(self, path: str, what: str, deadline: float, *, is_lock_file: bool) -> int:
        while True:
            fd = self._try(path, LockMode.EXCLUSIVE, is_lock_file=is_lock_file)
            if fd is not None:
                return fd
            if self._clock.monotonic_s() >= deadline:
                raise Busy(f"{what} is being changed by somebody else")
            self._clock.wait(_PAUSE_S)

    @contextmanager
    def _held(self, path: str, lock_name: str, mode: LockMode, what: str) -> Iterator[None]:
        """The directory's own lock, then Proxmox's; a lock file goes when its directory went."""
        lock_path = self._proxmox_locks and os.path.join(self._proxmox_locks, lock_name)
        with ExitStack() as stack, files.explained(f"locking {what}"):
            stack.callback(os.close, self._take(path, mode, what, is_lock_file=False))
            if lock_path and (self._is_writable or os.access(lock_path, os.R_OK)):
                stack.callback(os.close, self._take(lock_path, mode, what, is_lock_file=True))
            held = stack.pop_all()
        with held:
            yield
            if lock_path and self._is_writable and not os.path.lexists(path):
                with suppress(OSError):
                    files.unlink(lock_path)

    def _take(self, path: str, mode: LockMode, what: str, *, is_lock_file: bool) -> int:
        fd = self._try(path, mode, is_lock_file=is_lock_file)
        if fd is None:
            raise Busy(f"{what} is in use by another task", hint="try again when that has finished")
        return fd

    def _try(self, path: str, mode: LockMode, *, is_lock_file: bool) -> int | None:
        """A descriptor that holds the lock, None when another one does (NotFound, OSError)."""
        for _attempt in range(_ATTEMPTS):
            fd = self._open(path, is_lock_file=is_lock_file)
            try:
                if not locks.try_flock(fd, mode):
                    os.close(fd)
                    return None
                if _leads_to(path, fd):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        return None

    def _open(self, path: str, *, is_lock_file: bool) -> int:
        if not is_lock_file:
            try:
                return files.open_read(path, extra_flags=os.O_NOFOLLOW | os.O_NONBLOCK)
            except (FileNotFoundError, NotADirectoryError) as error:
                missing = os.path.relpath(path, self._base)
                raise NotFound(f"there is no {missing} in this store") from error
        if not self._is_writable:
            return files.open_read(path, extra_flags=os.O_NOFOLLOW)
        try:
            return files.open_update(path)
        except FileNotFoundError:
            return self._create_lock_file(path)

    def _create_lock_file(self, path: str) -> int:
        self._make_parents(os.path.dirname(path))
        try:
            fd = files.create(path, mode=_LOCK_FILE_MODE)
        except FileExistsError:
            return files.open_update(path)
        if self._owner_ids is not None:
            os.fchown(fd, *self._owner_ids)
        return fd

    def _make_parents(self, directory: str) -> None:
        if os.path.isdir(directory):
            return
        self._make_parents(os.path.dirname(directory))
        with suppress(FileExistsError):
            files.make_directory(directory, mode=0o755, owner=self._owner_ids)


def _leads_to(path: str, fd: int) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
