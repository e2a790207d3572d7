"""`INCREMENTAL.*` files of the server's own incremental backups (PostgreSQL 17 and later).

u32 magic, u32 count, u32 truncation length, `count` u32 block numbers in ascending order, all
little-endian; if there are blocks, zeroes up to a multiple of the block size; then the blocks.
Source: PostgreSQL, backup/basebackup_incremental.c.

A block that is listed comes from here. Another one below the truncation length comes from the
backup before, or is zero if that has none; the file ends behind the truncation length or the
highest listed block, whichever is later.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import DamagedData
from holdfast.postgres.byte_source import ByteSource, read_exactly

PREFIX: Final = "INCREMENTAL."
MAGIC: Final = 0xD3AE1F0D
_FIXED: Final = struct.Struct("<III")
_BLOCKS_MAX: Final = 1 << 20  # 8 GiB, the largest segment that makes sense


@dataclass(frozen=True, slots=True)
class IncrementalHeader:
    """What such a file begins with.

    Attributes:
        truncation_blocks: how far the file before is still valid.
        blocks: numbers of the blocks that follow, ascending.
        content_at: where the first of them stands.
    """

    truncation_blocks: int
    blocks: NDArray[np.uint32]
    content_at: int

    @property
    def target_blocks(self) -> int:
        """Length of the file that comes out."""
        behind_last = int(self.blocks[-1]) + 1 if len(self.blocks) else 0
        return max(self.truncation_blocks, behind_last)


def read_header(source: ByteSource, block_bytes: int = 8192) -> IncrementalHeader:
    """Read and check the header.

    Raises:
        DamagedData: it is none, or disagrees with the size of the file.
    """
    fixed = read_exactly(source, 0, _FIXED.size)
    if len(fixed) < _FIXED.size:
        raise _damaged("cut short")
    magic, count, truncation = _FIXED.unpack(fixed)
    if magic != MAGIC:
        raise _damaged("it does not begin like one")
    if count > _BLOCKS_MAX or truncation > _BLOCKS_MAX:
        raise _damaged("it speaks of more blocks than a segment can have")
    content_at: int = _FIXED.size
    if count:
        content_at = -(-(_FIXED.size + 4 * count) // block_bytes) * block_bytes
    if source.size != content_at + count * block_bytes:
        raise _damaged("its size is not that of the blocks it lists")
    blocks = np.frombuffer(read_exactly(source, _FIXED.size, 4 * count), "<u4")
    if count and (np.any(blocks[1:] <= blocks[:-1]) or int(blocks[-1]) >= _BLOCKS_MAX):
        raise _damaged("its block numbers do not ascend")
    return IncrementalHeader(truncation, blocks.astype(np.uint32), content_at)


class IncrementalFile:
    """The file that comes out, read at any offset.

    Args:
        below: the same file of the backup before; None when it had none.
        incremental: the `INCREMENTAL.*` file.
    """

    def __init__(
        self, below: ByteSource | None, incremental: ByteSource, block_bytes: int = 8192
    ) -> None:
        self.header = read_header(incremental, block_bytes)
        self.size = self.header.target_blocks * block_bytes
        self._below = below
        self._incremental = incremental
        self._block = block_bytes
        self._places = {int(block): at for at, block in enumerate(self.header.blocks)}

    def read_into(self, offset: int, target: memoryview, /) -> int:
        """Fill `target` from `offset` (DamagedData); fewer bytes at the end."""
        count = min(len(target), max(self.size - offset, 0))
        done = 0
        while done < count:
            number, skip = divmod(offset + done, self._block)
            piece = target[done : done + min(self._block - skip, count - done)]
            self._fill(piece, number, skip)
            done += len(piece)
        return count

    def _fill(self, piece: memoryview, number: int, skip: int) -> None:
        got = 0
        place = self._places.get(number)
        if place is not None:
            at = self.header.content_at + place * self._block + skip
            got = self._incremental.read_into(at, piece)
            if got != len(piece):
                raise _damaged("cut short")
        elif number < self.header.truncation_blocks and self._below is not None:
            got = self._below.read_into(number * self._block + skip, piece)
        piece[got:] = bytes(len(piece) - got)


def _damaged(reason: str) -> DamagedData:
    return DamagedData("an incremental file of PostgreSQL", reason)
