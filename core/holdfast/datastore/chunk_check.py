"""Is a stored chunk still what was put in? Reads one file, decodes it, compares.

Memory per checker: one chunk file (16 MiB) and a small window; decoded bytes are hashed piece by
piece and never kept. The checks, in order: length and magic, CRC of the payload, decryption,
decompression, decoded length, digest. Without the key an encrypted chunk can be checked up to its
CRC only, which the result says.
"""

import hashlib
import os
from dataclasses import dataclass
from enum import Enum
from typing import Final

import zstandard

from holdfast.datastore import blob
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import DamagedData
from holdfast.host import files
from holdfast.host.files import Buffer
from holdfast.units import KIB, MIB

STORED_BYTES_MAX: Final = blob.CHUNK_BYTES_MAX + blob.ENCRYPTED_HEADER_BYTES
_PIECE_BYTES: Final = 256 * KIB
_WINDOW_BYTES_MAX: Final = 32 * MIB


class Depth(Enum):
    """How much of a chunk was checked."""

    CONTENT = "content"
    CHECKSUM = "checksum"


@dataclass(frozen=True, slots=True)
class Sound:
    """A chunk without a fault.

    Attributes:
        depth: how far it could be checked.
        is_encrypted: how it is stored.
        stored_bytes: length of its file.
    """

    depth: Depth
    is_encrypted: bool
    stored_bytes: int


class ChunkChecker:
    """Checks chunk files one at a time; each thread has its own."""

    def __init__(self) -> None:
        self._raw = memoryview(bytearray(STORED_BYTES_MAX + 1))
        self._piece = memoryview(bytearray(_PIECE_BYTES))
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)

    def read(self, path: str) -> memoryview:
        """The file's bytes, good until the next call (OSError, DamagedData when too long)."""
        fd = files.open_read(path, extra_flags=os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return self.read_open(fd)
        finally:
            os.close(fd)

    def read_open(self, fd: int) -> memoryview:
        """The bytes of an open file from its start, like read."""
        size = 0
        while more := os.preadv(fd, [self._raw[size:]], size):
            size += more
            if size > STORED_BYTES_MAX:
                raise DamagedData("chunk", f"its file has more than {STORED_BYTES_MAX} bytes")
        return self._raw[:size]

    def check(
        self, raw: memoryview, digest: bytes, length: int, *, key: EncryptionKey | None
    ) -> Sound:
        """Compare a chunk's stored form with its name and its length in the index (DamagedData)."""
        what = f"chunk {digest.hex()}"
        kind = blob.check_crc(raw, what=what)
        if kind.is_encrypted and key is None:
            return Sound(Depth.CHECKSUM, is_encrypted=True, stored_bytes=len(raw))
        payload: Buffer = raw[kind.header_bytes :]
        if kind.is_encrypted:
            assert key is not None
            payload = key.decrypt(raw[12:28], raw[28:44], payload, what=what)
        hasher = hashlib.sha256()
        decoded = self._hash(payload, length, hasher, what) if kind.is_compressed else len(payload)
        if not kind.is_compressed:
            hasher.update(payload)
        if decoded != length:
            raise DamagedData(what, f"it holds {decoded} bytes, the index says {length}")
        if kind.is_encrypted:
            assert key is not None
            hasher.update(key.id_key)
        if hasher.digest() != digest:
            raise DamagedData(what, "its content has another digest")
        return Sound(Depth.CONTENT, is_encrypted=kind.is_encrypted, stored_bytes=len(raw))

    def _hash(self, payload: Buffer, length: int, hasher: "hashlib._Hash", what: str) -> int:
        """Hash what `payload` unpacks to; its length, or a little more than `length`."""
        decoded = 0
        reader = self._decompressor.stream_reader(payload, read_across_frames=True)
        try:
            while decoded <= length and (count := reader.readinto(self._piece)):
                hasher.update(self._piece[:count])
                decoded += count
        except (zstandard.ZstdError, MemoryError) as error:
            raise DamagedData(what, "its compressed data is wrong") from error
        return decoded
