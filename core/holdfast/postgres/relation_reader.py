"""Read a file of a running cluster once: content, digest, block digests and page checksums.

A file is as long as it was when it was opened; what is missing at its end by then is zeroes, what
was added is left out: replaying the WAL brings both right. A page whose checksum is wrong may just
be being written, so it is read again before it counts as damaged.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, NamedTuple

from holdfast.host import gate
from holdfast.postgres.changed_blocks import same_digests
from holdfast.postgres.data_directory import RelationName
from holdfast.postgres.file_list import DIGEST_BYTES, block_digests
from holdfast.postgres.pages import PAGE_BYTES, BadPage, bad_pages
from holdfast.units import MIB

PIECE_BYTES: Final = 1 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCheck:
    """How pages are checked.

    Attributes:
        before_lsn: start of the backup; younger pages may be half written and are passed over.
        segment_blocks: pages in one file of a relation.
        report: takes the path and a page that is damaged.
    """

    before_lsn: int
    segment_blocks: int
    report: Callable[[bytes, BadPage], None]


class Piece(NamedTuple):
    """Part of a file: its bytes, good until the next piece, and the digests of its blocks."""

    data: memoryview
    digests: bytes


class RelationReader:
    """One pass over one open file.

    Attributes:
        size: bytes that `pieces` will give.
    """

    def __init__(
        self,
        fd: int,
        path: bytes,
        *,
        relation: RelationName | None = None,
        check: PageCheck | None = None,
        whole_pages: bool = False,
    ) -> None:
        """Take the length of the file `fd` (OSError).

        Args:
            fd: open at its start.
            path: for reports.
            relation: whose pages these are; None for a file without pages.
            check: None to look at no checksums.
            whole_pages: leave out a page that is not all there yet.
        """
        size = os.fstat(fd).st_size
        self.size = size - size % PAGE_BYTES if whole_pages else size
        self._fd = fd
        self._path = path
        self._relation = relation
        self._check = check
        self._hasher = hashlib.sha256()
        self._before = b""
        self._wants_digests = False

    @property
    def has_pages(self) -> bool:
        """Whether it consists of whole pages."""
        return self._relation is not None and self.size % PAGE_BYTES == 0

    def sha256(self) -> str:
        """Of what `pieces` gave."""
        return self._hasher.hexdigest()

    def pieces(
        self, ahead: Executor | None = None, *, digests: bool = False, before: bytes = b""
    ) -> Iterator[Piece]:
        """The content, 1 MiB at a time (OSError).

        Args:
            ahead: one thread, which prepares the next piece while one is used.
            digests: whether digests of blocks are wanted.
            before: digests of the backup before; a page that is still the same was checked then.
        """
        self._before, self._wants_digests = before, digests
        room = memoryview(bytearray(min(PIECE_BYTES, max(self.size, 1))))
        if ahead is None or self.size <= PIECE_BYTES:
            for at in range(0, self.size, PIECE_BYTES):
                yield self._prepare(room, at)
            return
        rooms = (room, memoryview(bytearray(PIECE_BYTES)))
        future = ahead.submit(self._prepare, room, 0)
        for number, at in enumerate(range(PIECE_BYTES, self.size, PIECE_BYTES), 1):
            piece = future.result()
            future = ahead.submit(self._prepare, rooms[number % 2], at)
            yield piece
        yield future.result()

    def _prepare(self, room: memoryview, at: int) -> Piece:
        data = room[: min(PIECE_BYTES, self.size - at)]
        self._read(data, at)
        digests = block_digests(data) if self._wants_digests else b""
        relation, check = self._relation, self._check
        if relation is not None and check is not None:
            first, end = self._unknown(digests, at)
            unknown = data[first * PAGE_BYTES : end * PAGE_BYTES]
            number = at // PAGE_BYTES + first
            if self._check_pages(unknown, relation, check, number) and digests:
                digests = block_digests(data)
        self._hasher.update(data)
        return Piece(data, digests)

    def _unknown(self, digests: bytes, at: int) -> tuple[int, int]:
        """The stretch of blocks in which all lie that are not known from the backup before."""
        blocks = PIECE_BYTES // PAGE_BYTES
        if not self._before or not digests:
            return 0, blocks
        start = at // PAGE_BYTES * DIGEST_BYTES
        same = same_digests(digests, self._before[start : start + len(digests)])
        if all(same):
            return 0, 0
        return same.index(False), len(same) - same[::-1].index(False)

    def _read(self, piece: memoryview, at: int) -> None:
        done = 0
        if gate.active is not None:
            gate.active("read", self._path)
        while done < len(piece):
            count = os.preadv(self._fd, (piece[done:],), at + done)
            if count == 0:
                piece[done:] = bytes(len(piece) - done)
                return
            done += count

    def _check_pages(
        self, pages: memoryview, relation: RelationName, check: PageCheck, number: int
    ) -> bool:
        """Check pages from block `number` of the file on; True if some were read again."""
        first = relation.segment * check.segment_blocks + number
        found = bad_pages(pages, first, before_lsn=check.before_lsn)
        for bad in found:
            start = (bad.block - first) * PAGE_BYTES
            page = pages[start : start + PAGE_BYTES]
            self._read(page, number * PAGE_BYTES + start)
            for still_bad in bad_pages(page, bad.block, before_lsn=check.before_lsn):
                check.report(self._path, still_bad)
        return bool(found)
