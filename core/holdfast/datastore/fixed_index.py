"""Fixed index (`.fidx`): which chunk holds each stretch of a disk image.

Little-endian; source: Proxmox Backup, "File Formats", fixed index. Story: docs/formats/index.md
     0     8  magic            32    32  SHA-256 of the digest table
     8    16  UUID             64     8  image size, bytes
    24     8  ctime, seconds   72     8  chunk size, bytes: a power of two
    80  4016  zero           4096  32*n  digests, n = ceil(image size / chunk size), n > 0
Chunk i covers [i * chunk size, min((i + 1) * chunk size, image size)); only the last may be short.
"""

import hashlib
import os
import struct
import time
from collections.abc import Iterator
from typing import Final, Self

from holdfast.datastore.index import (
    HEAD,
    HEADER_BYTES,
    INDEX_FILE_BYTES_MAX,
    IndexSummary,
    PendingIndex,
    new_uuid,
    read_index_file,
)
from holdfast.errors import BadRequest, DamagedData
from holdfast.host import files
from holdfast.ids import DIGEST_BYTES
from holdfast.units import KIB, MIB

MAGIC: Final = bytes.fromhex("2f7f41ed91fd0fcd")
CHUNK_BYTES: Final = 4 * MIB
CHUNK_BYTES_MIN: Final = 64 * KIB
_SIZES: Final = struct.Struct("<QQ")
_SIZES_AT: Final = 64
ENTRIES_MAX: Final = (INDEX_FILE_BYTES_MAX - HEADER_BYTES) // DIGEST_BYTES


def _is_chunk_size(size: int) -> bool:
    return CHUNK_BYTES_MIN <= size <= CHUNK_BYTES and size & (size - 1) == 0


class FixedIndex:
    """An index file in memory, checked as far as it can be without the chunks."""

    __slots__ = (
        "chunk_bytes",
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
            raise DamagedData(what, "it does not begin like a fixed index")
        self.size_bytes: int
        self.chunk_bytes: int
        self.size_bytes, self.chunk_bytes = _SIZES.unpack_from(data, _SIZES_AT)
        if not _is_chunk_size(self.chunk_bytes):
            raise DamagedData(what, f"{self.chunk_bytes} is no size chunks of an image can have")
        self.chunk_count: int = -(-self.size_bytes // self.chunk_bytes)
        if self.chunk_count == 0:
            raise DamagedData(what, "it is empty, which no writer makes")
        wanted = HEADER_BYTES + DIGEST_BYTES * self.chunk_count
        if len(data) != wanted:
            raise DamagedData(what, f"the file has {len(data)} bytes and should have {wanted}")
        self.path = path
        self.table = memoryview(data)[HEADER_BYTES:]

    @classmethod
    def open(cls, path: str) -> Self:
        """Read and check the file (NotFound, DamagedData)."""
        return cls(read_index_file(path), path=path)

    def digest_at(self, position: int) -> bytes:
        if not 0 <= position < self.chunk_count:
            raise IndexError(position)
        return bytes(self.table[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])

    def range_at(self, position: int) -> tuple[int, int]:
        if not 0 <= position < self.chunk_count:
            raise IndexError(position)
        start = position * self.chunk_bytes
        return start, min(start + self.chunk_bytes, self.size_bytes)

    def find(self, offset: int) -> int:
        if not 0 <= offset < self.size_bytes:
            raise IndexError(offset)
        return offset // self.chunk_bytes

    def digests(self) -> Iterator[bytes]:
        table = self.table
        for at in range(0, len(table), DIGEST_BYTES):
            yield bytes(table[at : at + DIGEST_BYTES])

    def checksum(self) -> bytes:
        return hashlib.sha256(self.table).digest()


class FixedIndexWriter(PendingIndex):
    """Collects digests in any order and puts the index in place in one step.

    `path` shows nothing before `close`; until then the file is called `NAME.tmp_fidx`. Used as a
    context manager, an exception removes it.
    """

    def __init__(
        self,
        path: str,
        size_bytes: int,
        chunk_bytes: int = CHUNK_BYTES,
        *,
        base: FixedIndex | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Begin an index.

        Args:
            path: the final name, ending in `.fidx`.
            size_bytes: of the image, at least 1.
            chunk_bytes: a power of two, 64 KiB to 4 MiB; other programs read 4 MiB only.
            base: start from its digests, as far as both images reach with whole chunks.
            owner: uid and gid of the file.

        Raises:
            BadRequest: an empty image or an odd chunk size.
            NoSpace, Refused: the file cannot be made.
        """
        if not _is_chunk_size(chunk_bytes):
            raise BadRequest(f"{chunk_bytes} is no size chunks of an image can have")
        if not 0 < size_bytes <= ENTRIES_MAX * chunk_bytes:
            raise BadRequest(f"an image of {size_bytes} bytes cannot be backed up")
        self.size_bytes, self.chunk_bytes = size_bytes, chunk_bytes
        self.chunk_count = -(-size_bytes // chunk_bytes)
        self._table = bytearray(DIGEST_BYTES * self.chunk_count)
        self._written = bytearray(self.chunk_count)
        if base is not None:
            self._start_from(base)
        super().__init__(path, temporary_suffix="tmp_fidx", owner=owner)

    def _start_from(self, base: FixedIndex) -> None:
        if base.chunk_bytes != self.chunk_bytes:
            raise BadRequest("the earlier index has another chunk size")
        shared = min(base.chunk_count, self.chunk_count)
        if base.size_bytes != self.size_bytes:  # the last chunk of either may be a short one
            shared = min(base.size_bytes, self.size_bytes) // self.chunk_bytes
        self._table[: shared * DIGEST_BYTES] = base.table[: shared * DIGEST_BYTES]
        self._written[:shared] = b"\x01" * shared

    def put(self, position: int, digest: bytes) -> None:
        """Name the chunk at `position`; IndexError outside the image."""
        if not 0 <= position < self.chunk_count:
            raise IndexError(position)
        if len(digest) != DIGEST_BYTES:
            raise ValueError(digest)
        self._table[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES] = digest
        self._written[position] = 1

    def digest_at(self, position: int) -> bytes:
        """What `put` or the base said last; 32 zero bytes where nobody did."""
        return bytes(self._table[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])

    def close(self) -> IndexSummary:
        """Write the file and give it its name (BadRequest when a chunk was never named)."""
        missing = self._written.find(0)
        if missing >= 0:
            raise BadRequest(f"chunk {missing} of {os.path.basename(self.path)} was never written")
        checksum = hashlib.sha256(self._table).digest()
        head = HEAD.pack(MAGIC, new_uuid(), int(time.time()), checksum)
        head += _SIZES.pack(self.size_bytes, self.chunk_bytes)
        with files.explained(f"writing the index {os.path.basename(self.path)}"):
            parts: list[files.Buffer] = [head.ljust(HEADER_BYTES, b"\0"), self._table]
            files.write_all(self._fd, parts, path=self._temporary)
            self._give_name()
        return IndexSummary(self.size_bytes, checksum, self.chunk_count)
