"""A row of bits, packed eight to a byte, lowest bit first, worked on as whole tables.

Bit i is `byte[i // 8] >> (i % 8) & 1`, the order of QEMU's bitmaps. Bits behind the last one are
always 0, so tables can be counted and compared without masking. One terabyte at 64 KiB per bit is
16,777,216 bits or 2 MiB; no operation here takes a Python step per bit.
"""

from collections.abc import Iterator
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from holdfast.errors import BadRequest, DamagedData

Bytes = npt.NDArray[np.uint8]
Runs = npt.NDArray[np.int64]

_BLOCK: Final = 1 << 16  # bytes looked at in one step: half a million bits
_FULL: Final = 0xFF
_BITS: Final = 8  # in a byte
_ONES: Final = np.array([value.bit_count() for value in range(256)], dtype=np.uint8)


class BitSet:
    """`count` bits, numbered from 0; `table` holds them packed."""

    __slots__ = ("count", "table")

    def __init__(self, count: int, table: Bytes | None = None) -> None:
        if count < 0:
            raise BadRequest(f"a set of {count} bits cannot be")
        self.count = count
        self.table: Bytes = np.zeros((count + 7) // 8, np.uint8) if table is None else table

    @classmethod
    def full(cls, count: int) -> Self:
        bits = cls(count)
        bits.set(0, count)
        return bits

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, count: int) -> Self:
        """The set that to_bytes() wrote; DamagedData when the length or the padding is wrong."""
        if len(data) != (count + 7) // 8:
            raise DamagedData("bitmap", f"{len(data)} bytes cannot hold {count} bits")
        bits = cls(count, np.frombuffer(data, np.uint8).copy())
        if count % 8 and int(bits.table[-1]) >> (count % 8):
            raise DamagedData("bitmap", "bits behind its end are set")
        return bits

    def to_bytes(self) -> bytes:
        return self.table.tobytes()

    def copy(self) -> Self:
        return type(self)(self.count, self.table.copy())

    def _check(self, first: int, end: int) -> None:
        if not 0 <= first <= end <= self.count:
            raise BadRequest(f"bits {first} to {end} are not within {self.count}")

    def set(self, first: int, end: int) -> None:
        """Set the bits from `first` up to, not including, `end`."""
        self._check(first, end)
        if first == end:
            return
        low, high = first >> 3, end >> 3
        head, tail = (_FULL << (first & 7)) & _FULL, (1 << (end & 7)) - 1
        if low == high:
            self.table[low] |= head & tail
            return
        self.table[low] |= head
        self.table[low + 1 : high] = _FULL
        if tail:
            self.table[high] |= tail

    def clear(self, first: int, end: int) -> None:
        """Clear the bits from `first` up to, not including, `end`."""
        self._check(first, end)
        if first == end:
            return
        low, high = first >> 3, end >> 3
        head, tail = (_FULL << (first & 7)) & _FULL, (1 << (end & 7)) - 1
        if low == high:
            self.table[low] &= _FULL ^ (head & tail)
            return
        self.table[low] &= _FULL ^ head
        self.table[low + 1 : high] = 0
        if tail:
            self.table[high] &= _FULL ^ tail

    def clear_all(self) -> None:
        self.table[:] = 0

    def test(self, bit: int) -> bool:
        self._check(bit, bit + 1)
        return bool(int(self.table[bit >> 3]) >> (bit & 7) & 1)

    def ones(self) -> int:
        """How many bits are set."""
        table = self.table
        blocks = range(0, len(table), _BLOCK)
        return sum(int(_ONES[table[at : at + _BLOCK]].sum(dtype=np.int64)) for at in blocks)

    def any(self) -> bool:
        return bool(self.table.any())

    def next_set(self, start: int, end: int | None = None) -> int | None:
        """The first set bit at or behind `start` and before `end`."""
        return self._next(start, self.count if end is None else end, skip=0)

    def next_clear(self, start: int, end: int | None = None) -> int | None:
        """The first clear bit at or behind `start` and before `end`."""
        return self._next(start, self.count if end is None else end, skip=_FULL)

    def _next(self, start: int, end: int, *, skip: int) -> int | None:
        """The first bit in [start, end) that differs from the bits of the byte `skip`."""
        self._check(min(start, end), end)
        if start >= end:
            return None
        at = start >> 3
        odd = (int(self.table[at]) ^ skip) >> (start & 7) << (start & 7)
        step = 64
        while not odd:
            at += 1
            limit = (end + 7) >> 3
            if at >= limit:
                return None
            differing = self.table[at : min(at + step, limit)] != skip
            if not differing.any():
                at += len(differing) - 1
                step = min(step * 4, _BLOCK)
                continue
            at += int(differing.argmax())
            odd = int(self.table[at]) ^ skip
        found = (at << 3) + (odd & -odd).bit_length() - 1
        return found if found < end else None

    def run_blocks(self) -> Iterator[Runs]:
        """Runs of set bits as tables of (first, end), ascending, never touching one another."""
        is_open, first = 0, 0
        for at in range(0, len(self.table), _BLOCK):
            block = self.table[at : at + _BLOCK]
            if not is_open and not block.any():
                continue
            bits = np.unpackbits(block, bitorder="little")
            edges = np.flatnonzero(np.diff(bits, prepend=np.uint8(is_open))) + at * 8
            if is_open:
                edges = np.concatenate((np.array([first]), edges))
            is_open = len(edges) % 2
            if is_open:
                first = int(edges[-1])
                edges = edges[:-1]
            if len(edges):
                yield edges.astype(np.int64, copy=False).reshape(-1, 2)
        if is_open:
            yield np.array([[first, self.count]], dtype=np.int64)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Every run of set bits as (first, end), ascending."""
        for block in self.run_blocks():
            yield from map(tuple, block.tolist())

    def numbers(self) -> npt.NDArray[np.int64]:
        """The numbers of all set bits, ascending."""
        found = [
            np.flatnonzero(np.unpackbits(block, bitorder="little")) + at * 8
            for at in range(0, len(self.table), _BLOCK)
            if (block := self.table[at : at + _BLOCK]).any()
        ]
        return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)

    def unite(self, other: "BitSet") -> None:
        """Add the bits of a set of the same length."""
        if other.count != self.count:
            raise BadRequest(f"sets of {self.count} and {other.count} bits do not go together")
        self.table |= other.table

    def subtract(self, other: "BitSet") -> None:
        """Take the bits of a set of the same length away."""
        if other.count != self.count:
            raise BadRequest(f"sets of {self.count} and {other.count} bits do not go together")
        self.table &= ~other.table

    def coarsened(self, factor: int, count: int) -> "BitSet":
        """`count` bits, each set when any of the `factor` (a power of two) bits below it is."""
        if factor == 1:
            return _resized(self, count)
        if factor < _BITS:
            bits = np.unpackbits(self.table, bitorder="little")
            return BitSet(count, _packed(np.any(bits.reshape(-1, factor), axis=1), count))
        width = factor // 8
        whole = len(self.table) // width * width
        any_set: npt.NDArray[Any] = np.any(self.table[:whole].reshape(-1, width), axis=1)
        if whole < len(self.table):
            any_set = np.append(any_set, self.table[whole:].any())
        return BitSet(count, _packed(any_set, count))

    def refined(self, factor: int, count: int) -> "BitSet":
        """`count` bits, `factor` (a power of two) of them for each bit here, cut at the end."""
        if factor == 1:
            return _resized(self, count)
        bits = np.unpackbits(self.table, count=self.count, bitorder="little")
        if factor < _BITS:
            return BitSet(count, _packed(np.repeat(bits, factor), count))
        refined = BitSet(count, np.zeros((count + 7) // 8, np.uint8))
        full = np.repeat(bits * np.uint8(_FULL), factor // 8)[: len(refined.table)]
        refined.table[: len(full)] = full
        _clear_padding(refined)
        return refined

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BitSet):
            return NotImplemented
        return self.count == other.count and bool(np.array_equal(self.table, other.table))

    __hash__ = None  # type: ignore[assignment]


def _packed(bits: npt.NDArray[Any], count: int) -> Bytes:
    table = np.zeros((count + 7) // 8, np.uint8)
    packed = np.packbits(bits[:count], bitorder="little")
    table[: len(packed)] = packed
    return table


def _clear_padding(bits: BitSet) -> None:
    if bits.count % 8:
        bits.table[-1] &= (1 << (bits.count % 8)) - 1


def _resized(bits: BitSet, count: int) -> BitSet:
    resized = BitSet(count)
    size = min(len(resized.table), len(bits.table))
    resized.table[:size] = bits.table[:size]
    _clear_padding(resized)
    return resized
