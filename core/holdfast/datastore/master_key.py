"""RSA master keys: every backup carries its own key, readable only to whoever holds the private half.

`rsa-encrypted.key.blob` holds RSA PKCS#1 v1.5 of a key file without protection (key_files.py), as
long as the modulus: about 255 bytes of text, so that 4096 bits are needed. The blob around it is
plain and uncompressed, although its manifest entry says `encrypt` like those beside it.
Source: Proxmox Backup client, "Using a master key". Story: docs/formats/keys.md
"""

import os
from typing import TYPE_CHECKING, Final

from holdfast.datastore import blob
from holdfast.datastore.key_files import KEY_FILE_MODE, KeyFile, timestamp
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import BadRequest, DamagedData, KeyProblem
from holdfast.host import files
from holdfast.host.files import Buffer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

MASTER_KEY_BITS: Final = 4096
KEY_BLOB_NAME: Final = "rsa-encrypted.key.blob"
PUBLIC_KEY_MODE: Final = 0o644
PEM_BYTES_MAX: Final = 64 * 1024
_PADDING_BYTES: Final = 11


def create_master_key(private_path: str, public_path: str, passphrase: bytes) -> None:
    """Make a new pair of PEM files; neither may exist (BadRequest, KeyProblem)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not passphrase:
        raise KeyProblem("a master key needs a passphrase")
    private = rsa.generate_private_key(public_exponent=65537, key_size=MASTER_KEY_BITS)
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with files.explained("writing the master key"):
        for path, text, mode in (
            (private_path, secret, KEY_FILE_MODE),
            (public_path, public, PUBLIC_KEY_MODE),
        ):
            _write_new(path, text, mode)


def encrypt_for_master(key: EncryptionKey, public_pem: bytes, *, created: str) -> list[Buffer]:
    """The parts of the `rsa-encrypted.key.blob` of a backup (see wrap_for_master)."""
    return blob.encode(wrap_for_master(key, public_pem, created=created), level=None)


def wrap_for_master(key: EncryptionKey, public_pem: bytes, *, created: str) -> bytes:
    """The key file inside that blob, encrypted; as long as the modulus.

    Args:
        key: what the backup is encrypted with.
        public_pem: the master key's public half.
        created: when `key` was made, from its key file.

    Raises:
        KeyProblem: no RSA public key, or one too short.
    """
    from cryptography.hazmat.primitives.asymmetric import padding

    public = _load_public(public_pem)
    plain = KeyFile(None, created, timestamp(), key.secret, key.fingerprint).encode()
    room = public.key_size // 8 - _PADDING_BYTES
    if len(plain) > room:
        raise KeyProblem(
            f"the master key has {public.key_size} bits, too few for a key of {len(plain)} bytes",
            hint=f"create one with {MASTER_KEY_BITS} bits",
        )
    return public.encrypt(plain, padding.PKCS1v15())


def recover(key_blob: bytes, private_pem: bytes, passphrase: bytes | None) -> KeyFile:
    """The key file inside an `rsa-encrypted.key.blob`, its fingerprint checked.

    Raises:
        KeyProblem: the private key does not open, or is not the one it was encrypted for.
        DamagedData: the blob is.
    """
    from cryptography.hazmat.primitives.asymmetric import padding

    ciphertext = blob.decode(key_blob, size_max=PEM_BYTES_MAX, what=KEY_BLOB_NAME)
    private = _load_private(private_pem, passphrase)
    if len(ciphertext) != private.key_size // 8:
        raise KeyProblem("the key was encrypted for another master key")
    try:
        key_file = KeyFile.decode(private.decrypt(ciphertext, padding.PKCS1v15()))
        key_file.unlock(None)
    except (ValueError, DamagedData) as error:
        raise KeyProblem("the key was encrypted for another master key") from error
    return key_file


def _load_public(pem: bytes) -> "RSAPublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyProblem("the master key's public half is no PEM public key") from error
    if not isinstance(public, RSAPublicKey):
        raise KeyProblem("the master key is no RSA key")
    return public


def _load_private(pem: bytes, passphrase: bytes | None) -> "RSAPrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(pem, passphrase)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise KeyProblem("the passphrase does not open the master key") from error
    if not isinstance(private, RSAPrivateKey):
        raise KeyProblem("the master key is no RSA key")
    return private


def _write_new(path: str, text: bytes, mode: int) -> None:
    try:
        fd = files.create(path, mode=mode)
    except FileExistsError as error:
        raise BadRequest(f"{path} exists already and is left as it is") from error
    try:
        files.write_all(fd, [text], path=path)
        files.fsync(fd, path=path)
    finally:
        os.close(fd)
