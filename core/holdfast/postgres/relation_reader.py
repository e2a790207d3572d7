"""Read a file of a running cluster once: content, digest, block digests and page checksums.

A file is as long as it was when it was opened; what is missing at its end by then is zeroes, what
was added is left out: replaying the WAL brings both right. A page whose checksum is wrong may just
be being written, so it is read again before it counts as damaged.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.host import gate
from holdfast.postgres.data_directory import RelationName
from holdfast.postgres.file_list import block_digests
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
        self._check = check if relation is not None else None
        self._hasher = hashlib.sha256()

    @property
    def has_pages(self) -> bool:
        """Whether it consists of whole pages."""
        return self._relation is not None and self.size % PAGE_BYTES == 0

    def sha256(self) -> str:
        """Of what `pieces` gave."""
        return self._hasher.hexdigest()

    def pieces(self) -> Iterator[memoryview]:
        """The content, 1 MiB at a time; each piece is good until the next (OSError)."""
        room = memoryview(bytearray(min(PIECE_BYTES, max(self.size, 1))))
        for at in range(0, self.size, PIECE_BYTES):
            piece = room[: min(PIECE_BYTES, self.size - at)]
            self._read(piece, at)
            if self._check is not None:
                self._check_pages(piece, at, self._check)
            self._hasher.update(piece)
            yield piece

    def digests(self, piece: memoryview) -> bytes:
        """Block digests of a piece."""
        return block_digests(piece)

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

    def _check_pages(self, piece: memoryview, at: int, check: PageCheck) -> None:
        relation = self._relation
        if relation is None:
            return
        first = relation.segment * check.segment_blocks + at // PAGE_BYTES
        for bad in bad_pages(piece, first, before_lsn=check.before_lsn):
            start = (bad.block - first) * PAGE_BYTES
            page = piece[start : start + PAGE_BYTES]
            self._read(page, at + start)
            for still_bad in bad_pages(page, bad.block, before_lsn=check.before_lsn):
                check.report(self._path, still_bad)
