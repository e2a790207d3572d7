"""What an NBD server offers: a node under a name, and what can be asked about its blocks."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from holdfast.block.bit_set import BitSet
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.nbd_protocol import (
    BASE_ALLOCATION,
    DIRTY_PREFIX,
    EXTENTS_MAX,
    STATE_HOLE_ZERO,
    ExportFlag,
)
from holdfast.block.node import Access, BlockNode, Extent, ReadNode

# (length, flags) from `offset` on, ascending without gaps; may cover less than asked
Status = Sequence[tuple[int, int]]
StatusSource = Callable[[int, int], Awaitable[Status]]


@dataclass(slots=True, kw_only=True)
class Export:
    """One name of a server.

    Attributes:
        node: what is read and, unless read-only, written.
        writer: the same node when it can be written.
        contexts: what BLOCK_STATUS can be asked about, by name.
    """

    name: str
    node: ReadNode
    writer: BlockNode | None = None
    description: str = ""
    contexts: dict[str, StatusSource] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        node: BlockNode,
        *,
        access: Access = Access.READ_WRITE,
        description: str = "",
        bitmaps: Iterable[DirtyBitmap] = (),
    ) -> "Export":
        """An export with base:allocation and one context for each bitmap."""
        export = cls(name=name, node=node, description=description)
        export.writer = node if access is Access.READ_WRITE else None
        export.contexts[BASE_ALLOCATION] = allocation(node)
        for bitmap in bitmaps:
            export.contexts[DIRTY_PREFIX + bitmap.name] = dirtiness(bitmap)
        return export

    def flags(self, *, structured: bool) -> int:
        """Transmission flags for a client that did or did not ask for structured replies."""
        flag = ExportFlag
        flags = flag.HAS_FLAGS | flag.SEND_FLUSH | flag.SEND_FUA
        flags |= flag.CAN_MULTI_CONN | flag.SEND_CACHE
        if structured:
            flags |= flag.SEND_DF
        if self.writer is None:
            return int(flags | flag.READ_ONLY)
        return int(flags | flag.SEND_TRIM | flag.SEND_WRITE_ZEROES | flag.SEND_FAST_ZERO)

    def matching(self, queries: Sequence[str], *, wildcards: bool) -> list[str]:
        """The contexts that queries name, in the export's own order; none asks for all."""
        if not queries:
            return list(self.contexts) if wildcards else []
        chosen = []
        for name in self.contexts:
            namespaces = [n for n in ("base:", "qemu:", DIRTY_PREFIX) if name.startswith(n)]
            if name in queries or (wildcards and any(n in queries for n in namespaces)):
                chosen.append(name)
        return chosen


def allocation(node: ReadNode) -> StatusSource:
    """base:allocation: hole and zero, or data."""

    async def status(offset: int, length: int) -> Status:
        return merged(await node.extents(offset, length))

    return status


def merged(extents: Iterable[Extent]) -> list[tuple[int, int]]:
    """Extents as (length, flags), neighbours of one kind joined."""
    found: list[tuple[int, int]] = []
    for extent in extents:
        flags = STATE_HOLE_ZERO if extent.is_zero else 0
        if found and found[-1][1] == flags:
            found[-1] = (found[-1][0] + extent.length, flags)
        else:
            found.append((extent.length, flags))
    return found[:EXTENTS_MAX]


def dirtiness(bitmap: DirtyBitmap) -> StatusSource:
    """qemu:dirty-bitmap: 1 for dirty; what a running job copies, while one runs."""

    async def status(offset: int, length: int) -> Status:
        return list(bit_status(bitmap.bits, bitmap.granularity_bytes, offset, length))

    return status


def bit_status(
    bits: BitSet, granularity_bytes: int, offset: int, length: int
) -> Iterator[tuple[int, int]]:
    """A stretch of a bitmap as (length in bytes, dirty or not), at most EXTENTS_MAX of them."""
    end = offset + length
    last = -(-end // granularity_bytes)
    for _number in range(EXTENTS_MAX):
        if offset >= end:
            return
        bit = offset // granularity_bytes
        is_dirty = bits.test(bit)
        found = (bits.next_clear if is_dirty else bits.next_set)(bit, last)
        stop = end if found is None else min(end, found * granularity_bytes)
        yield stop - offset, int(is_dirty)
        offset = stop
