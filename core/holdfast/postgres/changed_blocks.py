"""Which blocks of a file are those of the backup before.

By digest: a block is unmodified if its digest is the one recorded. Nothing is assumed, so this is
right for every file, and it is what happens unless something else is asked for.

By page LSN: a block of a main fork is unmodified if it lies within the file of the backup before,
is not new, and was last changed before that backup began. That saves the digests of most blocks,
but holds only if every change moves the LSN, see `lsn_refusal`; other forks are always compared by
digest, because clearing a bit of a visibility map does not move its LSN.
"""

from typing import Final

import numpy as np

from holdfast.postgres import pages
from holdfast.postgres.backup_record import BackupRecord
from holdfast.postgres.file_list import DIGEST_BYTES, block_digests

_WORDS: Final = DIGEST_BYTES // 8


def same_digests(now: bytes, before: bytes) -> list[bool]:
    """Which blocks are unmodified.

    Args:
        now: digests of some blocks.
        before: recorded digests of the same blocks, fewer if the file was shorter.
    """
    ours = np.frombuffer(now, np.uint64).reshape(-1, _WORDS)
    theirs = np.frombuffer(before, np.uint64).reshape(-1, _WORDS)[: len(ours)]
    same = np.zeros(len(ours), bool)
    same[: len(theirs)] = (ours[: len(theirs)] == theirs).all(axis=1)
    found: list[bool] = same.tolist()
    return found


def by_lsn(piece: memoryview, before: bytes, since_lsn: int) -> tuple[list[bool], bytes]:
    """Which blocks are unmodified, and the digests of all; those of unmodified ones are taken over.

    Args:
        piece: whole blocks.
        before: recorded digests of the same blocks.
        since_lsn: where the backup before began.
    """
    view = pages.pages_of(piece)
    lsns = pages.lsns(view)
    same = (lsns >= pages.FIRST_REAL_LSN) & (lsns < since_lsn) & ~pages.are_new(view)
    same[len(before) // DIGEST_BYTES :] = False
    flags: list[bool] = same.tolist()
    return flags, taken_over(piece, before, flags)


def taken_over(piece: memoryview, before: bytes, unmodified: list[bool]) -> bytes:
    """The digests of some blocks, those of unmodified ones from `before`."""
    if all(unmodified):
        return before[: len(unmodified) * DIGEST_BYTES]
    found = bytearray()
    for number, is_same in enumerate(unmodified):
        at = number * pages.PAGE_BYTES
        found += (
            before[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
            if is_same
            else block_digests(piece[at : at + pages.PAGE_BYTES])
        )
    return bytes(found)


def cluster_refusal(parent: BackupRecord, system_identifier: str, version: int) -> str | None:
    """Why `parent` is not of the server that answers; None when it is."""
    if parent.system_identifier != system_identifier:
        return "it is of another cluster: the system identifiers differ"
    if parent.major != version // 10_000:
        return f"it is of PostgreSQL {parent.major}, the server is {version // 10_000}"
    return None


def parent_refusal(parent: BackupRecord, now: BackupRecord) -> str | None:
    """Why a differential cannot be relative to `parent` at all; None when it can."""
    refusal = cluster_refusal(parent, now.system_identifier, now.server_version)
    if refusal is not None:
        return refusal
    if (parent.block_bytes, parent.segment_blocks) != (now.block_bytes, now.segment_blocks):
        return "its files have another layout"
    return None


def lsn_refusal(parent: BackupRecord, now: BackupRecord) -> str | None:
    """Why page LSNs cannot be trusted since `parent`; None when they can.

    Every change has to move the LSN of its page, which hint bits only do with checksums or
    wal_log_hints, and both backups have to lie on one history of the cluster.
    """
    for record in (parent, now):
        if not record.has_checksums and not record.has_wal_log_hints:
            return "neither data checksums nor wal_log_hints were on all the time"
    if parent.start.timeline != now.start.timeline:
        return "the timeline changed since"
    if parent.stop.lsn > now.start.lsn:
        return "the server's WAL is behind that backup: it was restored since"
    return None
