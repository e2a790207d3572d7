"""Key files: an encryption key on the disk, in the clear or under a passphrase.

One line of JSON, mode 0600, fields in this order:
    kdf          null | {"Scrypt": {n, r, p, salt}} | {"PBKDF2": {iter, salt}}
    created, modified   local time with offset, 2026-11-21T09:00:00+00:00
    data         base64; null kdf: the 32 bytes; else IV(16) || GCM tag(16) || ciphertext(32)
    fingerprint  of the key, checked after decoding; left out when unknown
    hint         left out when there is none
Source: Proxmox Backup client, key configuration. Story: docs/formats/keys.md
"""

import base64
import binascii
import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from holdfast.datastore.keys import IV_BYTES, KEY_BYTES, TAG_BYTES, EncryptionKey
from holdfast.errors import BadRequest, DamagedData, KeyProblem, NotFound
from holdfast.host import files
from holdfast.units import KIB, MIB

KEY_FILE_MODE: Final = 0o600
KEY_FILE_BYTES_MAX: Final = 64 * KIB
PASSPHRASE_BYTES_MIN: Final = 5
_SALT_BYTES: Final = 32
_SCRYPT_MEMORY_MAX: Final = 1025 * MIB
_SCRYPT_WORK_MAX: Final = 1 << 26  # n * r * p; the default is 2^19 and takes a fifth of a second
_PBKDF2_ROUNDS: Final = 65535
_PBKDF2_ROUNDS_MAX: Final = 50_000_000
_WHAT: Final = "the key file"

Json = Any  # what json.loads gives: checked before use


class KdfName(StrEnum):
    """How a passphrase becomes a key."""

    NONE = "none"
    SCRYPT = "scrypt"
    PBKDF2 = "pbkdf2"


@dataclass(frozen=True, slots=True)
class Scrypt:
    """RFC 7914; needs 128 * n * r bytes of memory."""

    salt: bytes
    n: int = 65536
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if min(self.n - 1, self.r, self.p) < 1 or self.n & (self.n - 1):
            raise DamagedData(_WHAT, "its scrypt parameters are impossible")
        if self._memory > _SCRYPT_MEMORY_MAX or self.n * self.r * self.p > _SCRYPT_WORK_MAX:
            raise DamagedData(_WHAT, "its scrypt parameters ask for too much")

    @property
    def _memory(self) -> int:
        return 128 * self.r * (self.n + self.p + 2)

    def derive(self, passphrase: bytes) -> bytes:
        return hashlib.scrypt(
            passphrase,
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            maxmem=self._memory + MIB,
            dklen=KEY_BYTES,
        )

    def to_json(self) -> Json:
        salt = base64.b64encode(self.salt).decode()
        return {"Scrypt": {"n": self.n, "r": self.r, "p": self.p, "salt": salt}}


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """RFC 8018 with HMAC-SHA-256."""

    salt: bytes
    rounds: int = _PBKDF2_ROUNDS

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= _PBKDF2_ROUNDS_MAX:
            raise DamagedData(_WHAT, "its PBKDF2 rounds are impossible")

    def derive(self, passphrase: bytes) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", passphrase, self.salt, self.rounds, KEY_BYTES)

    def to_json(self) -> Json:
        return {"PBKDF2": {"iter": self.rounds, "salt": base64.b64encode(self.salt).decode()}}


