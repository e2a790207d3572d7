"""Manifest (`index.json.blob`): what a snapshot contains; its presence makes the snapshot finished.

A DataBlob, never encrypted, around UTF-8 JSON:
    {"backup-type", "backup-id", "backup-time": seconds,
     "files": [{"filename", "size": bytes, "csum": 64 hex digits, "crypt-mode"}],
     "signature": null or 64 hex digits, "unprotected": {notes, verify_state, ...}}
For an index, size and csum are those of the stream and the table; for a blob, those of the file.
The signature is HMAC-SHA-256 over the canonical text: without `signature` and `unprotected`, keys
sorted, no white space. Source: Proxmox Backup, manifest module. Story: docs/formats/manifest.md
"""

import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NoReturn, Self

from holdfast.datastore import blob
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import BadRequest, DamagedData, KeyProblem, NotFound
from holdfast.host.files import Buffer
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId, is_safe_id, parse_digest
from holdfast.units import MIB
from holdfast.upid import Upid

MANIFEST_NAME: Final = "index.json.blob"
CLIENT_LOG_NAME: Final = "client.log.blob"
MANIFEST_BYTES_MAX: Final = 16 * MIB
SUFFIXES: Final = (".fidx", ".didx", ".blob")

ROOT: Final = Namespace()
NESTING_MAX: Final = 32
_WHAT: Final = "the manifest"
_KEYS: Final = ("backup-type", "backup-id", "backup-time", "files", "signature", "unprotected")
_FILE_KEYS: Final = ("filename", "size", "csum", "crypt-mode")
_HEX64: Final = re.compile(r"[0-9a-fA-F]{64}")
_U64_END: Final = 1 << 64

Json = Any  # what json.loads gives: checked before use


class CryptMode(StrEnum):
    """What was done to a file's contents; `sign-only` and `none` both leave them readable."""

    NONE = "none"
    ENCRYPT = "encrypt"
    SIGN_ONLY = "sign-only"


