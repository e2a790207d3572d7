"""RSA master keys: encrypt the key of a backup, recover it, refuse the wrong ones."""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.harness import vectors

from holdfast.datastore import blob, master_key
from holdfast.datastore.blob import BlobKind
from holdfast.datastore.key_files import KeyFile
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import BadRequest, DamagedData, KeyProblem

KEY = EncryptionKey(bytes(range(32)))
CREATED = "2024-06-10T08:13:20+02:00"
PASSPHRASE = b"a master's word"


def _pem(private: rsa.RSAPrivateKey, passphrase: bytes | None = None) -> tuple[bytes, bytes]:
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return secret, public


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    """3072 bits are enough for the text and are found sooner than 4096."""
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=3072))


def test_key_of_a_backup_is_recovered_from_its_blob(pair: tuple[bytes, bytes]) -> None:
    private, public = pair

    stored = b"".join(master_key.encrypt_for_master(KEY, public, created=CREATED))

    assert blob.check_crc(stored) is BlobKind.PLAIN
    assert len(stored) == 12 + 3072 // 8
    found = master_key.recover(stored, private, None)
    assert found.unlock(None) == KEY
    assert (found.created, found.hint, found.kdf) == (CREATED, None, None)


def test_text_that_is_encrypted_has_the_recorded_length() -> None:
    text = KeyFile(None, CREATED, CREATED, KEY.secret, KEY.fingerprint).encode()

    assert len(text) == vectors.load("datastore", "keys")["rsa_plaintext_len_without_hint"]
    assert list(json.loads(text)) == ["kdf", "created", "modified", "data", "fingerprint"]


def test_another_master_key_does_not_recover_it(pair: tuple[bytes, bytes]) -> None:
    stored = b"".join(master_key.encrypt_for_master(KEY, pair[1], created=CREATED))

    for bits in (3072, 2048):
        other, _public = _pem(rsa.generate_private_key(public_exponent=65537, key_size=bits))
        with pytest.raises(KeyProblem):
            master_key.recover(stored, other, None)


def test_damaged_blob_is_damage(pair: tuple[bytes, bytes]) -> None:
    stored = bytearray(b"".join(master_key.encrypt_for_master(KEY, pair[1], created=CREATED)))
    stored[-1] ^= 1

    with pytest.raises(DamagedData):
        master_key.recover(bytes(stored), pair[0], None)


def test_master_key_that_is_too_short_or_no_rsa_key_is_refused() -> None:
    _private, short = _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    other = curve.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for pem in (short, other, b"rubbish", b""):
        with pytest.raises(KeyProblem):
            master_key.encrypt_for_master(KEY, pem, created=CREATED)


@pytest.mark.slow
def test_new_master_key_works_and_is_private(tmp_path: Path) -> None:
    private, public = str(tmp_path / "master.pem"), str(tmp_path / "master-public.pem")
    master_key.create_master_key(private, public, PASSPHRASE)

    assert os.stat(private).st_mode & 0o777 == 0o600
    stored = b"".join(
        master_key.encrypt_for_master(KEY, Path(public).read_bytes(), created=CREATED)
    )
    secret = Path(private).read_bytes()
    assert master_key.recover(stored, secret, PASSPHRASE).unlock(None) == KEY
    for passphrase in (b"another word", None):
        with pytest.raises(KeyProblem):
            master_key.recover(stored, secret, passphrase)
    with pytest.raises(BadRequest):
        master_key.create_master_key(private, public, PASSPHRASE)
    assert Path(private).read_bytes() == secret
