"""What fixed and dynamic indexes have in common: a header of 4096 bytes and a table of chunks.

    0   8  magic       24   8  ctime, seconds since 1970, signed
    8  16  UUID        32  32  SHA-256 of the table
   64  ..  of the kind's own, zero to 4096; then the table to the end of the file
Little-endian. Source: Proxmox Backup, "File Formats". Story: docs/formats/index.md
"""

import os
import struct
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self, runtime_checkable

from holdfast.errors import DamagedData, NotFound
from holdfast.host import files
from holdfast.units import GIB

HEADER_BYTES: Final = 4096
INDEX_FILE_BYTES_MAX: Final = 1 * GIB  # more than 100 TiB of chunks; bounds what a lie can cost
HEAD: Final = struct.Struct("<8s16sq32s")  # magic, uuid, ctime, csum


@runtime_checkable
class Index(Protocol):
    """Which chunk holds each stretch of a stream or image."""

    path: str
    uuid: bytes
    ctime_s: int
    header_csum: bytes
    table: memoryview

    @property
    def size_bytes(self) -> int:
        """Length of the stream."""
        ...

    @property
    def chunk_count(self) -> int: ...

    def digest_at(self, position: int) -> bytes:
        """The name of chunk number `position`."""
        ...

    def range_at(self, position: int) -> tuple[int, int]:
        """Where chunk number `position` begins and ends in the stream."""
        ...

    def find(self, offset: int) -> int:
        """The number of the chunk that holds byte `offset`; IndexError outside the stream."""
        ...

    def digests(self) -> Iterator[bytes]:
        """All names in the order of the stream, repeated ones too."""
        ...

    def checksum(self) -> bytes:
        """SHA-256 of the table, computed anew; what a manifest calls `csum`."""
        ...


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What a manifest says about an index.

    Attributes:
        size_bytes: length of the stream, not of the index file.
        checksum: SHA-256 of the table.
        chunk_count: entries of the table.
    """

    size_bytes: int
    checksum: bytes
    chunk_count: int


def open_index(path: str) -> Index:
    """Read the index at `path`, whose kind its suffix tells (NotFound, DamagedData)."""
    from holdfast.datastore.dynamic_index import DynamicIndex
    from holdfast.datastore.fixed_index import FixedIndex

    if path.endswith(".fidx"):
        return FixedIndex.open(path)
    if path.endswith(".didx"):
        return DynamicIndex.open(path)
    raise DamagedData(os.path.basename(path), "neither a .fidx nor a .didx file")


def read_index_file(path: str) -> bytes:
    """The whole file; NotFound when there is none, DamagedData when it cannot be an index."""
    what = os.path.basename(path)
    with files.explained(f"reading the index {what}"):
        try:
            data = files.read_file(path, size_max=INDEX_FILE_BYTES_MAX)
        except FileNotFoundError as error:
            raise NotFound(f"there is no index {what} in this snapshot") from error
    if len(data) < HEADER_BYTES:
        raise DamagedData(what, f"{len(data)} bytes are too few for an index")
    return data


def new_uuid() -> bytes:
    return uuid.uuid4().bytes


class PendingIndex:
    """An index that is being written: under a temporary name until it is complete.

    Used as a context manager, the end of the block removes it unless it was published.

    Attributes:
        path: its final name.
    """

    def __init__(
        self, path: str, *, temporary_suffix: str, owner: tuple[int, int] | None = None
    ) -> None:
        """Make the temporary file; what a killed writer left is thrown away (NoSpace, Refused)."""
        self.path = path
        self._owner = owner
        self._temporary = files.temporary_name(path, temporary_suffix)
        self._is_open = False
        with files.explained(f"creating the index {os.path.basename(path)}"):
            self._fd = _create_anew(self._temporary)
        self._is_open = True

    def _give_name(self) -> None:
        """Rename the file, which is written to its end, to its final name (OSError)."""
        if self._owner is not None:
            os.fchown(self._fd, *self._owner)
        files.rename(self._temporary, self.path)
        self._is_open = False
        os.close(self._fd)

    def abandon(self) -> None:
        """Remove what was begun; does nothing once the index has its name."""
        if self._is_open:
            self._is_open = False
            os.close(self._fd)
            with suppress(OSError):
                files.unlink(self._temporary)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.abandon()


def _create_anew(path: str) -> int:
    try:
        return files.create(path)
    except FileExistsError:
        files.unlink(path)
        return files.create(path)
