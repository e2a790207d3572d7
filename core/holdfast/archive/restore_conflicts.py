"""What to do when something already stands where an entry should go."""

import enum
import os
import stat
from typing import Final

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Entry
from holdfast.archive.restore_rules import Overwrite

_NANO: Final = 1_000_000_000
# Mode of a file until its content is complete. Nobody chooses it, so one that is met with this mode
# is what an interrupted restore left, and no reason to ask anybody before it is written again.
UNFINISHED_MODE: Final = 0o200
_COPIES_MAX: Final = 1000


class Verdict(enum.Enum):
    IDENTICAL = "the same already"
    REPLACE = "replace"
    RENAME = "restore under another name"
    SKIP = "leave as it is"
    CONFLICT = "differs, and is left as it is"


def mtime_ns(info: pxar.Stat) -> int:
    return info.mtime_s * _NANO + info.mtime_ns


def judge(entry: Entry, name: bytes, dir_fd: int, rule: Overwrite) -> Verdict:
    """What becomes of an entry that is no directory, given what has its name now (OSError)."""
    info = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if is_same(entry, info, name, dir_fd):
        return Verdict.IDENTICAL
    if is_unfinished(info):
        return Verdict.REPLACE
    if rule is Overwrite.KEEP_BOTH:
        return Verdict.RENAME
    if stat.S_ISDIR(info.st_mode) or rule in (Overwrite.FRESH, Overwrite.NEVER):
        return Verdict.CONFLICT
    if rule is Overwrite.IF_NEWER:
        wanted = entry.metadata
        newer = wanted is not None and mtime_ns(wanted.stat) > info.st_mtime_ns
        return Verdict.REPLACE if newer else Verdict.SKIP
    return Verdict.REPLACE


def is_unfinished(info: os.stat_result) -> bool:
    """Whether this is a file that a restore began and did not end."""
    return stat.S_ISREG(info.st_mode) and stat.S_IMODE(info.st_mode) == UNFINISHED_MODE


def is_same(entry: Entry, info: os.stat_result, name: bytes, dir_fd: int) -> bool:
    """Whether what is there has the entry's type, size, time and mode, or the link's target."""
    if entry.metadata is None:
        return False
    wanted = entry.metadata.stat
    if entry.kind is Kind.SYMLINK:
        return stat.S_ISLNK(info.st_mode) and os.readlink(name, dir_fd=dir_fd) == entry.target
    if info.st_mode != wanted.mode or info.st_mtime_ns != mtime_ns(wanted):
        return False
    if entry.kind is Kind.FILE:
        return info.st_size == entry.size
    device = (os.major(info.st_rdev), os.minor(info.st_rdev))
    return entry.device is None or device == entry.device


def free_name(name: bytes, dir_fd: int) -> bytes:
    """A name beside `name` that nothing has yet: NAME.restored, NAME.restored-2, ... (OSError)."""
    for number in range(1, _COPIES_MAX):
        ending = b".restored" if number == 1 else b".restored-%d" % number
        candidate = name[: 255 - len(ending)] + ending
        try:
            os.stat(candidate, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return candidate
    raise FileExistsError(17, "too many copies beside it", name)
