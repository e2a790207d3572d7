"""Sweep phase of garbage collection: one chunk directory after the other.

In each directory the chunks somebody refers to are touched, then the others are judged by their
access time. To delete one, the sweep takes the directory's lock alone, looks at the file again and
deletes it only if it is still old: a writer that found the chunk meanwhile has touched it under the
same lock. Set-aside copies (`DIGEST.N.bad`) are kept by touching while their digest is referred to
and has no good file; otherwise they grow old like any other.

What a killed writer left half written (`DIGEST.tmp_XXXXXX`) goes by the same rule of age.

Directories are independent of each other, so the sweep may stop, or be killed, between any two steps.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from holdfast.datastore import digest_set
from holdfast.datastore.access_times import Age, AgeLimits
from holdfast.datastore.digest_set import Digests
from holdfast.datastore.observer import Observer
from holdfast.datastore.process_lock import PrefixGuard
from holdfast.host import files

_FILE_NAME: Final = re.compile(r"[0-9a-f]{64}(\.[0-9]\.bad|\.tmp_[0-9A-Za-z]{6})?")
_HEX: Final = 64
_BAD: Final = ".bad"
_BATCH: Final = 256  # directories between two words to the observer


@dataclass(slots=True)
class Swept:
    """What was found and done; the names follow `.gc-status`.

    Attributes:
        removed_temporary: half-written files that were deleted; their bytes count as removed.
        missing: digests referred to without a good file.
        bad_left: set-aside files that are still there, whatever their age.
    """

    disk_bytes: int = 0
    disk_chunks: int = 0
    removed_bytes: int = 0
    removed_chunks: int = 0
    pending_bytes: int = 0
    pending_chunks: int = 0
    removed_bad: int = 0
    still_bad: int = 0
    bad_left: int = 0
    removed_temporary: int = 0
    missing: list[bytes] = field(default_factory=list)


def sweep(
    base: str,
    referenced: Digests,
    limits: AgeLimits,
    *,
    prefixes: range,
    swept: Swept,
    guard: PrefixGuard | None,
    observer: Observer,
) -> None:
    """Touch what is in `referenced` (sorted, each once), delete what is old and is not.

    Args:
        base: the store's directory.
        referenced: digests any index refers to, those of `prefixes`.
        limits: which ages are removable and pending.
        prefixes: the chunk directories to sweep.
        swept: where to count what is found and done.
        observer: told of every few hundred directories.
        guard: this thread's own; None looks only, and says what would be done.

    Raises:
        HoldfastError: a directory cannot be read, or a file not touched or deleted.
    """
    work = _Sweep(os.path.join(base, ".chunks"), limits, guard, swept)
    bounds = digest_set.prefix_bounds(referenced)
    with files.explained("sweeping the chunk directories"):
        with files.scanned(work.chunks) as entries:
            there = {entry.name for entry in entries}
        for prefix in prefixes:
            first, end = bounds[prefix], bounds[prefix + 1]
            if first < end or f"{prefix:04x}" in there:
                names = referenced[first:end].tobytes().hex()
                work.directory(prefix, {names[at : at + _HEX] for at in range(0, len(names), _HEX)})
            if prefix % _BATCH == _BATCH - 1:
                observer.advance(items=_BATCH)


class _Sweep:
    def __init__(
        self, chunks: str, limits: AgeLimits, guard: PrefixGuard | None, swept: Swept
    ) -> None:
        self.chunks = chunks
        self._limits = limits
        self._guard = guard
        self.swept = swept

    def directory(self, prefix: int, wanted: set[str]) -> None:
        path = f"{self.chunks}/{prefix:04x}"
        found = _chunk_files(path)
        missing = {
            name for name in wanted if not self._keep(f"{path}/{name}", found.pop(name, None))
        }
        old = []
        for name, info in found.items():
            if name.endswith(_BAD) and name[:_HEX] in missing and self._touch(f"{path}/{name}"):
                self.swept.disk_bytes += info.st_size
                self.swept.bad_left += 1
            elif self._limits.age_of(info) is Age.REMOVABLE:
                old.append((name, info))
            else:
                self._leave(name, info)
        if missing:
            self.swept.missing += sorted(bytes.fromhex(name) for name in missing)
        if old:
            self._remove(prefix, path, old)

    def _keep(self, path: str, info: os.stat_result | None) -> bool:
        """Touch a chunk that is referred to and count it; False when it is missing."""
        if not self._touch(path):
            return False
        if info is None:  # written after the directory was listed
            info = _regular(path)
            if info is None:
                return False
        self.swept.disk_chunks += 1
        self.swept.disk_bytes += info.st_size
        return True

    def _touch(self, path: str) -> bool:
        if self._guard is None:
            return _regular(path) is not None
        try:
            files.touch_access_time(path)
        except FileNotFoundError:
            return False
        return True

    def _leave(self, name: str, info: os.stat_result) -> None:
        """Count a file that nobody refers to and that stays."""
        is_bad = name.endswith(_BAD)
        if not is_bad and len(name) > _HEX:  # half written, perhaps by a writer that still runs
            return
        self.swept.bad_left += is_bad
        if self._limits.age_of(info) is Age.IN_USE:
            self.swept.disk_bytes += info.st_size
            self.swept.disk_chunks += not is_bad
        else:
            self.swept.pending_bytes += info.st_size
            self.swept.pending_chunks += not is_bad
            self.swept.still_bad += is_bad

    def _remove(self, prefix: int, path: str, old: list[tuple[str, os.stat_result]]) -> None:
        if self._guard is None:
            for name, info in old:
                self._count_removed(name, info)
            return
        with self._guard.exclusive(prefix):
            for name, _info in old:
                now = _regular(f"{path}/{name}")
                if now is None:
                    continue
                if self._limits.age_of(now) is Age.REMOVABLE:
                    files.unlink(f"{path}/{name}")
                    self._count_removed(name, now)
                else:
                    self._leave(name, now)

    def _count_removed(self, name: str, info: os.stat_result) -> None:
        if name.endswith(_BAD):
            self.swept.removed_bad += 1
        elif len(name) > _HEX:
            self.swept.removed_temporary += 1
        else:
            self.swept.removed_chunks += 1
        self.swept.removed_bytes += info.st_size


def _chunk_files(path: str) -> dict[str, os.stat_result]:
    """Regular files of one directory that are chunks, set aside or half written; nothing if it is not there."""
    try:
        with files.scanned(path) as entries:
            return dict(_judged(entries))
    except FileNotFoundError:
        return {}


def _judged(entries: Iterator["os.DirEntry[str]"]) -> Iterator[tuple[str, os.stat_result]]:
    for entry in entries:
        if _FILE_NAME.fullmatch(entry.name) is None:
            continue
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(info.st_mode):
            yield entry.name, info


def _regular(path: str) -> os.stat_result | None:
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    return info if stat.S_ISREG(info.st_mode) else None