class VerifyResult(StrEnum):
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VerifyState:
    """What the last verification found, and the task that did it (which tells when)."""

    state: VerifyResult
    upid: Upid

    @classmethod
    def from_json(cls, value: Json) -> "VerifyState | None":
        """Read a `verify_state`; None when it is none."""
        if not isinstance(value, dict) or value.get("state") not in tuple(VerifyResult):
            return None
        upid = value.get("upid")
        if not isinstance(upid, str):
            return None
        try:
            return cls(VerifyResult(value["state"]), Upid.parse(upid))
        except BadRequest:
            return None

    def to_json(self) -> dict[str, Json]:
        return {"state": self.state.value, "upid": str(self.upid)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkUploadStats:
    """What the backup sent: chunks, their bytes before and after compression, known chunks."""

    count: int = 0
    size: int = 0
    compressed_size: int = 0
    duplicates: int = 0


def _damaged(reason: str) -> NoReturn:
    raise DamagedData(_WHAT, reason)


def _whole(value: Json, name: str, end: int = _U64_END) -> int:
    if type(value) is not int or not 0 <= value < end:
        _damaged(f"{name} is no number it can be")
    return int(value)


def _text(value: Json, name: str) -> str:
    if not isinstance(value, str):
        _damaged(f"{name} is no text")
    return str(value)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a snapshot.

    Attributes:
        filename: such as `root.pxar.didx`; never a path.
        crypt_mode: what was done to the contents.
        size: bytes of the stream (index) or of the file (blob).
        csum: 32 bytes, SHA-256 of the index table or of the blob file.
        extra: fields unknown to us, kept as they are.
    """

    filename: str
    crypt_mode: CryptMode
    size: int
    csum: bytes
    extra: Mapping[str, Json] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not is_safe_id(self.filename) or not self.filename.endswith(SUFFIXES):
            raise BadRequest(f"{self.filename!r} cannot name a file of a snapshot")

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read one element of `files` (DamagedData)."""
        if not isinstance(value, dict):
            _damaged("a file entry is no object")
        csum = _text(value.get("csum"), "csum")
        mode = value.get("crypt-mode", "none")
        if _HEX64.fullmatch(csum) is None:
            _damaged("a csum does not have 64 hex digits")
        if mode not in tuple(CryptMode):
            _damaged("a crypt-mode is unknown")
        try:
            return cls(
                _text(value.get("filename"), "filename"),
                CryptMode(mode),
                _whole(value.get("size"), "size"),
                parse_digest(csum),
                {name: item for name, item in value.items() if name not in _FILE_KEYS},
            )
        except BadRequest as error:
            raise DamagedData(_WHAT, error.message) from error

    def to_json(self) -> dict[str, Json]:
        return {
            **self.extra,
            "filename": self.filename,
            "crypt-mode": self.crypt_mode.value,
            "size": self.size,
            "csum": self.csum.hex(),
        }


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot's table of contents.

    Attributes:
        snapshot: as the manifest tells it; the directory's place is what counts.
        files: in the order of the upload.
        signature: 64 hex digits, or None for an unsigned one.
        unprotected: notes, verify state and the like; outside the signature, JSON values.
        extra: fields unknown to us, kept and signed.
    """

    snapshot: SnapshotId
    files: tuple[FileEntry, ...]
    signature: str | None = None
    unprotected: Mapping[str, Json] = field(default_factory=dict, hash=False)
    extra: Mapping[str, Json] = field(default_factory=dict, hash=False)

    # Reading and writing --------------------------------------------------------------------------

    @classmethod
    def decode(cls, data: Buffer, *, ns: Namespace = ROOT) -> Self:
        """Read the bytes of an `index.json.blob` of namespace `ns` (DamagedData)."""
        try:
            text = blob.decode(data, size_max=MANIFEST_BYTES_MAX, what=_WHAT)
        except KeyProblem as error:
            raise DamagedData(_WHAT, "it is encrypted, which no writer does") from error
        return cls.from_json(text, ns=ns)

    @classmethod
    def from_json(cls, text: bytes, *, ns: Namespace = ROOT) -> Self:
        """Read the JSON text inside the blob (DamagedData)."""
        value = _parse(text)
        if not isinstance(value, dict):
            _damaged("it is no JSON object")
        entries = value.get("files")
        if not isinstance(entries, list):
            _damaged("files is no list")
        unprotected = value.get("unprotected", {})
        if not isinstance(unprotected, dict):
            _damaged("unprotected is no object")
        signature = value.get("signature")
        if signature is not None and _HEX64.fullmatch(_text(signature, "signature")) is None:
            _damaged("the signature does not have 64 hex digits")
        return cls(
            _snapshot_of(value, ns),
            tuple(FileEntry.from_json(entry) for entry in entries),
            signature,
            unprotected,
            {name: item for name, item in value.items() if name not in _KEYS},
        )

    def _signed_part(self) -> dict[str, Json]:
        return {
            **self.extra,
            "backup-type": self.snapshot.group.type.value,
            "backup-id": self.snapshot.group.id,
            "backup-time": self.snapshot.time_s,
            "files": [entry.to_json() for entry in self.files],
        }

    def to_json(self) -> bytes:
        """Indented JSON with sorted keys, as other programs write it."""
        value = {
            **self._signed_part(),
            "signature": self.signature,
            "unprotected": dict(self.unprotected),
        }
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return text.encode()

    def encode(self) -> list[Buffer]:
        """The parts of the `index.json.blob` file; BadRequest when nobody would read it back."""
        text = self.to_json()
        if len(text) > MANIFEST_BYTES_MAX:
            raise BadRequest(f"a manifest of {len(text)} bytes is too large; shorten its notes")
        return blob.encode(text)

    # Signature ------------------------------------------------------------------------------------

    def canonical(self) -> bytes:
        """The text the signature is made of; BadRequest for a null in it."""
        value = self._signed_part()
        if _has_null(value):
            raise BadRequest("a manifest with an empty (null) field cannot be signed")
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    def signed_with(self, key: EncryptionKey) -> "Manifest":
        """The same manifest with `key`'s signature and fingerprint."""
        return replace(
            self,
            signature=key.sign(self.canonical()),
            unprotected={**self.unprotected, "key-fingerprint": key.fingerprint},
        )

    def check_signature(self, key: EncryptionKey) -> None:
        """Pass when `key` signed this manifest, or nobody did.

        Raises:
            KeyProblem: signed with another key.
            DamagedData: signed with this key and changed afterwards.
        """
        if self.signature is None:
            return
        fingerprint = self.key_fingerprint
        if fingerprint is not None and not key.has_fingerprint(fingerprint):
            raise KeyProblem(
                f"the snapshot was made with the key {fingerprint[:23]}, "
                f"not with {key.fingerprint_short}"
            )
        try:
            wanted = key.sign(self.canonical())
        except BadRequest as error:
            raise DamagedData(_WHAT, error.message) from error
        if not hmac.compare_digest(wanted, self.signature.lower()):
            raise DamagedData(
                _WHAT, "its signature is wrong", hint="it was changed, or made with another key"
            )

    # Contents -------------------------------------------------------------------------------------

    def entry(self, filename: str) -> FileEntry:
        """The entry of `filename`, the first one if it is listed twice (NotFound)."""
        for entry in self.files:
            if entry.filename == filename:
                return entry
        raise NotFound(f"{self.snapshot} has no file {filename}")

    @property
    def notes(self) -> str:
        """Free text; the first line is shown in lists."""
        value = self.unprotected.get("notes")
        return value if isinstance(value, str) else ""

    @property
    def key_fingerprint(self) -> str | None:
        """Of the key that signed or encrypted, colon form; None when there was none."""
        value = self.unprotected.get("key-fingerprint")
        return value if isinstance(value, str) else None

    @property
    def verify_state(self) -> VerifyState | None:
        """The last verification; None when there was none or it cannot be read."""
        return VerifyState.from_json(self.unprotected.get("verify_state"))

    @property
    def chunk_upload_stats(self) -> ChunkUploadStats | None:
        value = self.unprotected.get("chunk_upload_stats")
        if not isinstance(value, dict):
            return None
        try:
            return ChunkUploadStats(
                count=_whole(value.get("count"), "count"),
                size=_whole(value.get("size"), "size"),
                compressed_size=_whole(value.get("compressed_size"), "compressed_size"),
                duplicates=_whole(value.get("duplicates"), "duplicates"),
            )
        except DamagedData:
            return None

    @property
    def is_encrypted(self) -> bool:
        """Whether any file needs a key to be read."""
        return any(entry.crypt_mode is CryptMode.ENCRYPT for entry in self.files)


def _parse(text: bytes) -> Json:
    def refuse(name: str) -> NoReturn:
        _damaged(f"{name} is no number of JSON")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits[:20])

    try:
        value = json.loads(text.decode(), parse_constant=refuse, parse_float=finite)
        if b"\\ud" in text or b"\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair
    except UnicodeError as error:
        raise DamagedData(_WHAT, "it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise DamagedData(_WHAT, "it is no JSON") from error
    _check_depth(value)
    return value


def _check_depth(value: Json) -> None:
    """Refuse nesting that would exhaust the stack of whoever writes it back (DamagedData)."""
    level = [value]
    for _depth in range(NESTING_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    _damaged(f"it is nested more than {NESTING_MAX} levels deep")


def _snapshot_of(value: dict[str, Json], ns: Namespace) -> SnapshotId:
    kind = value.get("backup-type")
    if kind not in tuple(BackupType):
        _damaged("backup-type is unknown")
    try:
        group = GroupId(BackupType(kind), _text(value.get("backup-id"), "backup-id"), ns)
        return SnapshotId(group, _whole(value.get("backup-time"), "backup-time"))
    except BadRequest as error:
        raise DamagedData(_WHAT, error.message) from error


def _has_null(value: Json) -> bool:
    if isinstance(value, dict):
        return any(_has_null(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_null(item) for item in value)
    return value is None
