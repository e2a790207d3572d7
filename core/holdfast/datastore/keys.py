"""Keys: what digests, encryption and signatures are computed with.

    enc_key      32 random bytes; AES-256-GCM with 16-byte IVs and an empty AAD
    id_key       PBKDF2-HMAC-SHA256(enc_key, salt "_id_key", 10 iterations, 32 bytes)
    fingerprint  SHA-256(SHA-256("Proxmox Backup Encryption Key Fingerprint") || id_key)

An encrypted chunk is named SHA-256(data || id_key), so that two owners of one key deduplicate with
each other and nobody else can tell what a chunk holds. Key files: key_files.py.
Source: Proxmox Backup, "Technical overview" and the client's crypt module; story: docs/formats/keys.md
"""

import hashlib
import hmac
import os
from typing import Final, Self

from holdfast.errors import DamagedData, KeyProblem
from holdfast.host.files import Buffer

KEY_BYTES: Final = 32
IV_BYTES: Final = 16
TAG_BYTES: Final = 16
_ID_KEY_ITERATIONS: Final = 10
_FINGERPRINT_INPUT: Final = hashlib.sha256(b"Proxmox Backup Encryption Key Fingerprint").digest()


class EncryptionKey:
    """One secret key and everything derived from it; safe to share between threads."""

    __slots__ = ("_enc_key", "fingerprint", "id_key")

    def __init__(self, enc_key: bytes) -> None:
        if len(enc_key) != KEY_BYTES:
            raise KeyProblem(f"an encryption key has {KEY_BYTES} bytes, not {len(enc_key)}")
        self._enc_key = bytes(enc_key)
        self.id_key = hashlib.pbkdf2_hmac("sha256", self._enc_key, b"_id_key", _ID_KEY_ITERATIONS)
        digest = hashlib.sha256(_FINGERPRINT_INPUT + self.id_key).digest()
        self.fingerprint = digest.hex(":")

    @classmethod
    def generate(cls) -> Self:
        """A new random key."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def secret(self) -> bytes:
        """The 32 bytes themselves, for key files and their paper copies only."""
        return self._enc_key

    @property
    def fingerprint_short(self) -> str:
        """The first eight bytes of the fingerprint, for people."""
        return self.fingerprint[:23]

    def digest(self, data: Buffer) -> bytes:
        """The name of a chunk that is stored encrypted."""
        hasher = hashlib.sha256(data)
        hasher.update(self.id_key)
        return hasher.digest()

    def encrypt(self, data: Buffer) -> tuple[bytes, bytes, bytes]:
        """Encrypt with a fresh IV: (iv, tag, ciphertext as long as `data`)."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        iv = os.urandom(IV_BYTES)
        encryptor = Cipher(algorithms.AES(self._enc_key), modes.GCM(iv)).encryptor()
        ciphertext = encryptor.update(data)
        encryptor.finalize()
        return iv, encryptor.tag, ciphertext

    def decrypt(self, iv: Buffer, tag: Buffer, ciphertext: Buffer, *, what: str = "blob") -> bytes:
        """The plain bytes; DamagedData when any of the three was changed or the key is another."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        mode = modes.GCM(bytes(iv), bytes(tag))
        decryptor = Cipher(algorithms.AES(self._enc_key), mode).decryptor()
        data = decryptor.update(ciphertext)
        try:
            decryptor.finalize()
        except InvalidTag as error:
            raise DamagedData(
                what,
                "its encryption does not authenticate",
                hint="if this key is not the one it was encrypted with, give the right one",
            ) from error
        return data

    def sign(self, canonical: bytes) -> str:
        """64 hex digits: HMAC-SHA-256 of a manifest's canonical text."""
        return hmac.new(self.id_key, canonical, hashlib.sha256).hexdigest()

    def has_fingerprint(self, text: str) -> bool:
        """Whether `text` names this key; colons and letter case do not matter."""
        return text.replace(":", "").lower() == self.fingerprint.replace(":", "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EncryptionKey):
            return NotImplemented
        return hmac.compare_digest(self._enc_key, other._enc_key)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"EncryptionKey({self.fingerprint_short})"


def plain_digest(data: Buffer) -> bytes:
    """The name of a chunk that is stored in the clear."""
    return hashlib.sha256(data).digest()


def chunk_digest(data: Buffer, key: EncryptionKey | None) -> bytes:
    """The name of a chunk, encrypted with `key` or plain."""
    return plain_digest(data) if key is None else key.digest(data)