Kdf = Scrypt | Pbkdf2


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key as it is stored; `data` is secret only when there is no kdf."""

    kdf: Kdf | None
    created: str
    modified: str
    data: bytes = field(repr=False)
    fingerprint: str | None
    hint: str | None = None

    @classmethod
    def protect(
        cls,
        key: EncryptionKey,
        passphrase: bytes | None,
        *,
        kdf: KdfName = KdfName.SCRYPT,
        hint: str | None = None,
        created: str | None = None,
    ) -> Self:
        """Put `key` into the form of a key file.

        Args:
            key: what to keep.
            passphrase: at least 5 bytes; None with KdfName.NONE only.
            kdf: how the passphrase becomes a key.
            hint: text that reminds of the passphrase; everybody can read it.
            created: when the key was made; now unless told.

        Raises:
            KeyProblem: the passphrase is missing, too short, or not wanted.
        """
        now = timestamp()
        chosen = _new_kdf(kdf)
        if chosen is None:
            if passphrase is not None:
                raise KeyProblem("a key without protection takes no passphrase")
            data = key.secret
        else:
            iv, tag, ciphertext = EncryptionKey(
                chosen.derive(_checked_passphrase(passphrase))
            ).encrypt(key.secret)
            data = iv + tag + ciphertext
        return cls(chosen, created or now, now, data, key.fingerprint, hint or None)

    @property
    def kdf_name(self) -> KdfName:
        if self.kdf is None:
            return KdfName.NONE
        return KdfName.SCRYPT if isinstance(self.kdf, Scrypt) else KdfName.PBKDF2

    @property
    def has_passphrase(self) -> bool:
        return self.kdf is not None

    def unlock(self, passphrase: bytes | None) -> EncryptionKey:
        """The key itself.

        Raises:
            KeyProblem: the passphrase is missing or wrong, or the key is not the one announced.
        """
        if self.kdf is None:
            key = EncryptionKey(self.data)
        else:
            outer = EncryptionKey(self.kdf.derive(_checked_passphrase(passphrase)))
            try:
                secret = outer.decrypt(
                    self.data[:IV_BYTES],
                    self.data[IV_BYTES : IV_BYTES + TAG_BYTES],
                    self.data[IV_BYTES + TAG_BYTES :],
                )
            except DamagedData as error:
                hint = f"the key file's hint is: {self.hint}" if self.hint else None
                raise KeyProblem("the passphrase does not open the key", hint=hint) from error
            key = EncryptionKey(secret)
        if self.fingerprint is not None and not key.has_fingerprint(self.fingerprint):
            raise KeyProblem(
                f"the key file announces the key {self.fingerprint[:23]} "
                f"and holds {key.fingerprint_short}"
            )
        return key

    def to_json(self) -> Json:
        value = {
            "kdf": None if self.kdf is None else self.kdf.to_json(),
            "created": self.created,
            "modified": self.modified,
            "data": base64.b64encode(self.data).decode(),
        }
        if self.fingerprint is not None:
            value["fingerprint"] = self.fingerprint
        if self.hint is not None:
            value["hint"] = self.hint
        return value

    def encode(self) -> bytes:
        """One line, as it is stored."""
        return json.dumps(self.to_json(), separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """Read the JSON of a key file (DamagedData)."""
        try:
            value = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            raise DamagedData(_WHAT, "it is no JSON") from error
        if not isinstance(value, dict):
            raise DamagedData(_WHAT, "it is no JSON object")
        kdf = _kdf_from(value.get("kdf"))
        data = _bytes_from(value.get("data"), "data")
        wanted = KEY_BYTES if kdf is None else IV_BYTES + TAG_BYTES + KEY_BYTES
        if len(data) != wanted:
            raise DamagedData(_WHAT, f"its data has {len(data)} bytes instead of {wanted}")
        created = _text_from(value, "created") or ""
        modified = _text_from(value, "modified") or created
        fingerprint = _text_from(value, "fingerprint")
        return cls(kdf, created, modified, data, fingerprint, _text_from(value, "hint"))


def timestamp() -> str:
    """Now, as key files tell the time."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def load(path: str) -> KeyFile:
    """Read a key file (NotFound, DamagedData, Refused)."""
    with files.explained(f"reading the key file {path}"):
        try:
            text = files.read_file(os.path.realpath(path), size_max=KEY_FILE_BYTES_MAX)
        except FileNotFoundError as error:
            raise NotFound(f"there is no key file {path}") from error
    return KeyFile.decode(text)


