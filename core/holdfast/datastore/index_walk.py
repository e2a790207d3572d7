"""Finds every index file below a store's base while backups and removals go on.

Whatever the walk yields has to be opened at once, before the next one is asked for. Directories are
visited in the order of their names, which inside a group is oldest snapshot first, and listed again
until they hold no directory that was not visited. A backup relies on chunks of an OLDER snapshot
of its group, and that one stays until the backup has put its own index in place. So a walk which
comes too late for the older index comes in time for the newer one: no chunk slips through between
two snapshots. The full argument is in docs/decisions/gc-beside-writers.md.
"""

import os
import re
from collections.abc import Iterator
from typing import Final

from holdfast.errors import BadRequest
from holdfast.host import files
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId, name_to_epoch

SUFFIXES: Final = (".fidx", ".didx")
_EXPECTED: Final = re.compile(
    r"((?:ns/[^/]+/)*)(vm|ct|host)/([^/]+)/([0-9]{4}-[0-9-]{5}T[0-9:]{8}Z)/[^/]+"
)


def index_files(base: str, seen: set[str]) -> Iterator[str]:
    """Paths of index files relative to `base` that are not in `seen`; adds them to it.

    Hidden names are skipped, symbolic links are not followed, what vanishes meanwhile is ignored.

    Raises:
        HoldfastError: a directory cannot be read, so that indexes might be overlooked.
    """
    return _below(base, "", seen)


def _below(base: str, directory: str, seen: set[str]) -> Iterator[str]:
    visited: set[str] = set()
    while True:
        directories = False
        for name, is_directory in _names(base, directory):
            if name in visited:
                continue
            visited.add(name)
            path = f"{directory}/{name}" if directory else name
            if is_directory:
                directories = True
                yield from _below(base, path, seen)
            elif path not in seen:
                seen.add(path)
                yield path
        if not directories:  # files appear in snapshots only, and the next walk finds those
            return


def _names(base: str, directory: str) -> list[tuple[str, bool]]:
    """Directories and index files of one directory by name; nothing when it is gone."""
    found = []
    try:
        with files.scanned(os.path.join(base, directory)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, True))
                elif entry.name.endswith(SUFFIXES) and entry.is_file(follow_symlinks=False):
                    found.append((entry.name, False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        if directory == "lost+found":
            return []
        raise files.as_holdfast_error(error, f"listing {directory or base}") from error
    except OSError as error:
        raise files.as_holdfast_error(error, f"listing {directory or base}") from error
    found.sort()
    return found


def snapshot_of(path: str) -> SnapshotId | None:
    """The snapshot that an index at `path` belongs to; None when it lies in an unexpected place."""
    match = _EXPECTED.fullmatch(path)
    if match is None:
        return None
    spaces, kind, group, time_name = match.groups()
    try:
        ns = Namespace(tuple(spaces.split("/")[1::2]))
        return SnapshotId(GroupId(BackupType(kind), group, ns), name_to_epoch(time_name))
    except BadRequest:
        return None
