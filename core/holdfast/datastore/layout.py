"""Where things lie in a store, and how a new one is laid out.

    <base>/               0755    .chunks/            0750    .lock         0644
                                  .chunks/0000..ffff  0750    .gc-status    0644
    [ns/NAME/...]{vm,ct,host}/ID/           0755    a group: owner, notes
    [ns/NAME/...]{vm,ct,host}/ID/TIME/      0755    a snapshot: *.fidx *.didx *.blob .protected
Source: Proxmox Backup, "Technical overview"; story: docs/formats/datastore-layout.md

A new chunk tree grows under another name and gets its own in one step when it is complete, so that
`.chunks` means a whole store. What a killed creation leaves is taken up by the next one.
"""

import os
import pwd
import stat
from typing import Final

from holdfast.datastore.process_lock import LOCK_FILE_MODE, LOCK_NAME, PREFIX_COUNT
from holdfast.errors import Busy, NotFound, Refused
from holdfast.host import files, locks
from holdfast.host.locks import LockMode

CHUNKS_NAME: Final = ".chunks"
PARTIAL_CHUNKS_NAME: Final = ".chunks.partial"
GC_STATUS_NAME: Final = ".gc-status"
OWNER_NAME: Final = "owner"
NOTES_NAME: Final = "notes"
PROTECTED_NAME: Final = ".protected"
BASE_MODE: Final = 0o755
CHUNKS_MODE: Final = 0o750
FILE_MODE: Final = 0o644
PROXMOX_USER: Final = "backup"


def owner_of_new_store() -> tuple[int, int] | None:
    """Uid and gid of Proxmox's user when we are root and it exists; None: whoever runs this."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(PROXMOX_USER)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def owner_of_store(base: str) -> tuple[int, int] | None:
    """Whom new files have to be given to (uid, gid); None when that happens by itself."""
    if os.geteuid() != 0:
        return None
    with files.explained(f"looking at {base}"):
        info = os.stat(os.path.join(base, CHUNKS_NAME))
    ids = (info.st_uid, info.st_gid)
    return None if ids == (os.geteuid(), os.getegid()) else ids


def is_store(base: str) -> bool:
    """Whether `base` holds a chunk tree; a place that may not be looked at counts as none."""
    try:
        return stat.S_ISDIR(os.lstat(os.path.join(base, CHUNKS_NAME)).st_mode)
    except OSError:
        return False


def check_real_directory(base: str, relative: str) -> None:
    """Pass when `relative` is a directory below `base` without a symbolic link on the way.

    Raises:
        NotFound: it is missing, or some part of it is a link or a file.
    """
    path = base
    for part in relative.split("/") if relative else ():
        path = f"{path}/{part}"
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_directory = False
        except OSError as error:
            raise files.as_holdfast_error(error, f"looking for {relative}") from error
        if not is_directory:
            raise NotFound(f"there is no {relative} in this store")


def has_real_directory(base: str, relative: str) -> bool:
    """Whether check_real_directory would pass (HoldfastError when that cannot be seen)."""
    try:
        check_real_directory(base, relative)
    except NotFound:
        return False
    return True


def make_directories(base: str, relative: str, *, owner_ids: tuple[int, int] | None) -> None:
    """Make what is missing of `relative`, each directory with mode 0755 (OSError)."""
    path = base
    for part in relative.split("/"):
        path = f"{path}/{part}"
        try:
            files.make_directory(path, mode=BASE_MODE, owner=owner_ids)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise


def create_layout(base: str, *, owner_ids: tuple[int, int] | None) -> None:
    """Turn `base`, an empty or missing directory, into an empty store.

    Args:
        base: absolute path.
        owner_ids: uid and gid of everything; None: whoever runs this.

    Raises:
        Refused: something else is there, or it lies inside another store.
        Busy: another process is creating a store in the same place.
        NoSpace, Refused: the system's own reasons.
    """
    _check_not_inside_store(base)
    with files.explained(f"creating a store in {base}"):
        _make_base(base, owner_ids)
        fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not locks.try_flock(fd, LockMode.EXCLUSIVE):
                raise Busy(f"another process is working in {base}")
            _check_empty(base)
            _fill(base, owner_ids)
        finally:
            os.close(fd)


def _check_not_inside_store(base: str) -> None:
    parent = os.path.dirname(base)
    while parent != os.path.dirname(parent):
        if is_store(parent):
            raise Refused(f"{base} lies inside the store {parent}", hint="choose another place")
        parent = os.path.dirname(parent)


def _make_base(base: str, owner_ids: tuple[int, int] | None) -> None:
    if os.path.isdir(base):
        return
    parent = os.path.dirname(base)
    if not os.path.isdir(parent):
        _make_base(parent, None)
    files.make_directory(base, mode=BASE_MODE, owner=owner_ids)


def _check_empty(base: str) -> None:
    names = os.listdir(base)
    if CHUNKS_NAME in names:
        raise Refused(
            f"{base} already is a store", hint="open it as it is, or choose another place"
        )
    foreign = sorted(name for name in names if not name.startswith(".") and name != "lost+found")
    if foreign:
        raise Refused(
            f"{base} is not empty: it holds {foreign[0]!r}"
            + (f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""),
            hint="a store needs an empty directory",
        )


def _fill(base: str, owner_ids: tuple[int, int] | None) -> None:
    """The chunk tree under its first name, the lock file, then the real name (OSError)."""
    os.chmod(base, BASE_MODE)
    if owner_ids is not None:
        os.chown(base, *owner_ids)
    partial = os.path.join(base, PARTIAL_CHUNKS_NAME)
    _make_or_fix(partial, owner_ids)
    wanted = [f"{prefix:04x}" for prefix in range(PREFIX_COUNT)]
    done = set(os.listdir(partial))
    if not done <= set(wanted):
        raise Refused(f"{partial} holds something that is no part of a store")
    for name in done:
        _make_or_fix(f"{partial}/{name}", owner_ids)
    missing = [name for name in wanted if name not in done]
    files.make_directories(partial, missing, mode=CHUNKS_MODE, owner=owner_ids)
    files.replace_file(
        os.path.join(base, LOCK_NAME), [], mode=LOCK_FILE_MODE, owner=owner_ids, sync=True
    )
    files.sync_filesystem(partial)  # 65,536 directories: flushed here, not by the first backup
    files.rename(partial, os.path.join(base, CHUNKS_NAME))
    files.fsync_directory(base)


def _make_or_fix(path: str, owner_ids: tuple[int, int] | None) -> None:
    """Like files.make_directory, but takes up one that a killed creation may have left half set."""
    try:
        files.make_directory(path, mode=CHUNKS_MODE, owner=owner_ids)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise
        os.chmod(path, CHUNKS_MODE)
        if owner_ids is not None:
            os.chown(path, *owner_ids, follow_symlinks=False)
