"""The windows of a VCDIFF delta and their instructions, read with suspicion.

What is understood: RFC 3284 with the default code table, and two extensions that xdelta3 writes,
an application header (skipped) and an Adler-32 of each window (checked by who applies it). What is
not: secondary compression, other code tables, windows that copy from earlier targets, and a COPY
that begins in the source and ends in the target. Lengths are checked against what is there before
memory is taken for them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from holdfast.errors import DamagedData, Refused
from holdfast.postgres.byte_source import ByteSource, read_exactly
from holdfast.postgres.vcdiff.varint import BYTES_MAX, WHAT, decode
from holdfast.units import KIB, MIB

WINDOW_BYTES_MAX: Final = 16 * MIB
_SECTIONS_BYTES_MAX: Final = 4 * WINDOW_BYTES_MAX
_MAGIC: Final = b"\xd6\xc3\xc4\0"
_HEADER_BYTES: Final = len(_MAGIC) + 1
_HEAD_BYTES_MAX: Final = 96
_APP_HEADER_BYTES_MAX: Final = 64 * KIB
_NEAR: Final = 4
_SAME: Final = 3 * 256
_MODES: Final = 9
_SELF, _HERE, _FIRST_NEAR = 0, 1, 2
_FIRST_SAME: Final = _FIRST_NEAR + _NEAR


class Kind(IntEnum):
    """What an instruction does; the argument of each in `Instruction`."""

    ADD = 1
    RUN = 2
    COPY = 3


# kind, size, argument: ADD the offset in the data section, RUN the byte, COPY the address
Instruction = tuple[Kind, int, int]
_Half = tuple[Kind, int, int]  # kind, size (0: it follows), mode of a COPY


def _code_table() -> list[tuple[_Half, ...]]:
    """The default table: what each opcode stands for (source: RFC 3284, section 5.6)."""
    table: list[tuple[_Half, ...]] = [((Kind.RUN, 0, 0),)]
    table += [((Kind.ADD, size, 0),) for size in range(18)]
    for mode in range(_MODES):
        table += [((Kind.COPY, size, mode),) for size in (0, *range(4, 19))]
    for mode in range(_MODES):
        sizes = range(4, 7) if mode < _FIRST_SAME else range(4, 5)
        table += [
            ((Kind.ADD, added, 0), (Kind.COPY, copied, mode))
            for added in range(1, 5)
            for copied in sizes
        ]
    table += [((Kind.COPY, 4, mode), (Kind.ADD, 1, 0)) for mode in range(_MODES)]
    return table


_TABLE: Final = _code_table()
assert len(_TABLE) == 1 << 8


def damaged(reason: str) -> DamagedData:
    return DamagedData(WHAT, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window: which part of the target it makes, from what.

    Attributes:
        source_start, source_bytes: the part of the source that COPY addresses count from.
        target_start, target_bytes: the part of the target.
        data_at, data_bytes: its data section, by offset in the delta.
        instruction_bytes, address_bytes: the sections behind it.
        end: offset of the next window.
        adler: Adler-32 of the target bytes, None without.
    """

    source_start: int
    source_bytes: int
    target_start: int
    target_bytes: int
    data_at: int
    data_bytes: int
    instruction_bytes: int
    address_bytes: int
    end: int
    adler: int | None


def first_window_at(delta: ByteSource) -> int:
    """Where the header ends.

    Raises:
        DamagedData: this is no VCDIFF delta.
        Refused: it uses what is not supported; the message names it.
    """
    head = read_exactly(delta, 0, _HEADER_BYTES + BYTES_MAX)
    if len(head) < _HEADER_BYTES or head[:4] != _MAGIC:
        raise damaged("it does not begin like a VCDIFF file")
    if head[4] & 0x01:
        raise Refused(
            "this VCDIFF delta uses secondary compression, which is not supported",
            hint="encode it again with `xdelta3 -e -S none`",
        )
    if head[4] & 0x02:
        raise Refused("this VCDIFF delta brings a code table of its own, which is not supported")
    if head[4] & ~0x04:
        raise damaged(f"unknown bits {head[4]:#04x} in its header")
    if not head[4]:
        return _HEADER_BYTES
    length, at = decode(head, _HEADER_BYTES)
    if length > _APP_HEADER_BYTES_MAX or at + length > delta.size:
        raise damaged("its application header is longer than it can be")
    return at + length


