"""Dirty bitmap: which stretches of an image were written since some point in time.

Bit i stands for the bytes [i * granularity, (i + 1) * granularity) of the image; the last one may
reach behind its end. A write sets every bit it touches. While a job runs there are three sets:

    sync       the bitmap itself: what the job was told to copy, unchanged while it runs     S
    successor  an anonymous bitmap of the same granularity: writes since the job began       N
    copy       what the job has still to copy, in clusters of the job (holdfast.block.job_policy)   R

and when it ends, `end_job` puts the three together. Semantics: QEMU's dirty bitmaps.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from holdfast.block.bit_set import BitSet
from holdfast.errors import BadRequest, Busy, Refused
from holdfast.units import KIB

GRANULARITY_DEFAULT: Final = 64 * KIB
GRANULARITY_MIN: Final = 512
GRANULARITY_MAX: Final = 1 << 31
NAME_BYTES_MAX: Final = 1023


def bits_for(size_bytes: int, granularity_bytes: int) -> int:
    """How many bits stand for an image."""
    return -(-size_bytes // granularity_bytes)


def check_granularity(granularity_bytes: int) -> None:
    """BadRequest unless a power of two from 512 bytes to 2 GiB."""
    is_power = granularity_bytes.bit_count() == 1
    if not is_power or not GRANULARITY_MIN <= granularity_bytes <= GRANULARITY_MAX:
        raise BadRequest(
            f"granularity must be a power of 2 and at least {GRANULARITY_MIN}, "
            f"not {granularity_bytes}"
        )


def regrained(bits: BitSet, size_bytes: int, *, old_bytes: int, new_bytes: int) -> BitSet:
    """The same dirty bytes of an image, rounded outwards to another granularity."""
    count = bits_for(size_bytes, new_bytes)
    if new_bytes >= old_bytes:
        return bits.coarsened(new_bytes // old_bytes, count)
    return bits.refined(old_bytes // new_bytes, count)


@dataclass(slots=True, kw_only=True, eq=False)
class DirtyBitmap:
    """A named bitmap of one image.

    Attributes:
        recording: whether writes are recorded.
        inconsistent: its file was open when a process ended: it can only be removed.
        creation_id: told apart from a bitmap of the same name that somebody else made.
        base: the snapshot since which it records, empty for none.
        partial: the file that holds what a failed job has copied, empty for none.
    """

    name: str
    size_bytes: int
    granularity_bytes: int = GRANULARITY_DEFAULT
    bits: BitSet = field(default_factory=lambda: BitSet(0))
    recording: bool = True
    inconsistent: bool = False
    creation_id: str = field(default_factory=lambda: secrets.token_hex(16))
    base: str = ""
    partial: str = ""
    _successor: BitSet | None = None

    def __post_init__(self) -> None:
        check_granularity(self.granularity_bytes)
        if not self.name:
            raise BadRequest("a bitmap's name cannot be empty")
        if len(self.name.encode()) > NAME_BYTES_MAX:
            raise BadRequest(f"a bitmap's name has at most {NAME_BYTES_MAX} bytes")
        count = bits_for(self.size_bytes, self.granularity_bytes)
        if self.bits.count != count:
            if self.bits.count:
                raise BadRequest(f"{self.bits.count} bits do not fit an image that needs {count}")
            self.bits = BitSet(count)

    @property
    def busy(self) -> bool:
        """Whether a job uses it."""
        return self._successor is not None

    def require_usable(self) -> None:
        """Refused when inconsistent, Busy while a job uses it."""
        if self.inconsistent:
            raise Refused(
                f"bitmap '{self.name}' is inconsistent and cannot be used",
                hint="remove it and make a new one; the next backup reads everything",
            )
        if self.busy:
            raise Busy(f"bitmap '{self.name}' is in use by another operation")

    def _span(self, offset: int, length: int) -> tuple[int, int]:
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise BadRequest(f"bytes {offset} to {offset + length} are not in the image")
        first = offset // self.granularity_bytes
        return first, bits_for(offset + length, self.granularity_bytes) if length else first

    def record(self, offset: int, length: int) -> None:
        """A guest wrote these bytes: set all bits they touch, when recording."""
        if self.recording and not self.inconsistent:
            bits = self.bits if self._successor is None else self._successor
            bits.set(*self._span(offset, length))

    def set_range(self, offset: int, length: int) -> None:
        self.require_usable()
        self.bits.set(*self._span(offset, length))

    def clear(self) -> None:
        self.require_usable()
        self.bits.clear_all()

    def count_bytes(self) -> int:
        """Dirty bytes, the last partial bit counted in full, as QEMU counts them."""
        return self.bits.ones() * self.granularity_bytes

    def dirty_ranges(self) -> Iterator[tuple[int, int]]:
        """Dirty (offset, length) in bytes, ascending, cut at the image's end."""
        grain = self.granularity_bytes
        for first, end in self.bits.runs():
            yield first * grain, min(end * grain, self.size_bytes) - first * grain

    def in_clusters(self, cluster_bytes: int) -> BitSet:
        """The dirty area rounded outwards to clusters of another size."""
        return regrained(
            self.bits, self.size_bytes, old_bytes=self.granularity_bytes, new_bytes=cluster_bytes
        )

    def merge(self, other: "DirtyBitmap") -> None:
        """Add another bitmap of an image of the same size, rounded outwards."""
        self.require_usable()
        other.require_usable()
        if other.size_bytes != self.size_bytes:
            raise BadRequest(f"bitmaps '{self.name}' and '{other.name}' differ in image size")
        self.bits.unite(other.in_clusters(self.granularity_bytes))

    def resize(self, size_bytes: int) -> None:
        """Follow the image: new area is clean, what is cut off is forgotten."""
        self.require_usable()
        count = bits_for(size_bytes, self.granularity_bytes)
        self.bits = self.bits.coarsened(1, count)
        self.size_bytes = size_bytes

    def begin_job(self) -> None:
        """Freeze the bits for a job; from now on writes go to a successor.

        Raises:
            Refused, Busy: see require_usable.
            BadRequest: it does not record, so writes during the job would be lost.
        """
        self.require_usable()
        if not self.recording:
            raise BadRequest(
                f"bitmap '{self.name}' is disabled: what is written during the job would be lost",
                hint="enable it first",
            )
        self._successor = BitSet(self.bits.count)

    @property
    def written_since_begin(self) -> BitSet:
        """The successor's bits: what was written since the job began."""
        if self._successor is None:
            raise BadRequest(f"no job uses bitmap '{self.name}'")
        return self._successor

    def end_job(self, after: BitSet) -> None:
        """Let the job go; `after` are the bits from now on."""
        if after.count != self.bits.count:
            raise BadRequest("a job ended with a bitmap of another size")
        self.bits, self._successor = after, None
