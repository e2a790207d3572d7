"""An NBD export as the source of a backup: read by the upload workers themselves.

Every worker has a connection of its own where the server allows several, so reading, hashing and
compressing go on side by side. Block status is asked on one connection, before anything is read.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import plan_chunks
from holdfast.block.dirty_bitmap import bits_for
from holdfast.block.nbd_client import PIECE_BYTES, NbdClient
from holdfast.block.nbd_protocol import BASE_ALLOCATION, DIRTY_PREFIX, ExportFlag
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.partial_image import PartialImage
from holdfast.datastore.image_writer import Fill, ImageWriter
from holdfast.errors import HoldfastError, TemporaryFailure
from holdfast.units import GIB

_DISCARD_BYTES_MAX: Final = 1 * GIB


@contextmanager
def _as_failure(address: NbdAddress, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if os.strerror(errno.EACCES) in reason:  # how QEMU says that a snapshot is broken
            raise TemporaryFailure(
                f"old data of a guest's write to {address.export} could not be saved (no space, or "
                "not in time), so the backup was given up and the guest went on"
            ) from error
        raise HoldfastError(f"NBD export {address.export!r}: {reason} while {doing}") from error


class NbdSource:
    """An export that is read by several threads.

    Attributes:
        address: where it is.
        size_bytes: of the export.
    """

    def __init__(
        self,
        address: NbdAddress,
        *,
        bitmaps: Sequence[str] = (),
        discard_bytes: int = 0,
        saved: NbdAddress | None = None,
    ) -> None:
        """Connect (NbdError, BadRequest).

        Args:
            address: where to.
            bitmaps: dirty bitmaps to be asked about.
            discard_bytes: discard what was read, in whole units of so many bytes: the export keeps
                the past of a disk, and it costs its guest. 0 for an export that is only read.
            saved: an export of the old data itself, for servers that mistake what guests made zero
                for the past: where it has data, nothing is zero, and no read may cross from it to
                what was not saved, so that reads are of single units.
        """
        contexts = (BASE_ALLOCATION, *(DIRTY_PREFIX + name for name in bitmaps))
        self.address = address
        self._control = NbdClient.connect(address, contexts=contexts)
        self._saved = None if saved is None else NbdClient.connect(saved)
        self._piece_bytes = PIECE_BYTES if saved is None else discard_bytes
        self.size_bytes = self._control.size_bytes
        self._discard_bytes = discard_bytes
        self._is_parallel = bool(self._control.flags & ExportFlag.CAN_MULTI_CONN)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._clients: list[NbdClient] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        for client in (*self._clients, self._control, self._saved):
            if client is not None:
                client.close()

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view`, in any thread (HoldfastError)."""
        with _as_failure(self.address, f"reading at {offset}"):
            if not self._is_parallel:
                with self._lock:
                    self._control.read_into(offset, view, piece_bytes=self._piece_bytes)
                    self._discard(self._control, offset, len(view))
                return
            client = getattr(self._local, "client", None)
            if client is None:
                client = NbdClient.connect(self.address, contexts=())
                self._local.client = client
                with self._lock:
                    self._clients.append(client)
            client.read_into(offset, view, piece_bytes=self._piece_bytes)
            self._discard(client, offset, len(view))

    def _discard(self, client: NbdClient, offset: int, length: int) -> None:
        unit = self._discard_bytes
        if unit:
            start, end = bits_for(offset, unit) * unit, (offset + length) // unit * unit
            for at in range(start, end, _DISCARD_BYTES_MAX):
                client.trim(at, min(_DISCARD_BYTES_MAX, end - at))

    def let_go(self, chunks: BitSet, chunk_bytes: int) -> None:
        """Say that some chunks will not be read (HoldfastError)."""
        with _as_failure(self.address, "discarding"), self._lock:
            for first, end in chunks.runs() if self._discard_bytes else ():
                start = first * chunk_bytes
                length = min(end * chunk_bytes, self.size_bytes) - start
                self._discard(self._control, start, length)

    def fill(self, offset: int) -> Fill:
        """A function that reads from `offset` into a buffer."""
        return lambda view: self.read_into(offset, view)

    def dirty_chunks(self, bitmap: str, chunk_bytes: int) -> BitSet:
        """Chunks that a dirty bitmap of the export touches (HoldfastError)."""
        chunks = BitSet(bits_for(self.size_bytes, chunk_bytes))
        with _as_failure(self.address, f"asking for bitmap {bitmap}"), self._lock:
            for offset, length, flags in self._control.status(
                DIRTY_PREFIX + bitmap, 0, self.size_bytes
            ):
                if flags & 1:
                    chunks.set(offset // chunk_bytes, bits_for(offset + length, chunk_bytes))
        return chunks

    def zero_ranges(self, chunks: BitSet, chunk_bytes: int) -> list[tuple[int, int]]:
        """Stretches (offset, length) within some chunks that read as zero (HoldfastError)."""
        found: list[tuple[int, int]] = []
        with _as_failure(self.address, "asking for holes"), self._lock:
            for first, end in chunks.runs():
                start = first * chunk_bytes
                length = min(end * chunk_bytes, self.size_bytes) - start
                extents = self._control.extents(start, length)
                found += [(e.offset, e.length) for e in extents if e.is_zero]
        return found

    def saved_chunks(self, chunk_bytes: int) -> BitSet:
        """Chunks with old data that guests have overwritten; ask after zero_ranges (HoldfastError).

        Old data is saved before it is overwritten, so what was made zero by then is among them.
        """
        chunks = BitSet(bits_for(self.size_bytes, chunk_bytes))
        if self._saved is not None:
            with _as_failure(self.address, "asking for saved data"):
                for extent in self._saved.extents(0, self.size_bytes):
                    if not extent.is_zero:
                        first, end = extent.offset // chunk_bytes, bits_for(extent.end, chunk_bytes)
                        chunks.set(first, end)
        return chunks


@dataclass(frozen=True, slots=True)
class PullOutcome:
    """What one image cost: bytes read, and chunks that were zero or kept without reading."""

    read_bytes: int
    zero_chunks: int
    kept_chunks: int


def pull_image(
    source: NbdSource,
    writer: ImageWriter,
    *,
    refresh: BitSet | None = None,
    partial: PartialImage | None = None,
    point: int = 0,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> PullOutcome:
    """Back up an export and close the writer.

    Args:
        source: what is read.
        writer: an open image of the same size.
        refresh: chunks to read; None for all. Others come from `partial` or the base.
        partial: chunks stored by failed runs; told of each chunk that is stored now.
        point: number of this point in time, noted in `partial`.
        advance: told how many bytes of the image were dealt with.

    Raises:
        HoldfastError: the server or the store failed; `partial` then has what is stored.
    """
    chunks = BitSet.full(writer.chunk_count) if refresh is None else refresh
    size, chunk_bytes = source.size_bytes, writer.chunk_bytes
    zero = source.zero_ranges(chunks, chunk_bytes)
    data = source.saved_chunks(chunk_bytes)
    plan = plan_chunks(chunks, size_bytes=size, chunk_bytes=chunk_bytes, zero=zero, data=data)
    if partial is not None:
        writer.on_stored = lambda number, digest: partial.add(number, digest, point)
    try:
        source.let_go(plan.not_read(), chunk_bytes)
        for number in plan.zero.tolist():
            writer.put_zero(number)
            if partial is not None:
                partial.add(number, b"", point)
            advance(writer.length_of(number))
        for number in plan.read.tolist():
            writer.fetch(number, source.fill(number * chunk_bytes))
            advance(writer.length_of(number))
        _keep(plan.keep.tolist(), writer, partial, advance)
        writer.close()
    except BaseException:
        writer.settle()
        raise
    return PullOutcome(plan.read_bytes, len(plan.zero), len(plan.keep))


def _keep(
    numbers: list[int],
    writer: ImageWriter,
    partial: PartialImage | None,
    advance: Callable[[int], None],
) -> None:
    held = None if partial is None else partial.held()
    for number in numbers:
        if partial is None or held is None or not held.test(number):
            writer.keep(number)
        elif digest := partial.digest(number):
            writer.link(number, digest)
        else:
            writer.put_zero(number)
        advance(writer.length_of(number))
