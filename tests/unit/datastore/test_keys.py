"""Keys: derived values against published ones."""

import pytest
from tests.harness import vectors

from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import DamagedData, KeyProblem

RECORDED = vectors.load("datastore", "keys")


@pytest.mark.parametrize("case", [RECORDED, RECORDED["other_key"]])
def test_id_key_and_fingerprint_are_the_recorded_ones(case: dict[str, str]) -> None:
    key = EncryptionKey(bytes.fromhex(case["enc_key_hex"]))

    assert key.id_key.hex() == case["id_key_hex"]
    assert key.fingerprint == case["fingerprint"]
    assert key.fingerprint.startswith(key.fingerprint_short)
    assert key.fingerprint_short.count(":") == 7


def test_fingerprint_is_recognised_without_colons_and_in_capitals() -> None:
    key = EncryptionKey(bytes(32))

    assert key.has_fingerprint(key.fingerprint.replace(":", "").upper())
    assert not key.has_fingerprint(EncryptionKey(bytes([1] * 32)).fingerprint)


def test_decrypt_undoes_encrypt_and_notices_each_changed_part() -> None:
    key = EncryptionKey.generate()
    iv, tag, ciphertext = key.encrypt(b"a few bytes")

    assert key.decrypt(iv, tag, ciphertext) == b"a few bytes"
    for changed in (
        (bytes([iv[0] ^ 1]) + iv[1:], tag, ciphertext),
        (iv, bytes([tag[0] ^ 1]) + tag[1:], ciphertext),
        (iv, tag, bytes([ciphertext[0] ^ 1]) + ciphertext[1:]),
    ):
        with pytest.raises(DamagedData):
            key.decrypt(*changed)


def test_key_of_another_length_is_refused() -> None:
    with pytest.raises(KeyProblem):
        EncryptionKey(bytes(31))


def test_secret_does_not_show_in_messages() -> None:
    assert bytes(32).hex() not in repr(EncryptionKey(bytes(32)))
