"""What a content cutter promises, and the two there are.

A cutter looks at bytes and says where the chunk that begins with them ends. It keeps no state
between calls, so the same bytes give the same cuts wherever they stand in a stream.
"""

from enum import StrEnum
from typing import Protocol

from holdfast.chunking.params import ChunkingParams
from holdfast.errors import BadRequest


class Chunker(StrEnum):
    """The cutters a person may choose from."""

    FASTCDC = "fastcdc"
    BUZHASH = "buzhash"  # the cut points of Proxmox Backup's own client


class Cutter(Protocol):
    """Finds where a chunk ends by what is in it."""

    params: ChunkingParams

    def scan(self, data: memoryview, *, scanned: int) -> int:
        """Length of the chunk that begins with `data`, or 0 when it does not end in there.

        Args:
            data: bytes from the start of the chunk; never more than the maximum are looked at.
            scanned: so many leading bytes are known to hold no cut (from an earlier call).
        """


def cutter_for(name: str, params: ChunkingParams) -> Cutter:
    """The cutter called `name` (BadRequest when there is none)."""
    if name == Chunker.FASTCDC:
        from holdfast.chunking.fastcdc import FastCdcCutter

        return FastCdcCutter(params)
    if name == Chunker.BUZHASH:
        from holdfast.chunking.buzhash import BuzhashCutter

        return BuzhashCutter(params)
    raise BadRequest(f"{name!r} is no chunker: choose from {', '.join(Chunker)}")
