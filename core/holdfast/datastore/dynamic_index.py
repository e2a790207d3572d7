"""Dynamic index (`.didx`): which chunk holds each stretch of a stream with cut points of its own.

Little-endian; source: Proxmox Backup, "File Formats", dynamic index. Story: docs/formats/index.md
     0     8  magic            24     8  ctime, seconds
     8    16  UUID             32    32  SHA-256 of the table, ends and digests
    64  4032  zero           4096  40*n  table, n > 0: u64 END of the chunk (exclusive), digest
Ends grow strictly; chunk i covers [end of i - 1, end of i).
"""

import hashlib
import operator
import os
import struct
import sys
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final, Self

from holdfast.datastore.blob import CHUNK_BYTES_MAX
from holdfast.datastore.index import (
    HEAD,
    HEADER_BYTES,
    IndexSummary,
    PendingIndex,
    new_uuid,
    read_index_file,
)
from holdfast.errors import BadRequest, DamagedData
from holdfast.host import files
from holdfast.ids import DIGEST_BYTES
from holdfast.units import KIB

MAGIC: Final = bytes.fromhex("1c914ea519bab3cd")
ENTRY_BYTES: Final = 8 + DIGEST_BYTES
_ENTRY: Final = struct.Struct("<Q32s")
_WRITE_BYTES: Final = 64 * KIB


class DynamicIndex:
    """An index file in memory, checked as far as it can be without the chunks."""

    __slots__ = (
        "_ends",
        "chunk_count",
        "ctime_s",
        "header_csum",
        "path",
        "size_bytes",
        "table",
        "uuid",
    )

    def __init__(self, data: bytes, *, path: str) -> None:
        what = os.path.basename(path)
        if len(data) < HEADER_BYTES:
            raise DamagedData(what, f"{len(data)} bytes are too few for an index")
        magic, self.uuid, self.ctime_s, self.header_csum = HEAD.unpack_from(data)
        if magic != MAGIC:
            raise DamagedData(what, "it does not begin like a dynamic index")
        self.chunk_count, odd_bytes = divmod(len(data) - HEADER_BYTES, ENTRY_BYTES)
        if odd_bytes or not self.chunk_count:
            raise DamagedData(what, f"{len(data)} bytes are not a whole number of entries")
        self.path = path
        self.table = memoryview(data)[HEADER_BYTES:]
        self._ends = array("Q", self.table.cast("Q")[::5])
        if sys.byteorder == "big":
            self._ends.byteswap()
        if not 0 < self._ends[0] <= CHUNK_BYTES_MAX:
            raise DamagedData(what, f"its first chunk has {self._ends[0]} bytes")
        lengths = list(map(operator.sub, islice(self._ends, 1, None), self._ends))
        if lengths and min(lengths) <= 0:
            raise DamagedData(what, "a chunk ends before it begins")
        if lengths and max(lengths) > CHUNK_BYTES_MAX:
            raise DamagedData(what, f"a chunk has {max(lengths)} bytes")
        self.size_bytes = self._ends[-1]

    @classmethod
    def open(cls, path: str) -> Self:
        """Read and check the file (NotFound, DamagedData)."""
        return cls(read_index_file(path), path=path)

    def digest_at(self, position: int) -> bytes:
        if not 0 <= position < self.chunk_count:
            raise IndexError(position)
        at = position * ENTRY_BYTES + 8
        return bytes(self.table[at : at + DIGEST_BYTES])

    def range_at(self, position: int) -> tuple[int, int]:
        if not 0 <= position < self.chunk_count:
            raise IndexError(position)
        return self._ends[position - 1] if position else 0, self._ends[position]

    def find(self, offset: int) -> int:
        if not 0 <= offset < self.size_bytes:
            raise IndexError(offset)
        return bisect_right(self._ends, offset)

    def digests(self) -> Iterator[bytes]:
        table = self.table
        for at in range(8, len(table), ENTRY_BYTES):
            yield bytes(table[at : at + DIGEST_BYTES])

    def checksum(self) -> bytes:
        return hashlib.sha256(self.table).digest()


class DynamicIndexWriter(PendingIndex):
    """Appends chunks in the order of the stream and puts the index in place in one step.

    `path` shows nothing before `close`; until then the file is called `NAME.tmp_didx`. Used as a
    context manager, an exception removes it. Memory stays small however long the stream.
    """

    def __init__(self, path: str, *, owner: tuple[int, int] | None = None) -> None:
        """Begin the index `path`, which ends in `.didx` (NoSpace, Refused)."""
        self.size_bytes = 0
        self.chunk_count = 0
        self._hasher = hashlib.sha256()
        self._pending = bytearray(HEADER_BYTES)
        self._hashed_to = HEADER_BYTES
        super().__init__(path, temporary_suffix="tmp_didx", owner=owner)

    def append(self, end: int, digest: bytes) -> None:
        """The next chunk, which ends before byte `end` of the stream."""
        if not self.size_bytes < end <= self.size_bytes + CHUNK_BYTES_MAX:
            raise ValueError(f"a chunk from {self.size_bytes} cannot end at {end}")
        if len(digest) != DIGEST_BYTES:
            raise ValueError(digest)
        self._pending += _ENTRY.pack(end, digest)
        self.size_bytes = end
        self.chunk_count += 1
        if len(self._pending) >= _WRITE_BYTES:
            with files.explained(f"writing the index {os.path.basename(self.path)}"):
                self._flush()

    def _flush(self) -> None:
        self._hasher.update(memoryview(self._pending)[self._hashed_to :])
        self._hashed_to = 0
        files.write_all(self._fd, [bytes(self._pending)], path=self._temporary)
        self._pending.clear()

    def close(self) -> IndexSummary:
        """Write the rest and give the file its name (BadRequest when no chunk was appended)."""
        if not self.chunk_count:
            raise BadRequest(f"{os.path.basename(self.path)} would be empty")
        with files.explained(f"writing the index {os.path.basename(self.path)}"):
            self._flush()
            checksum = self._hasher.digest()
            head = HEAD.pack(MAGIC, new_uuid(), int(time.time()), checksum)
            files.pwrite_all(self._fd, head, 0, path=self._temporary)
            self._give_name()
        return IndexSummary(self.size_bytes, checksum, self.chunk_count)
