"""`filelist.didx`: every file and directory of a base backup, one JSON object to a line.

What is not listed does not exist: a restore removes it. Paths are those inside of the data
directory, tablespaces being `pg_tblspc/OID/...`; bytes that are not UTF-8 are written as lone
surrogates. A file with pages has a digest for each block in `blockmap.didx`: the first 16 bytes of its
SHA-256, which processors of today compute twice as fast as BLAKE2b.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, Self

from holdfast.errors import DamagedData
from holdfast.postgres.pages import PAGE_BYTES
from holdfast.units import MIB

DIGEST_BYTES: Final = 16
_LINE_BYTES_MAX: Final = 1 * MIB
_WHAT: Final = "the file list of a base backup"
_PERMISSIONS: Final = 0o7777
_HEX64: Final = 64


class Form(StrEnum):
    """How a file's content is stored."""

    DIRECTORY = "dir"
    WHOLE = "whole"
    DELTA = "vcdiff"
    NATIVE = "native"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One line.

    Attributes:
        path: below the data directory, without slashes at the ends; empty for itself.
        form: what it is, or how its content is stored.
        mode: permission bits.
        mtime_ns: when it was last written, on the server.
        size: of the file, bytes.
        sha256: of the file, hex digits; None when it was not read whole.
        digest_at: where its block digests begin in the block map; None for a file without pages.
        sent_blocks: of a delta, how many blocks it holds.
    """

    path: bytes
    form: Form
    mode: int
    mtime_ns: int
    size: int = 0
    sha256: str | None = None
    digest_at: int | None = None
    sent_blocks: int = 0

    @property
    def blocks(self) -> int:
        return self.size // PAGE_BYTES

    def encode(self) -> bytes:
        value: dict[str, Any] = {
            "path": os.fsdecode(self.path),
            "form": self.form.value,
            "mode": self.mode,
            "mtime_ns": self.mtime_ns,
        }
        if self.form is not Form.DIRECTORY:
            value["size"] = self.size
            value["sha256"] = self.sha256
            if self.digest_at is not None:
                value["digest_at"] = self.digest_at
        if self.form is Form.DELTA:
            value["sent_blocks"] = self.sent_blocks
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes | memoryview) -> Self:
        """Read one line (DamagedData)."""
        try:
            value = json.loads(bytes(line))
            sha256, digest_at = value.get("sha256"), value.get("digest_at")
            found = cls(
                path=os.fsencode(value["path"]),
                form=Form(value["form"]),
                mode=int(value["mode"]),
                mtime_ns=int(value["mtime_ns"]),
                size=int(value.get("size", 0)),
                sha256=None if sha256 is None else str(sha256),
                digest_at=None if digest_at is None else int(digest_at),
                sent_blocks=int(value.get("sent_blocks", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedData(_WHAT, f"a line does not read as one ({error})") from error
        found.check()
        return found

    def check(self) -> None:
        """A path inside of the data directory, numbers that can be (DamagedData)."""
        parts = self.path.split(b"/")
        if (self.path and any(part in (b"", b".", b"..") for part in parts)) or b"\0" in self.path:
            raise DamagedData(_WHAT, "a path that leads elsewhere")
        if not 0 <= self.mode <= _PERMISSIONS or self.size < 0 or self.mtime_ns < 0:
            raise DamagedData(_WHAT, "a number that cannot be")
        if self.sha256 is not None and len(self.sha256) != _HEX64:
            raise DamagedData(_WHAT, "a digest that is none")
        if self.digest_at is not None and self.digest_at < 0:
            raise DamagedData(_WHAT, "a place before the block map")


def read_list(pieces: Iterable[bytes | memoryview]) -> Iterator[ListedFile]:
    """The lines of a list that comes in pieces (DamagedData)."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + bytes(piece)).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise DamagedData(_WHAT, "a line without an end")
        for line in lines:
            yield ListedFile.decode(line)
    if rest:
        raise DamagedData(_WHAT, "it is cut short")


def block_digests(data: memoryview) -> bytes:
    """The digests of all blocks of `data`, one behind the other."""
    return b"".join(
        [
            sha256(data[at : at + PAGE_BYTES]).digest()[:DIGEST_BYTES]
            for at in range(0, len(data), PAGE_BYTES)
        ]
    )
