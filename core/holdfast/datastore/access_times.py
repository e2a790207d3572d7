"""Which chunks are old enough to go, and whether the file system's access times can be believed.

Seconds are whole seconds of the file system's clock. A chunk file nobody refers to is
    removed   its access time lies before `removed_before_s`
    pending   before `pending_before_s`: it will go once it is old enough
    in use    otherwise: it was touched after the collection began, or by a running writer
Source: Proxmox Backup Server, garbage collection. Story: docs/algorithms/gc.md
"""

import os
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from holdfast.errors import Refused
from holdfast.host import files
from holdfast.units import DAY, MINUTE

CUTOFF_DEFAULT_S: Final = DAY + 5 * MINUTE
WRITER_SLACK_S: Final = 5 * MINUTE
_PROBE_AGE_S: Final = 7 * DAY
_NANOSECONDS: Final = 1_000_000_000


class Age(Enum):
    """What a chunk file's access time says."""

    REMOVABLE = "removable"
    PENDING = "pending"
    IN_USE = "in use"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeLimits:
    """Where the three ages part.

    Attributes:
        removed_before_s: an unused chunk with an earlier access time may be deleted.
        pending_before_s: one with an earlier access time waits for the next collection.
    """

    removed_before_s: int
    pending_before_s: int

    @classmethod
    def at(cls, *, start_s: int, cutoff_s: int, oldest_writer_s: int | None) -> Self:
        """The limits of a collection that began at `start_s`.

        A writer older than the cutoff moves the limit back to its own start, with slack for
        rounding and for clocks that disagree.
        """
        limit = start_s - cutoff_s
        if oldest_writer_s is None:
            return cls(removed_before_s=limit, pending_before_s=start_s)
        return cls(
            removed_before_s=min(limit, oldest_writer_s - WRITER_SLACK_S),
            pending_before_s=min(start_s, oldest_writer_s),
        )

    def age_of(self, info: os.stat_result) -> Age:
        """By the access time in whole seconds."""
        accessed_s = info.st_atime_ns // _NANOSECONDS
        if accessed_s < self.removed_before_s:
            return Age.REMOVABLE
        return Age.PENDING if accessed_s < self.pending_before_s else Age.IN_USE


def checked_clock_s(path: str) -> int:
    """The file system's clock, read by touching the file at `path`, whose access time means nothing.

    An existing file is used because a collection has to work on a full disk, too.

    Raises:
        Refused: a touch does not move the access time there, so it says nothing about use.
        HoldfastError: the file cannot be touched.
    """
    with files.explained("checking that access times work in the store"):
        files.touch_access_time(path)
        before_s = os.lstat(path).st_atime_ns // _NANOSECONDS
        files.set_access_time(path, before_s - _PROBE_AGE_S)
        aged_s = os.lstat(path).st_atime_ns // _NANOSECONDS
        files.touch_access_time(path)
        touched_s = os.lstat(path).st_atime_ns // _NANOSECONDS
    if aged_s != before_s - _PROBE_AGE_S or touched_s < before_s:
        raise Refused(
            "the file system of the store does not keep access times that are set",
            hint="garbage collection needs them; mount it without an option that ignores them",
        )
    return touched_s
