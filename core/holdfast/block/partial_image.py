"""What failed runs have stored of an image: kept so that a retry copies only the rest.

     0   8  magic "HFPARTIA"
     8  32  SHA-256 of everything behind this field
    40   4  length of the description, little-endian
    44   n  description, JSON: sizes, the snapshot below, what else must not change
    44+n    for each chunk 4 bytes, little-endian: the point in time its digest belongs to, -1 for
            none; then for each chunk 32 bytes: its digest, zeros for a chunk of zeros

A partial image mixes points in time and is no backup. It does not keep its chunks from being
collected as garbage: a retry looks for each and reads again those that are gone.
"""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import ImageFacts
from holdfast.block.dirty_bitmap import bits_for
from holdfast.errors import BadRequest, DamagedData
from holdfast.host import files
from holdfast.units import GIB

MAGIC: Final = b"HFPARTIA"
_DIGEST_BYTES: Final = 32
_HEADER: Final = struct.Struct("<8s32sI")
_CHECKED_FROM: Final = 40
_FILE_BYTES_MAX: Final = 1 * GIB
_NONE: Final = -1


@dataclass(slots=True, kw_only=True, eq=False)
class PartialImage:
    """Chunks that are in the store though their snapshot never was finished.

    Attributes:
        facts: of the image; a retry must find the same.
        base: the snapshot that chunks not stored here come from, empty for none.
        owner: which bitmap (or chain of them) belongs to it.
        valid_as_of: for each chunk the point in time of its digest, -1 for none.
        digests: one row of 32 bytes for each chunk.
    """

    facts: ImageFacts
    base: str
    owner: str
    valid_as_of: npt.NDArray[np.int32]
    digests: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, facts: ImageFacts, *, base: str, owner: str) -> Self:
        count = bits_for(facts.size_bytes, facts.chunk_bytes)
        return cls(
            facts=facts,
            base=base,
            owner=owner,
            valid_as_of=np.full(count, _NONE, np.int32),
            digests=np.zeros((count, _DIGEST_BYTES), np.uint8),
        )

    def add(self, number: int, digest: bytes, point: int = 0) -> None:
        """A chunk is stored; an empty digest for zeros."""
        self.digests[number] = np.frombuffer(digest, np.uint8) if digest else 0
        self.valid_as_of[number] = point

    def held(self) -> BitSet:
        """Chunks that are stored here."""
        table = np.packbits(self.valid_as_of > _NONE, bitorder="little")
        return BitSet(len(self.valid_as_of), table)

    def digest(self, number: int) -> bytes:
        """A stored chunk's digest, empty for zeros."""
        row = self.digests[number]
        return row.tobytes() if row.any() else b""

    def save(self, path: str) -> None:
        """Keep it across processes (OSError)."""
        about = {"base": self.base, "owner": self.owner, "facts": asdict(self.facts)}
        description = json.dumps(about).encode()
        rest = [
            struct.pack("<I", len(description)),
            description,
            self.valid_as_of.astype("<i4").tobytes(),
            self.digests.tobytes(),
        ]
        checksum = hashlib.sha256()
        for part in rest:
            checksum.update(part)
        parts = [MAGIC + checksum.digest(), *rest]
        files.replace_file(path, parts, mode=0o600, sync=True)

    @classmethod
    def load(cls, path: str) -> Self | None:
        """What save() wrote; None when there is none (DamagedData, OSError)."""
        what = "partial image"
        try:
            data = files.read_file(path, size_max=_FILE_BYTES_MAX)
        except FileNotFoundError:
            return None
        if len(data) < _HEADER.size or not data.startswith(MAGIC):
            raise DamagedData(what, "no header at the start")
        _magic, checksum, length = _HEADER.unpack_from(data)
        if hashlib.sha256(memoryview(data)[_CHECKED_FROM:]).digest() != checksum:
            raise DamagedData(what, "its checksum does not match")
        try:
            about = json.loads(data[_HEADER.size : _HEADER.size + length])
            facts = ImageFacts(**about["facts"])
            partial = cls.empty(facts, base=str(about["base"]), owner=str(about["owner"]))
        except (KeyError, TypeError, ValueError, BadRequest) as error:
            raise DamagedData(what, f"its description makes no sense ({error})") from error
        at, count = _HEADER.size + length, len(partial.valid_as_of)
        if len(data) != at + count * (4 + _DIGEST_BYTES):
            raise DamagedData(what, "its tables have another size than its description says")
        partial.valid_as_of = np.frombuffer(data, "<i4", count, at).astype(np.int32)
        digests = np.frombuffer(data, np.uint8, count * _DIGEST_BYTES, at + count * 4)
        partial.digests = digests.reshape(count, _DIGEST_BYTES).copy()
        return partial