def save_new(path: str, key_file: KeyFile) -> None:
    """Write a key file that must not exist: a key overwritten is data lost (BadRequest)."""
    with files.explained(f"writing the key file {path}"):
        try:
            fd = files.create(path, mode=KEY_FILE_MODE)
        except FileExistsError as error:
            raise BadRequest(f"{path} exists already and is left as it is") from error
        try:
            files.write_all(fd, [key_file.encode()], path=path)
            files.fsync(fd, path=path)
        except BaseException:
            files.unlink(path)
            raise
        finally:
            os.close(fd)
        files.fsync_directory(os.path.dirname(os.path.abspath(path)))


def change_passphrase(
    path: str,
    old: bytes | None,
    new: bytes | None,
    *,
    kdf: KdfName = KdfName.SCRYPT,
    hint: str | None = None,
) -> KeyFile:
    """Protect the key anew and replace the file in one step, flushed to the disk.

    Args:
        path: the key file.
        old: its passphrase, None when it has none.
        new: the next one, None with KdfName.NONE only.
        kdf: how it becomes a key.
        hint: a new hint; the old one goes with the old passphrase.

    Raises:
        KeyProblem: either passphrase does not do.
    """
    before = load(path)
    key = before.unlock(old)
    after = KeyFile.protect(key, new, kdf=kdf, hint=hint, created=before.created)
    _replace(path, after)
    return after


def change_hint(path: str, hint: str | None) -> KeyFile:
    """Replace the hint alone, which needs no passphrase."""
    after = replace(load(path), hint=hint or None, modified=timestamp())
    _replace(path, after)
    return after


def _replace(path: str, key_file: KeyFile) -> None:
    target = os.path.realpath(path)
    with files.explained(f"writing the key file {path}"):
        info = os.stat(target)
        owner = (info.st_uid, info.st_gid) if os.geteuid() == 0 else None
        files.replace_file(target, [key_file.encode()], mode=KEY_FILE_MODE, owner=owner, sync=True)


def _checked_passphrase(passphrase: bytes | None) -> bytes:
    if passphrase is None:
        raise KeyProblem("the key is protected: give its passphrase")
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise KeyProblem(f"a passphrase has at least {PASSPHRASE_BYTES_MIN} bytes")
    return passphrase


def _new_kdf(name: KdfName) -> Kdf | None:
    if name is KdfName.NONE:
        return None
    salt = os.urandom(_SALT_BYTES)
    return Scrypt(salt) if name is KdfName.SCRYPT else Pbkdf2(salt)


def _kdf_from(value: Json) -> Kdf | None:
    if value is None:
        return None
    if isinstance(value, dict) and len(value) == 1:
        (name, fields) = next(iter(value.items()))
        if isinstance(fields, dict):
            salt = _bytes_from(fields.get("salt"), "salt")
            if name == "Scrypt":
                return Scrypt(salt, *(_number_from(fields, each) for each in ("n", "r", "p")))
            if name == "PBKDF2":
                return Pbkdf2(salt, _number_from(fields, "iter"))
    raise DamagedData(_WHAT, "its kdf is unknown")


def _number_from(fields: dict[str, Json], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 < value < 1 << 32:
        raise DamagedData(_WHAT, f"{name} is no number it can be")
    return value


def _text_from(value: dict[str, Json], name: str) -> str | None:
    text = value.get(name)
    if text is not None and not isinstance(text, str):
        raise DamagedData(_WHAT, f"{name} is no text")
    if text is not None and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DamagedData(_WHAT, f"{name} is no text") from error
    return text


def _bytes_from(value: Json, name: str) -> bytes:
    try:
        if not isinstance(value, str):
            raise DamagedData(_WHAT, f"{name} is no text")
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DamagedData(_WHAT, f"{name} is no base64") from error
