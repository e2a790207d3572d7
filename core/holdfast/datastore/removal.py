"""Taking directories of a store away so that a crash at any step leaves nothing half believed.

A snapshot's manifest goes first: what a killed removal leaves is an unfinished snapshot, never a
finished one with files missing. Directories that somebody fills meanwhile stay.
"""

import errno
import os
from collections.abc import Iterable

from holdfast.datastore.layout import NOTES_NAME, OWNER_NAME
from holdfast.datastore.manifest import MANIFEST_NAME
from holdfast.host import files
from holdfast.ids import BackupType


def remove_snapshot_tree(path: str) -> None:
    """Remove a snapshot's directory; the caller holds its locks (OSError)."""
    _unlink_if_there(os.path.join(path, MANIFEST_NAME))
    for directory, directories, names in os.walk(path, topdown=False, onerror=_report):
        for name in names:
            _unlink_if_there(os.path.join(directory, name))
        for name in directories:
            inner = os.path.join(directory, name)
            if os.path.islink(inner):
                _unlink_if_there(inner)
            else:
                _remove_if_there(inner)
    _remove_if_there(path)


def remove_group_directory(path: str) -> bool:
    """Remove a group without snapshots, its owner last; False when something else is in it."""
    known = {OWNER_NAME, NOTES_NAME}
    if any(name not in known and not _is_leftover(name) for name in os.listdir(path)):
        return False
    for name in sorted(os.listdir(path), key=lambda name: name == OWNER_NAME):
        _unlink_if_there(os.path.join(path, name))
    return remove_if_empty(path)


def remove_namespace_directory(path: str) -> bool:
    """Remove a namespace without groups and children; False when something is left in it."""
    remove_all_if_empty(os.path.join(path, kind) for kind in (*BackupType, "ns"))
    return remove_if_empty(path)


def remove_all_if_empty(paths: Iterable[str]) -> None:
    for path in paths:
        remove_if_empty(path)


def remove_if_empty(path: str) -> bool:
    """Whether the directory is gone afterwards (OSError other than "not empty")."""
    try:
        _remove_if_there(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _is_leftover(name: str) -> bool:
    """Temporary files of an interrupted change of `owner` or `notes`."""
    return name.startswith((f"{OWNER_NAME}.tmp_", f"{NOTES_NAME}.tmp_"))


def _report(error: OSError) -> None:
    raise error


def _unlink_if_there(path: str) -> None:
    try:
        files.unlink(path)
    except FileNotFoundError:
        return


def _remove_if_there(path: str) -> None:
    try:
        files.remove_directory(path)
    except FileNotFoundError:
        return
