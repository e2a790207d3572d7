"""`INCREMENTAL.*` files of the server's own incremental backups (PostgreSQL 17 and later).

u32 magic, u32 count, u32 truncation length, `count` u32 block numbers in ascending order, all
little-endian; if there are blocks, zeroes up to a multiple of the block size; then the blocks.
Source: PostgreSQL, backup/basebackup_incremental.c.

A block that is listed comes from here. Another one below the truncation length comes from the
backup before, or is zero if that has none; the file ends behind the truncation length or the
highest listed block, whichever is later.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import DamagedData
from holdfast.postgres.byte_source import ByteSource, read_exactly

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


class Window(NamedTuple):
    """The next blocks of the file that comes out, good until the next window.

    Attributes:
        data: of the listed blocks; the others are zeroes.
        unmodified: for every block, whether the file before has it.
    """

    data: memoryview
    unmodified: list[bool]


def windows(
    incremental: ByteSource,
    header: IncrementalHeader,
    before_blocks: int,
    *,
    block_bytes: int = 8192,
    window_blocks: int = 128,
) -> Iterator[Window]:
    """The file that comes out, window by window (DamagedData: it was cut short).

    Args:
        incremental: the `INCREMENTAL.*` file.
        header: what it begins with.
        before_blocks: length of the file before; 0 when there was none.
        block_bytes: size of a block.
        window_blocks: blocks in a window; the last one may have fewer.
    """
    room = np.zeros((window_blocks, block_bytes), np.uint8)
    for start in range(0, header.target_blocks, window_blocks):
        count = min(window_blocks, header.target_blocks - start)
        low, high = np.searchsorted(header.blocks, (start, start + count)).tolist()
        rows = header.blocks[low:high] - np.uint32(start)
        content = read_exactly(
            incremental, header.content_at + low * block_bytes, (high - low) * block_bytes
        )
        if len(content) != (high - low) * block_bytes:
            raise _damaged("cut short")
        room[:] = 0
        room[rows] = np.frombuffer(content, np.uint8).reshape(-1, block_bytes)
        numbers = np.arange(start, start + count)
        unmodified = (numbers < before_blocks) & (numbers < header.truncation_blocks)
        unmodified[rows] = False
        yield Window(room[:count].data.cast("B"), unmodified.tolist())


def _damaged(reason: str) -> DamagedData:
    return DamagedData("an incremental file of PostgreSQL", reason)
