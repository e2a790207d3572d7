"""The table that ends a directory and finds a child by the hash of its name.

GOODBYE content: rows of 24 bytes (u64 hash, u64 offset, u64 size), then one tail row.

    child   hash of the name; distance from this GOODBYE back to the child's FILENAME; bytes from
            there to the child's end
    tail    GOODBYE_TAIL_MARKER; distance back to the directory's ENTRY; size of this item

Rows stand in the array form of a complete binary search tree by hash: slot 0 is the root, the
children of slot i are slots 2i + 1 and 2i + 2, only the last level may be short and fills from the
left. Source: Proxmox pxar library. Story: docs/formats/pxar.md
"""

import functools
import struct
from collections.abc import Sequence

from holdfast.archive.pxar.format import GOODBYE, GOODBYE_TAIL_MARKER, HEADER_BYTES, ROW_BYTES

Row = tuple[int, int, int]  # hash, position of the child's FILENAME, size


@functools.lru_cache(maxsize=512)
def _small_order(count: int) -> tuple[int, ...]:
    return tuple(_order(count))


def _order(count: int) -> list[int]:
    """Visits the slots in order, left to right; the n-th slot visited gets rank n."""
    ranks = [0] * count
    pending: list[int] = []
    slot = 0
    for rank in range(count):
        while slot < count:
            pending.append(slot)
            slot = 2 * slot + 1
        slot = pending.pop()
        ranks[slot] = rank
        slot = 2 * slot + 2
    return ranks


def ranks_by_slot(count: int) -> Sequence[int]:
    """For each slot of a table with `count` rows the rank of its hash."""
    return _small_order(count) if count <= 512 else _order(count)  # noqa: PLR2004 - the cache's size


def table(rows: list[Row], *, goodbye_start: int, directory_start: int) -> bytes:
    """The whole GOODBYE item; sorts `rows`.

    Args:
        rows: hash, position of the FILENAME item and size of every child.
        goodbye_start: position this item will have.
        directory_start: position the tail points back to.
    """
    count = len(rows)
    size = HEADER_BYTES + ROW_BYTES * (count + 1)
    rows.sort()
    numbers: list[int] = [GOODBYE, size]
    add = numbers.extend
    for rank in ranks_by_slot(count):
        digest, start, length = rows[rank]
        add((digest, goodbye_start - start, length))
    add((GOODBYE_TAIL_MARKER, goodbye_start - directory_start, size))
    return struct.pack(f"<{len(numbers)}Q", *numbers)
