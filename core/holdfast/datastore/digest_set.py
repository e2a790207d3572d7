"""Many digests in little memory: sorted arrays of 32 bytes per chunk, no Python objects.

A set is a short list of sorted arrays whose sizes grow geometrically, so adding is cheap and a
question goes through a logarithmic number of arrays. Memory: 32 bytes per distinct digest, twice
that for a moment while arrays are merged (10 million chunks, 40 TiB of data: 320 MB).

Digests are numpy `S32`: comparing drops NUL bytes at the end, which changes neither order nor
equality while every element has the same width. `tolist()` drops them too, so use `digest_bytes`.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from holdfast.ids import DIGEST_BYTES

if TYPE_CHECKING:
    from holdfast.datastore.index import Index

Digests = npt.NDArray[np.bytes_]
Mask = npt.NDArray[np.bool_]
Sizes = npt.NDArray[np.uint32]

_DIGEST: Final = np.dtype("S32")
_DYNAMIC_ENTRY: Final = np.dtype([("end", "<u8"), ("digest", _DIGEST)])
PREFIX_COUNT: Final = 1 << 16
_ADD_MAX: Final = 1 << 18  # of a long index at once, since adding sorts a copy


def empty() -> Digests:
    return np.empty(0, dtype=_DIGEST)


def from_bytes(digests: Iterable[bytes]) -> Digests:
    """An array of 32-byte digests in the order given."""
    return np.frombuffer(b"".join(digests), dtype=_DIGEST)


def column(index: "Index") -> Digests:
    """The digest of every chunk of `index`, in the order of the stream."""
    if index.table.nbytes == index.chunk_count * DIGEST_BYTES:
        return np.frombuffer(index.table, dtype=_DIGEST)
    return np.frombuffer(index.table, dtype=_DYNAMIC_ENTRY)["digest"]


def lengths(index: "Index") -> Sizes:
    """The length in bytes of the data behind every chunk of `index`, in the order of the stream."""
    if index.table.nbytes == index.chunk_count * DIGEST_BYTES:
        start, end = index.range_at(0)
        every = np.full(index.chunk_count, end - start, dtype=np.uint32)
        start, end = index.range_at(index.chunk_count - 1)
        every[-1] = end - start
        return every
    ends = np.frombuffer(index.table, dtype=_DYNAMIC_ENTRY)["end"]
    return np.diff(ends, prepend=np.uint64(0)).astype(np.uint32)


def digest_bytes(digests: Digests) -> Iterator[bytes]:
    """Each digest as 32 bytes."""
    flat = np.ascontiguousarray(digests).tobytes()
    return (flat[at : at + DIGEST_BYTES] for at in range(0, len(flat), DIGEST_BYTES))


def distinct(digests: Digests) -> Digests:
    """Sorted, each once."""
    ordered = np.sort(digests)
    if len(ordered) < 2:  # noqa: PLR2004  # nothing to compare with
        return ordered
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


def positions(ordered: Digests, wanted: Digests) -> tuple[npt.NDArray[np.intp], Mask]:
    """Where each of `wanted` stands in the sorted array `ordered`, and whether it is there."""
    if not len(ordered):
        return np.zeros(len(wanted), dtype=np.intp), np.zeros(len(wanted), dtype=np.bool_)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return at, ordered[at] == wanted


def first_positions(stream: Digests, ordered: Digests) -> npt.NDArray[np.intp]:
    """Where each of the sorted array `ordered` stands first in `stream`, which holds them all."""
    by_digest = np.argsort(stream, kind="stable")
    return by_digest[np.searchsorted(stream, ordered, sorter=by_digest)]


class DigestSet:
    """A growing set."""

    def __init__(self) -> None:
        self._runs: list[Digests] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def contains(self, digests: Digests) -> Mask:
        """For each of `digests` whether it is in the set."""
        found = np.zeros(len(digests), dtype=np.bool_)
        for run in self._runs:
            found |= positions(run, digests)[1]
        return found

    def add(self, digests: Digests) -> Digests:
        """Put all in; those that were new, sorted, each once."""
        candidates = distinct(digests)
        new = candidates[~self.contains(candidates)]
        if len(new):
            self._runs.append(new)
            while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
                upper = self._runs.pop()
                self._runs.append(_merged(self._runs.pop(), upper))
        return new

    def add_below(self, digests: Digests, first: int, end: int) -> None:
        """Put in those of the chunk directories `first` up to, not including, `end`."""
        for at in range(0, len(digests), _ADD_MAX):
            part = digests[at : at + _ADD_MAX]
            if first:
                part = part[part >= _key(first)]
            if end < PREFIX_COUNT:
                part = part[part < _key(end)]
            self.add(part)

    def halve(self) -> int:
        """Drop about the upper half, in whole chunk directories; the first directory dropped."""
        ordered = self.ordered()
        end = int.from_bytes(ordered[len(ordered) // 2][:2].ljust(2, b"\0"), "big") or 1
        kept = ordered[: np.searchsorted(ordered, _key(end))]
        self._runs = [kept.copy()]
        return end

    def ordered(self) -> Digests:
        """All of it in one sorted array."""
        while len(self._runs) > 1:
            upper = self._runs.pop()
            self._runs.append(_merged(self._runs.pop(), upper))
        return self._runs[0] if self._runs else empty()


def _key(prefix: int) -> np.bytes_:
    """What the digests of a chunk directory and all after it are not less than."""
    return np.bytes_(prefix.to_bytes(2, "big"))


def _merged(one: Digests, other: Digests) -> Digests:
    both: Digests = np.concatenate((one, other))
    both.sort()
    return both


def prefix_bounds(ordered: Digests) -> list[int]:
    """Where each of the 65,536 chunk directories begins in the sorted array, and the end."""
    prefixes: npt.NDArray[Any] = np.ndarray(
        shape=(len(ordered),), dtype=">u2", buffer=np.ascontiguousarray(ordered), strides=(32,)
    )
    bounds: list[int] = np.searchsorted(prefixes, np.arange(PREFIX_COUNT)).tolist()
    return [*bounds, len(ordered)]
