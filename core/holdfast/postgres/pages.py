"""Pages of relation files: their headers, their checksums, which of them are new.

A page begins with 24 bytes: LSN (high and low half, u32 each), checksum u16, flags u16, lower u16,
upper u16, special u16, size and version u16, oldest prunable transaction u32. A page whose `upper`
is 0 is new: it has neither LSN nor checksum. Source: PostgreSQL, storage/bufpage.h and
storage/checksum_impl.h; the checksum runs 32 sums in the manner of FNV-1a over the page and takes
the result modulo 65535, not 65536.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES: Final = 8192
SEGMENT_BLOCKS: Final = 131_072
FIRST_REAL_LSN: Final = 1000  # below, an LSN only says that it is none
_LANES: Final = 32
_ROWS: Final = PAGE_BYTES // 4 // _LANES
_PRIME: Final = np.uint32(16_777_619)
_SHIFT: Final = np.uint32(17)
_GROUP: Final = 128  # pages at once: what stays in the processor's cache
_START: Final = np.array(
    [
        *(0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2),
        *(0x83E13D2C, 0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C),
        *(0xF718902A, 0x0B1C9CDB, 0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979),
        *(0xCCA6C0B2, 0x304A0979, 0x85AA43D4, 0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E),
        *(0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756),
    ],
    dtype=np.uint32,
)
Pages = NDArray[np.uint8]


def pages_of(data: memoryview | bytes | bytearray) -> Pages:
    """A view of whole pages, shape (n, 8192); a rest that is no whole page is left out."""
    count = len(data) // PAGE_BYTES
    return np.frombuffer(data, np.uint8, count * PAGE_BYTES).reshape(count, PAGE_BYTES)


def lsns(pages: Pages) -> NDArray[np.uint64]:
    """The LSN of every page."""
    halves = pages[:, :8].copy().view("<u4").astype(np.uint64)
    return halves[:, 0] << np.uint64(32) | halves[:, 1]


def stored_checksums(pages: Pages) -> NDArray[np.uint16]:
    return np.asarray(pages[:, 8:10].copy().view("<u2")[:, 0], np.uint16)


def are_new(pages: Pages) -> NDArray[np.bool_]:
    """Which pages were never initialised."""
    return np.asarray(pages[:, 14:16].copy().view("<u2")[:, 0] == 0)


def checksums(pages: Pages, first_block: int) -> NDArray[np.uint16]:
    """What every page's checksum has to be.

    Args:
        pages: shape (n, 8192).
        first_block: number of the first page in its relation, all segments counted.
    """
    count = len(pages)
    found = np.empty(count, np.uint16)
    for start in range(0, count, _GROUP):
        group = pages[start : start + _GROUP]
        found[start : start + len(group)] = _group_checksums(group, first_block + start)
    return found


def _group_checksums(pages: Pages, first_block: int) -> NDArray[np.uint16]:
    count = len(pages)
    words = np.ascontiguousarray(pages).view("<u4").reshape(count, _ROWS, _LANES)
    sums = np.repeat(_START[None, :], count, axis=0)
    mixed = np.empty_like(sums)
    for row in range(_ROWS + 2):  # two rows of zeroes end it
        if row < _ROWS:
            np.bitwise_xor(sums, words[:, row, :], out=sums)
        if row == 0:  # the checksum itself counts as zero
            sums[:, 2] = _START[2] ^ (words[:, 0, 2] & np.uint32(0xFFFF0000))
        np.right_shift(sums, _SHIFT, out=mixed)
        np.multiply(sums, _PRIME, out=sums)
        np.bitwise_xor(sums, mixed, out=sums)
    folded = np.bitwise_xor.reduce(sums, axis=1)
    blocks = np.arange(first_block, first_block + count, dtype=np.uint64).astype(np.uint32)
    found: NDArray[np.uint16] = ((folded ^ blocks) % np.uint32(65535) + 1).astype(np.uint16)
    return found


@dataclass(frozen=True, slots=True)
class BadPage:
    """A page whose checksum is wrong; `block` counts within its relation."""

    block: int
    stored: int
    computed: int


def bad_pages(
    data: memoryview | bytes | bytearray, first_block: int, *, before_lsn: int
) -> list[BadPage]:
    """Pages with a wrong checksum.

    Args:
        data: whole pages; a rest is not looked at.
        first_block: see `checksums`.
        before_lsn: pages changed at or after this LSN are passed over: they may be being written
            right now, and replaying WAL makes them whole.
    """
    pages = pages_of(data)
    stored, computed = stored_checksums(pages), checksums(pages, first_block)
    suspects: Any = np.flatnonzero((stored != computed) & ~are_new(pages))
    if not len(suspects):
        return []
    positions = lsns(pages)
    return [
        BadPage(first_block + int(number), int(stored[number]), int(computed[number]))
        for number in suspects
        if int(positions[number]) < before_lsn
    ]
