"""What a store holds, read from its directories: namespaces, groups, snapshots, their files.

Only real directories with proper names count; links, odd names and dates that no calendar has are
passed over, whoever put them there. Directories are read without moving their access times.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from holdfast.datastore.manifest import MANIFEST_NAME, SUFFIXES
from holdfast.errors import BadRequest
from holdfast.host import files
from holdfast.ids import (
    NAMESPACE_DEPTH_MAX,
    BackupType,
    GroupId,
    Namespace,
    SnapshotId,
    is_safe_id,
    name_to_epoch,
)

_TEMPORARY: Final = ".tmp_"  # in the name of every file that is being written
_TYPES: Final = (BackupType.VM, BackupType.CT, BackupType.HOST)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a snapshot as it lies on the disk: name and length in bytes."""

    name: str
    size: int


def directories(path: str) -> list[str]:
    """Names of the real directories in `path`, sorted; none when it is missing (OSError)."""
    try:
        with files.scanned(path) as found:
            return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def child_namespaces(base: str, parent: Namespace) -> Iterator[Namespace]:
    """Directly below `parent`, by name (OSError)."""
    if len(parent.parts) >= NAMESPACE_DEPTH_MAX:
        return
    for name in directories(os.path.join(base, parent.path, "ns")):
        with suppress(BadRequest):
            yield parent.child(name)


def namespaces(base: str, below: Namespace, depth: int) -> Iterator[Namespace]:
    """`below` itself, then each child followed by its own, `depth` levels down (OSError)."""
    yield below
    if depth > 0:
        for child in child_namespaces(base, below):
            yield from namespaces(base, child, depth - 1)


def groups(base: str, ns: Namespace) -> list[GroupId]:
    """In the order of verification (OSError)."""
    found = [
        GroupId(kind, name, ns)
        for kind in _TYPES
        for name in directories(os.path.join(base, ns.path, kind.value))
        if is_safe_id(name)
    ]
    return sorted(found, key=lambda group: group.sort_key)


def snapshots(base: str, group: GroupId) -> list[SnapshotId]:
    """Oldest first, finished or not (OSError)."""
    found = []
    for name in directories(os.path.join(base, group.path)):
        with suppress(BadRequest):
            snapshot = SnapshotId(group, name_to_epoch(name))
            if snapshot.time_name == name:
                found.append(snapshot)
    return sorted(found, key=lambda snapshot: snapshot.time_s)


def is_finished(base: str, snapshot: SnapshotId) -> bool:
    """Whether the snapshot has a manifest (OSError)."""
    return is_regular(os.path.join(base, snapshot.path, MANIFEST_NAME))


def is_abandoned(base: str, snapshot: SnapshotId) -> bool:
    """Whether a snapshot without manifest, that nobody holds, is what an interrupted backup left.

    Such a backup leaves no file at all or one half written. Where all files are whole, it may be the
    manifest that was lost (OSError).
    """
    with files.scanned(os.path.join(base, snapshot.path)) as entries:
        names = [entry.name for entry in entries]
    is_whole = any(name.endswith(SUFFIXES) for name in names)
    return not is_whole or any(_TEMPORARY in name for name in names)


def is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def snapshot_files(base: str, snapshot: SnapshotId) -> list[StoredFile]:
    """Indexes and blobs by name, the manifest among them (OSError)."""
    found = []
    try:
        with files.scanned(os.path.join(base, snapshot.path)) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIXES) and is_safe_id(entry.name):
                    with suppress(FileNotFoundError):
                        info = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(info.st_mode):
                            found.append(StoredFile(entry.name, info.st_size))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda file: file.name)
