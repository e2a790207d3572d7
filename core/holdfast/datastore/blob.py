"""DataBlob: the one wrapper around chunks and `.blob` files.

Little-endian; source: Proxmox Backup, "File Formats", data blob. Story: docs/formats/blob.md
    plain, zstd                            encrypted, encrypted zstd
     0   8  magic                           0   8  magic
     8   4  CRC-32 of the payload           8   4  CRC-32 of the ciphertext
    12  ..  payload to the end             12  16  IV
                                           28  16  AES-GCM tag
                                           44  ..  ciphertext to the end
A magic is the first 8 bytes of SHA-256 of the kind's phrase. Compression comes first, encryption
second, and the compressed form is kept only when it is shorter.
"""

import struct
import threading
from collections.abc import Sequence
from enum import Enum
from typing import Final

import zstandard

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:  # a processor that it is not packaged for
    from zlib import crc32

from holdfast.datastore.keys import IV_BYTES, TAG_BYTES, EncryptionKey
from holdfast.errors import BadRequest, DamagedData, KeyProblem
from holdfast.host.files import Buffer
from holdfast.units import MIB

PLAIN_HEADER_BYTES: Final = 12
ENCRYPTED_HEADER_BYTES: Final = PLAIN_HEADER_BYTES + IV_BYTES + TAG_BYTES
CHUNK_BYTES_MAX: Final = 16 * MIB
BLOB_BYTES_MAX: Final = 128 * MIB
CHUNK_FILE_BYTES_MAX: Final = CHUNK_BYTES_MAX + ENCRYPTED_HEADER_BYTES
BLOB_FILE_BYTES_MAX: Final = BLOB_BYTES_MAX + ENCRYPTED_HEADER_BYTES

_HEADER: Final = struct.Struct("<8sI")
_RLE_BLOCK: Final = 1  # its size tells how often one byte repeats


class BlobKind(Enum):
    """How the payload was changed; the value is the magic."""

    PLAIN = bytes.fromhex("42ab3807be8370a1")
    ZSTD = bytes.fromhex("31b958426fb6a37f")
    ENCRYPTED = bytes.fromhex("7b6785be222d4cf0")
    ENCRYPTED_ZSTD = bytes.fromhex("e6591bbf0bbfd80b")

    @property
    def is_encrypted(self) -> bool:
        return self in (BlobKind.ENCRYPTED, BlobKind.ENCRYPTED_ZSTD)

    @property
    def is_compressed(self) -> bool:
        return self in (BlobKind.ZSTD, BlobKind.ENCRYPTED_ZSTD)

    @property
    def header_bytes(self) -> int:
        return ENCRYPTED_HEADER_BYTES if self.is_encrypted else PLAIN_HEADER_BYTES


_KINDS: Final = {kind.value: kind for kind in BlobKind}


def kind_of(blob: Buffer, *, what: str = "blob") -> BlobKind:
    """The kind by magic and length alone, the payload unread; DamagedData when it is no blob."""
    if len(blob) < PLAIN_HEADER_BYTES:
        raise DamagedData(what, f"{len(blob)} bytes are too few for a blob")
    kind = _KINDS.get(bytes(blob[:8]))
    if kind is None:
        raise DamagedData(what, "it does not begin like a blob")
    if len(blob) < kind.header_bytes:
        raise DamagedData(what, f"{len(blob)} bytes are too few for an encrypted blob")
    return kind


def check_crc(blob: Buffer, *, what: str = "blob") -> BlobKind:
    """The kind of `blob`, once its checksum is found right; DamagedData otherwise."""
    kind = kind_of(blob, what=what)
    _magic, crc = _HEADER.unpack_from(blob)
    if crc32(memoryview(blob)[kind.header_bytes :]) != crc:
        raise DamagedData(what, "its checksum is wrong")
    return kind


