"""What a background sync does next: pure decisions, checked against recorded cases.

Flags that are owed: ARCHIVE (carry WAL to the store, run the user's script) and SNAPSHOT (take a
full base backup). ARCHIVE goes first. Without a base backup to recover from, ARCHIVE becomes
SNAPSHOT, and after a base backup ARCHIVE is always owed.
"""

from enum import Enum
from typing import Final, NamedTuple

from holdfast.postgres.wal_stage import ARCHIVE, SNAPSHOT

DUE_SEGMENTS_MIN: Final = 8
DUE_SHARE: Final = 2
PAUSE_FACTOR: Final = 1.25


class Action(Enum):
    """One step of a sync."""

    ARCHIVE = "archive"
    SNAPSHOT = "snapshot"
    NONE = "none"


class Step(NamedTuple):
    """What to do, and what is owed while it is done."""

    action: Action
    owed: int


def choose(owed: int, *, has_base: bool) -> Step:
    """The next step for what is owed."""
    if owed & ARCHIVE:
        return Step(Action.ARCHIVE, owed) if has_base else Step(Action.SNAPSHOT, SNAPSHOT)
    return Step(Action.SNAPSHOT, owed) if owed & SNAPSHOT else Step(Action.NONE, 0)


def owed_after(step: Step, *, is_done: bool, is_base_due: bool, took_base: bool) -> int:
    """What is still owed after a step, before new requests are added.

    Args:
        step: the one that ended.
        is_done: whether it succeeded.
        is_base_due: WAL outgrew the base backup; matters after ARCHIVE.
        took_base: this worker took a base backup already: one for that reason is enough.
    """
    owed = step.owed
    if step.action is Action.ARCHIVE:
        if is_base_due and not took_base:
            owed |= SNAPSHOT
        return owed & ~ARCHIVE if is_done else owed
    if step.action is Action.SNAPSHOT and is_done:
        return ARCHIVE
    return owed


def is_base_due(*, segments: int, wal_bytes: int, base_bytes: int) -> bool:
    """Whether WAL since the base backup outgrew it: many segments, half their size at least its."""
    return segments > DUE_SEGMENTS_MIN and wal_bytes // DUE_SHARE >= base_bytes


def next_pause(pause_s: float, *, pause_s_max: float) -> float:
    """The pause after the next failure."""
    return min(pause_s * PAUSE_FACTOR, pause_s_max)
