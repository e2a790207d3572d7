"""The dirty bitmaps of one image, kept in a file while nobody serves the image.

     0   8  magic "HFBITMAP"
     8  32  SHA-256 of everything behind this field
    40   4  length of the description, little-endian
    44   n  description, JSON: image size, image time stamp, in use or not, one record per bitmap
    44+n    the bits of each bitmap, zlib, in the order of the records

The file is marked "in use" while an image is served. A file found so was left by a process that
ended without closing it: writes may be missing, so all its bitmaps are inconsistent. The same holds
when the image was changed after the file was closed, which its modification time tells (block
devices have none and are not checked). Bitmaps made and never saved are missing afterwards.
"""

import hashlib
import json
import os
import stat
import struct
import zlib
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Self

from holdfast.block.bit_set import BitSet
from holdfast.block.dirty_bitmap import DirtyBitmap, bits_for, check_granularity
from holdfast.errors import BadRequest, DamagedData, NotFound
from holdfast.host import files
from holdfast.units import GIB, MIB

MAGIC: Final = b"HFBITMAP"
HEADER: Final = struct.Struct("<8s32sI")
_FILE_BYTES_MAX: Final = 1 * GIB
_DESCRIPTION_BYTES_MAX: Final = 1 * MIB


class Mark(Enum):
    """Whether a process is recording into the bitmaps."""

    CLOSED = "closed"
    IN_USE = "in-use"


def image_stamp(fd: int) -> int:
    """The image's modification time in nanoseconds; 0 for a block device (OSError)."""
    info = os.fstat(fd)
    return info.st_mtime_ns if stat.S_ISREG(info.st_mode) else 0


def encode(
    bitmaps: Mapping[str, DirtyBitmap], *, image_bytes: int, stamp: int, mark: Mark
) -> list[bytes]:
    """The file's parts. A bitmap that a job uses is stored as if the job had failed: S | N."""
    records, tables = [], []
    for bitmap in bitmaps.values():
        bits = bitmap.bits
        if bitmap.busy:
            bits = bits.copy()
            bits.unite(bitmap.written_since_begin)
        table = zlib.compress(bits.to_bytes(), 1)
        tables.append(table)
        records.append(
            {
                "name": bitmap.name,
                "granularity": bitmap.granularity_bytes,
                "recording": bitmap.recording,
                "inconsistent": bitmap.inconsistent,
                "creation_id": bitmap.creation_id,
                "base": bitmap.base,
                "partial": bitmap.partial,
                "stored_bytes": len(table),
            }
        )
    about = {"image_bytes": image_bytes, "stamp": stamp, "mark": mark.value, "bitmaps": records}
    description = json.dumps(about).encode()
    rest = [struct.pack("<I", len(description)), description, *tables]
    return [MAGIC + hashlib.sha256(b"".join(rest)).digest(), *rest]


def _bitmap(record: dict[str, Any], data: bytes, image_bytes: int, *, broken: bool) -> DirtyBitmap:
    granularity = record["granularity"]
    check_granularity(granularity)
    count = bits_for(image_bytes, granularity)
    inflater = zlib.decompressobj()
    table = inflater.decompress(data, (count + 7) // 8 + 1)
    return DirtyBitmap(
        name=record["name"],
        size_bytes=image_bytes,
        granularity_bytes=granularity,
        bits=BitSet.from_bytes(table, count),
        recording=bool(record["recording"]),
        inconsistent=broken or bool(record["inconsistent"]),
        creation_id=str(record["creation_id"]),
        base=str(record["base"]),
        partial=str(record["partial"]),
    )


def decode(data: bytes, *, image_bytes: int, stamp: int) -> dict[str, DirtyBitmap]:
    """The bitmaps of a file (DamagedData); those that cannot be believed are inconsistent."""
    what = "bitmap file"
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise DamagedData(what, "no header at the start")
    _magic, checksum, length = HEADER.unpack_from(data)
    if hashlib.sha256(memoryview(data)[40:]).digest() != checksum:
        raise DamagedData(what, "its checksum does not match")
    if length > _DESCRIPTION_BYTES_MAX or HEADER.size + length > len(data):
        raise DamagedData(what, "its description does not fit")
    try:
        about = json.loads(data[HEADER.size : HEADER.size + length])
        size, at = int(about["image_bytes"]), HEADER.size + length
        broken = about["mark"] != Mark.CLOSED.value or about["stamp"] != stamp
        bitmaps = {}
        for record in about["bitmaps"]:
            end = at + int(record["stored_bytes"])
            if not at <= end <= len(data):
                raise DamagedData(what, "a bitmap reaches behind its end")
            bitmap = _bitmap(record, data[at:end], size, broken=broken)
            bitmaps[bitmap.name], at = bitmap, end
    except (KeyError, TypeError, ValueError, BadRequest, zlib.error) as error:
        raise DamagedData(what, f"its description makes no sense ({error})") from error
    for bitmap in bitmaps.values():
        if size != image_bytes and not bitmap.inconsistent:
            bitmap.resize(image_bytes)
    return bitmaps


class BitmapFile:
    """The bitmaps of an image that is open for writing, saved when it closes.

    Attributes:
        bitmaps: by name; change them through add() and remove().
    """

    def __init__(self, path: str, image_fd: int, image_bytes: int) -> None:
        self.path = path
        self.bitmaps: dict[str, DirtyBitmap] = {}
        self._image_fd = image_fd
        self._image_bytes = image_bytes

    @classmethod
    def open(cls, path: str, image_fd: int, image_bytes: int) -> Self:
        """Load the bitmaps and mark the file in use.

        Raises:
            DamagedData: the file is not what was written; delete it and back up in full.
            OSError: the disk's own complaint.
        """
        opened = cls(path, image_fd, image_bytes)
        opened.bitmaps = load(path, image_fd, image_bytes)
        opened._save(Mark.IN_USE)
        return opened

    def _save(self, mark: Mark) -> None:
        if mark is Mark.IN_USE and not self.bitmaps and not os.path.exists(self.path):
            return
        parts = encode(
            self.bitmaps,
            image_bytes=self._image_bytes,
            stamp=image_stamp(self._image_fd),
            mark=mark,
        )
        files.replace_file(self.path, parts, mode=0o600, sync=True)

    def add(self, bitmap: DirtyBitmap) -> None:
        """Keep another bitmap; it is lost should this process be killed before close()."""
        if bitmap.name in self.bitmaps:
            raise BadRequest(f"bitmap already exists: {bitmap.name}")
        self.bitmaps[bitmap.name] = bitmap
        self._save(Mark.IN_USE)

    def remove(self, name: str) -> None:
        """Forget a bitmap (NotFound, Busy); an inconsistent one may be removed."""
        bitmap = self.bitmaps.get(name)
        if bitmap is None:
            raise NotFound(f"dirty bitmap '{name}' not found")
        if not bitmap.inconsistent:
            bitmap.require_usable()
        del self.bitmaps[name]
        self._save(Mark.IN_USE)

    def close(self) -> None:
        """Save everything and take the mark away; the image must not be written any more."""
        self._save(Mark.CLOSED)


def load(path: str, image_fd: int, image_bytes: int) -> dict[str, DirtyBitmap]:
    """The bitmaps kept for an image, without marking anything (DamagedData, OSError)."""
    try:
        data = files.read_file(path, size_max=_FILE_BYTES_MAX)
    except FileNotFoundError:
        return {}
    return decode(data, image_bytes=image_bytes, stamp=image_stamp(image_fd))