class Codec:
    """Encodes and decodes blobs with zstd contexts that are used again; one per thread."""

    __slots__ = ("_compressor", "_decompressor", "_level")

    def __init__(self) -> None:
        self._compressor: zstandard.ZstdCompressor | None = None
        self._decompressor: zstandard.ZstdDecompressor | None = None
        self._level = 0

    def encode(
        self, data: Buffer, *, key: EncryptionKey | None = None, level: int | None = 1
    ) -> list[Buffer]:
        """`data` as a blob in two parts, header and payload, which the file holds one by one.

        Args:
            data: at most 128 MiB; an uncompressed plain payload is `data` itself, not a copy.
            key: encrypt with it.
            level: zstd level, None for no compression.

        Raises:
            BadRequest: more than 128 MiB.
        """
        size = len(data)
        if size > BLOB_BYTES_MAX:
            raise BadRequest(f"a blob holds at most {BLOB_BYTES_MAX} bytes, not {size}")
        payload: Buffer = data
        if level is not None:
            compressed = self._compress(data, level)
            if len(compressed) < size:
                payload = compressed
        is_compressed = payload is not data
        if key is None:
            kind = BlobKind.ZSTD if is_compressed else BlobKind.PLAIN
            return [_HEADER.pack(kind.value, crc32(payload)), payload]
        kind = BlobKind.ENCRYPTED_ZSTD if is_compressed else BlobKind.ENCRYPTED
        iv, tag, ciphertext = key.encrypt(payload)
        return [_HEADER.pack(kind.value, crc32(ciphertext)) + iv + tag, ciphertext]

    def decode(
        self,
        blob: Buffer,
        *,
        key: EncryptionKey | None = None,
        size_max: int = BLOB_BYTES_MAX,
        what: str = "blob",
    ) -> bytes:
        """The bytes that were put in: checksum, decryption, decompression, in this order.

        Args:
            blob: the whole blob.
            key: needed when it is encrypted.
            size_max: more decoded bytes than this are damage; bounds the memory used.
            what: the blob's name in errors.

        Raises:
            DamagedData: not a blob, or changed since it was written.
            KeyProblem: encrypted, and no key given.
        """
        kind = check_crc(blob, what=what)
        view = memoryview(blob)
        payload: Buffer = view[kind.header_bytes :]
        if kind.is_encrypted:
            if key is None:
                raise KeyProblem(f"{what} is encrypted: give the key it was encrypted with")
            payload = key.decrypt(view[12:28], view[28:44], payload, what=what)
        if kind.is_compressed:
            return self._decompress(payload, size_max, what)
        if len(payload) > size_max:
            raise DamagedData(what, f"{len(payload)} bytes, more than the {size_max} it may hold")
        return bytes(payload)

    def _compress(self, data: Buffer, level: int) -> bytes:
        if self._compressor is None or self._level != level:
            self._compressor = zstandard.ZstdCompressor(level=level)
            self._level = level
        return self._compressor.compress(data)

    def _decompress(self, payload: Buffer, size_max: int, what: str) -> bytes:
        if self._decompressor is None:
            self._decompressor = zstandard.ZstdDecompressor()
        view = memoryview(payload)
        parts: list[bytes] = []
        room = size_max
        position = 0
        try:
            while position < len(view) or not parts:
                frame = view[position:]
                frame = frame[: _frame_bytes(frame, what)]
                if zstandard.frame_content_size(frame) > room:
                    raise DamagedData(what, f"it unpacks to more than {size_max} bytes")
                parts.append(self._decompressor.decompress(frame, max_output_size=room or 1))
                room -= len(parts[-1])
                position += len(frame)
        except zstandard.ZstdError as error:
            raise DamagedData(
                what, f"its compressed data is wrong, or more than {size_max} bytes"
            ) from error
        if room < 0:
            raise DamagedData(what, f"it unpacks to more than {size_max} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _frame_bytes(view: memoryview, what: str) -> int:
    """Length of the zstd frame that `view` begins with, told by its block headers (RFC 8878).

    The one-shot decompressor needs to know: it overlooks whatever follows a frame without a size.
    """
    try:
        at = zstandard.frame_header_size(view)
        has_checksum = bool(view[4] & 4)
        is_last = False
        while not is_last:
            header = int.from_bytes(view[at : at + 3], "little")
            is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            at += 3 + (1 if kind == _RLE_BLOCK else size)
            if at > len(view):
                raise DamagedData(what, "its compressed data ends early")
    except (zstandard.ZstdError, IndexError) as error:
        raise DamagedData(what, "its compressed data does not begin like zstd") from error
    return at + 4 * has_checksum


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.codec = Codec()


_per_thread: Final = _PerThread()


def encode(
    data: Buffer, *, key: EncryptionKey | None = None, level: int | None = 1
) -> list[Buffer]:
    """Codec.encode with this thread's codec."""
    return _per_thread.codec.encode(data, key=key, level=level)


def decode(
    blob: Buffer,
    *,
    key: EncryptionKey | None = None,
    size_max: int = BLOB_BYTES_MAX,
    what: str = "blob",
) -> bytes:
    """Codec.decode with this thread's codec."""
    return _per_thread.codec.decode(blob, key=key, size_max=size_max, what=what)


def size_of(parts: Sequence[Buffer]) -> int:
    """Bytes that the parts of a blob take up in a file."""
    return sum(len(part) for part in parts)
