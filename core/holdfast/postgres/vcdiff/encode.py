"""Write the difference of two versions of a block-structured file as VCDIFF.

Only what every decoder reads (RFC 3284 without extensions): RUN (opcode 0), ADD (1) and COPY with
an absolute address (19), all with explicit sizes. A block is copied from where it stands or added,
so position and address of a COPY always add up to its place in the target, and a delta can be
applied in place. No checksums are written: the common subset has none.
"""

from collections.abc import Callable, Sequence
from typing import Final

from holdfast.postgres.vcdiff import varint

HEADER: Final = bytes.fromhex("d6c3c40000")
WINDOW_BLOCKS: Final = 128
VCD_SOURCE: Final = 0x01
RUN, ADD, COPY_SELF = 0, 1, 19
_COPY, _ADD, _ZERO = "copy", "add", "zero"

Write = Callable[[bytes | bytearray | memoryview], object]


class DeltaWriter:
    """Writes one delta, window by window.

    Args:
        write: takes the delta's bytes in order.
        block_bytes: size of a block.
    """

    def __init__(self, write: Write, block_bytes: int = 8192) -> None:
        self._write = write
        self._block = block_bytes
        self._zero = bytes(block_bytes)
        self._position = 0
        write(HEADER)

    def window(self, target: memoryview, unmodified: Sequence[bool]) -> int:
        """Write the next part of the target as one window; how many blocks were added in full.

        Args:
            target: the next bytes, whole blocks except perhaps at the end of the file.
            unmodified: for every block, whether the source has it at the same place.
        """
        runs = self._runs(target, unmodified)
        start = self._position
        copies = [(at, end) for kind, at, end in runs if kind == _COPY]
        low = copies[0][0] if copies else 0
        data: list[bytes | memoryview] = []
        instructions, addresses = bytearray(), bytearray()
        for kind, at, end in runs:
            size = varint.encode(end - at)
            if kind == _COPY:
                instructions += bytes((COPY_SELF,)) + size
                addresses += varint.encode(at - low)
            elif kind == _ADD:
                instructions += bytes((ADD,)) + size
                data.append(target[at:end])
            else:
                instructions += bytes((RUN,)) + size
                data.append(b"\0")
        self._position += len(target)
        head = b"\0"
        if copies:
            segment_bytes = copies[-1][1] - low
            head = b"\1" + varint.encode(segment_bytes) + varint.encode(start + low)
        data_bytes = sum(map(len, data))
        lengths = b"".join(map(varint.encode, (data_bytes, len(instructions), len(addresses))))
        inner = varint.encode(len(target)) + b"\0" + lengths
        rest = len(inner) + data_bytes + len(instructions) + len(addresses)
        self._write(head + varint.encode(rest) + inner)
        for piece in data:
            self._write(piece)
        self._write(instructions + addresses)
        return len(unmodified) - sum(unmodified)

    def close(self) -> None:
        """End the delta; an empty target needs a window all the same."""
        if self._position == 0:
            self.window(memoryview(b""), ())

    def _runs(self, target: memoryview, unmodified: Sequence[bool]) -> list[tuple[str, int, int]]:
        """(kind, start, end) of stretches of equal blocks, by offset in the window."""
        runs: list[tuple[str, int, int]] = []
        block = self._block
        size = len(target)
        last = ""
        for number, is_same in enumerate(unmodified):
            at, end = number * block, min((number + 1) * block, size)
            if is_same:
                kind = _COPY
            elif target[at] == 0 and bytes(target[at:end]) == self._zero[: end - at]:
                kind = _ZERO
            else:
                kind = _ADD
            if kind == last:
                runs[-1] = (kind, runs[-1][1], end)
            else:
                runs.append((kind, at, end))
                last = kind
        return runs