def window_at(  # noqa: C901  # one check for each field
    delta: ByteSource, at: int, target_start: int
) -> Window:
    """Read the head of the window at offset `at` (DamagedData, Refused)."""
    head = read_exactly(delta, at, _HEAD_BYTES_MAX)
    indicator = head[0]
    if indicator & 0x02:
        raise Refused("this VCDIFF delta copies from earlier windows, which is not supported")
    if indicator & ~0x05:
        raise damaged(f"unknown bits {indicator:#04x} in a window")
    position, source_bytes, source_start = 1, 0, 0
    if indicator & 0x01:
        source_bytes, position = decode(head, position)
        source_start, position = decode(head, position)
    rest, position = decode(head, position)
    end = at + position + rest
    if rest > _SECTIONS_BYTES_MAX or end > delta.size:
        raise damaged("a window reaches behind its end")
    target_bytes, position = decode(head, position)
    if target_bytes > WINDOW_BYTES_MAX:
        raise damaged(f"a window of {target_bytes} bytes, more than {WINDOW_BYTES_MAX}")
    if position >= len(head):
        raise damaged("cut short")
    if head[position]:
        raise Refused("a window of this VCDIFF delta is compressed, which is not supported")
    data_bytes, position = decode(head, position + 1)
    instruction_bytes, position = decode(head, position)
    address_bytes, position = decode(head, position)
    adler = None
    if indicator & 0x04:
        if position + 4 > len(head):
            raise damaged("cut short")
        adler = int.from_bytes(head[position : position + 4], "big")
        position += 4
    if at + position + data_bytes + instruction_bytes + address_bytes != end:
        raise damaged("the sections of a window do not fill it")
    return Window(
        source_start=source_start,
        source_bytes=source_bytes,
        target_start=target_start,
        target_bytes=target_bytes,
        data_at=at + position,
        data_bytes=data_bytes,
        instruction_bytes=instruction_bytes,
        address_bytes=address_bytes,
        end=end,
        adler=adler,
    )


def windows(delta: ByteSource) -> Iterator[Window]:
    """All windows in order (DamagedData, Refused)."""
    at = first_window_at(delta)
    target_start = 0
    while at < delta.size:
        window = window_at(delta, at, target_start)
        yield window
        at, target_start = window.end, target_start + window.target_bytes


def instructions(  # noqa: C901  # a loop over plain cases, once for each instruction
    window: Window, delta: ByteSource
) -> Iterator[Instruction]:
    """What the window does, in order and within bounds; empty instructions are left out.

    Raises:
        DamagedData: an address leads outside, or, perhaps only at the end, sizes do not add up.
    """
    at = window.data_at + window.data_bytes
    sections = read_exactly(delta, at, window.instruction_bytes + window.address_bytes)
    if len(sections) != window.instruction_bytes + window.address_bytes:
        raise damaged("cut short")
    codes = sections[: window.instruction_bytes]
    addresses = _Addresses(sections[window.instruction_bytes :], window.source_bytes)
    position = data_used = done = 0
    while position < len(codes):
        halves = _TABLE[codes[position]]
        position += 1
        for kind, fixed, mode in halves:
            size = fixed
            if not size:
                size, position = decode(codes, position)
            if size > window.target_bytes - done:
                raise damaged("a window holds more than it says")
            argument = data_used
            if kind is Kind.COPY:
                argument = addresses.next(mode, size, done)
            else:
                data_used += size if kind is Kind.ADD else 1
            if data_used > window.data_bytes:
                raise damaged("a window has less data than it uses")
            if kind is Kind.RUN:
                argument = read_exactly(delta, window.data_at + argument, 1)[0]
            if size:
                yield kind, size, argument
            done += size
    if done != window.target_bytes or data_used != window.data_bytes or not addresses.is_used_up:
        raise damaged("a window holds less than it says")


class _Addresses:
    """The addresses of one window, some of them relative to earlier ones (RFC 3284, section 5)."""

    def __init__(self, section: bytes, source_bytes: int) -> None:
        self._section = section
        self._source_bytes = source_bytes
        self._at = 0
        self._near = [0] * _NEAR
        self._next_near = 0
        self._same = [0] * _SAME

    @property
    def is_used_up(self) -> bool:
        return self._at == len(self._section)

    def next(self, mode: int, size: int, done: int) -> int:
        """Where a COPY of `size` bytes begins when `done` bytes of the target are made."""
        here = self._source_bytes + done
        if mode >= _FIRST_SAME:
            if self.is_used_up:
                raise damaged("cut short")
            address = self._same[(mode - _FIRST_SAME) * 256 + self._section[self._at]]
            self._at += 1
        else:
            value, self._at = decode(self._section, self._at)
            if mode == _HERE:
                address = here - value
            else:
                address = value if mode == _SELF else value + self._near[mode - _FIRST_NEAR]
        if not 0 <= address < here and size:
            raise damaged("a COPY from outside of what is known")
        if address < self._source_bytes < address + size:
            raise damaged("a COPY that begins in the source and ends in the target")
        self._near[self._next_near] = address
        self._next_near = (self._next_near + 1) % _NEAR
        self._same[address % _SAME] = address
        return address
