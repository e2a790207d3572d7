"""Fleecing images: where old data waits for the backup, so that guests do not.

A fleecing image is a sparse scratch file of exactly the image's size. Old data is written into it
at its own offset, read from there by the backup, and punched out once read. Its content is
worthless after a crash. Names are `vm-ID-fleece-N.FORMAT`; every name is put on record before the
file is made, so a crash at any moment leaves nothing that the next run or `vm cleanup` would not
find: deleting a name that does not exist is success.
"""

import asyncio
import errno
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from holdfast.block.bit_set import BitSet
from holdfast.block.dirty_bitmap import bits_for
from holdfast.block.node import Access, Buffer, FileNode
from holdfast.errors import BadRequest, DamagedData
from holdfast.host import files
from holdfast.units import KIB, MIB

_GUEST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_RECORD_BYTES_MAX: Final = 1 * MIB
_GRAIN: Final = 64 * KIB  # what saved space is counted in


def image_name(guest: str, number: int, image_format: str = "raw") -> str:
    """The file name of a guest's fleecing image (BadRequest)."""
    if not _GUEST.fullmatch(guest) or number < 0:
        raise BadRequest(f"no fleecing image can be named after guest {guest!r}, disk {number}")
    return f"vm-{guest}-fleece-{number}.{image_format}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSizes:
    """The units that have to fit for discards to give space back."""

    fleecing_bytes: int
    filter_bytes: int
    job_bytes: int

    def problem(self) -> str | None:
        """Why the fleecing image would only ever grow; None when all is well."""
        if self.filter_bytes < self.fleecing_bytes:
            return (
                f"old data is saved in {self.filter_bytes} byte clusters, below the fleecing "
                f"image's {self.fleecing_bytes}: discards would be cut to nothing; "
                f"set min-cluster-size to {self.fleecing_bytes}"
            )
        if self.job_bytes < self.filter_bytes:
            return (
                f"the backup discards {self.job_bytes} bytes at a time, below the filter's "
                f"{self.filter_bytes} byte clusters: such discards are aligned down and lost; "
                f"set min-cluster-size to {self.filter_bytes}"
            )
        return None


class FleecingRecord:
    """The list of images that may exist, kept in a file of the state directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def images(self) -> list[str]:
        """Paths on record (DamagedData, OSError)."""
        try:
            data = files.read_file(self.path, size_max=_RECORD_BYTES_MAX)
        except FileNotFoundError:
            return []
        try:
            names = json.loads(data)["images"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedData("record of fleecing images", str(error)) from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DamagedData("record of fleecing images", "not a list of paths")
        return names

    def _write(self, names: Sequence[str]) -> None:
        text = json.dumps({"images": list(names)}).encode()
        files.replace_file(self.path, [text], mode=0o600, sync=True)

    def intend(self, path: str) -> None:
        """Note that `path` is about to be made; durable when this returns (OSError)."""
        names = self.images()
        if path not in names:
            self._write([*names, path])

    def clean(self) -> list[str]:
        """Delete every image on record; warnings for those that have to wait for another time."""
        left, warnings = [], []
        names = self.images()
        for name in names:
            try:
                files.unlink(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                left.append(name)
                warnings.append(f"fleecing image {name} could not be deleted: {error.strerror}")
        if names:
            self._write(left)
        return warnings


class FleecingImage:
    """One open fleecing image of our own block layer, with a budget of space.

    Attributes:
        node: for reading saved data back.
        budget_bytes: refuse to save more than this at a time; 0 for no limit.
        saved_bytes: old data it holds now.
        saved_bytes_max: the most it ever held.
    """

    def __init__(self, node: FileNode, *, budget_bytes: int = 0) -> None:
        self.node = node
        self.budget_bytes = budget_bytes
        self.saved_bytes = 0
        self.saved_bytes_max = 0
        self._held = BitSet(bits_for(node.size_bytes, _GRAIN))

    async def save(self, offset: int, data: Buffer) -> None:
        """Keep old data (OSError ENOSPC above the budget)."""
        if self.budget_bytes and self.saved_bytes + len(data) > self.budget_bytes:
            raise OSError(errno.ENOSPC, f"fleecing budget of {self.budget_bytes} bytes is used up")
        first, end = offset // _GRAIN, bits_for(offset + len(data), _GRAIN)
        self._let_go(first, end)  # a failed copy is tried again at the same place
        self._held.set(first, end)
        self.saved_bytes += (end - first) * _GRAIN
        self.saved_bytes_max = max(self.saved_bytes_max, self.saved_bytes)
        await self.node.write(offset, data)

    def _let_go(self, first: int, end: int) -> None:
        at = first
        while (held := self._held.next_set(at, end)) is not None:
            at = self._held.next_clear(held, end) or end
            self._held.clear(held, at)
            self.saved_bytes -= (at - held) * _GRAIN

    async def save_zeroes(self, offset: int, length: int) -> None:
        """Nothing to do: what was never written reads as zero."""

    async def forget(self, offset: int, length: int) -> None:
        first, end = offset // _GRAIN, bits_for(offset + length, _GRAIN)
        if self._held.next_set(first, end) is not None:
            self._let_go(first, end)
            await self.node.discard(offset, length)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.node.close)


def create(
    path: str, size_bytes: int, record: FleecingRecord, *, budget_bytes: int
) -> FleecingImage:
    """Put `path` on record, then make it: sparse, exactly `size_bytes` (OSError)."""
    record.intend(path)
    with suppress(FileNotFoundError):
        files.unlink(path)
    fd = files.create(path, mode=0o600)
    try:
        os.truncate(fd, size_bytes)
    finally:
        os.close(fd)
    return FleecingImage(FileNode.open(path, Access.READ_WRITE), budget_bytes=budget_bytes)
