"""Key files: recorded ones opened, our own written, changed and refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.harness import vectors

from holdfast.datastore import key_files
from holdfast.datastore.key_files import KdfName, KeyFile, Pbkdf2, Scrypt
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import BadRequest, DamagedData, HoldfastError, KeyProblem, NotFound
from holdfast.host import gate

RECORDED = vectors.load("datastore", "keys")
KEY = EncryptionKey(bytes.fromhex(RECORDED["enc_key_hex"]))
PLAIN = RECORDED["key_files"][0]["key_file_text"]
PASSPHRASE = b"correct horse"


@pytest.mark.parametrize("case", RECORDED["key_files"], ids=lambda case: case["kdf_name"])
def test_recorded_key_file_opens_and_is_written_back_byte_for_byte(case: dict[str, Any]) -> None:
    key_file = KeyFile.decode(case["key_file_text"].encode())
    passphrase = case["passphrase"].encode() if case["passphrase"] else None

    assert key_file.kdf_name == case["kdf_name"]
    assert key_file.unlock(passphrase) == KEY
    assert key_file.encode().decode() == case["key_file_text"]
    if key_file.kdf is not None:
        assert passphrase is not None
        assert key_file.kdf.derive(passphrase).hex() == case["derived_key_hex"]


def test_published_passphrase_with_an_empty_salt_gives_the_published_key() -> None:
    wanted = vectors.load("datastore", "manifest")["published_check"]["enc_key_hex"]

    assert Scrypt(b"").derive(b"test").hex() == wanted


@pytest.mark.parametrize("kdf", [KdfName.SCRYPT, KdfName.PBKDF2])
def test_protected_key_opens_with_its_passphrase_only(kdf: KdfName) -> None:
    key_file = KeyFile.protect(KEY, PASSPHRASE, kdf=kdf, hint="a horse")

    again = KeyFile.decode(key_file.encode())
    assert again == key_file
    assert again.unlock(PASSPHRASE) == KEY
    with pytest.raises(KeyProblem) as caught:
        again.unlock(b"wrong horse")
    assert caught.value.hint == "the key file's hint is: a horse"
    with pytest.raises(KeyProblem, match="give its passphrase"):
        again.unlock(None)


def test_passphrases_that_are_short_missing_or_unwanted_are_refused() -> None:
    for passphrase, kdf in (
        (b"1234", KdfName.SCRYPT),
        (None, KdfName.PBKDF2),
        (PASSPHRASE, KdfName.NONE),
    ):
        with pytest.raises(KeyProblem):
            KeyFile.protect(KEY, passphrase, kdf=kdf)


def test_two_files_of_one_key_and_passphrase_share_no_bytes_of_data() -> None:
    first, second = (KeyFile.protect(KEY, PASSPHRASE, kdf=KdfName.PBKDF2) for _ in range(2))

    assert first.data != second.data
    assert first.kdf != second.kdf


def test_secret_of_an_unprotected_key_does_not_show_in_messages() -> None:
    assert "\\x1f" not in repr(KeyFile.protect(KEY, None, kdf=KdfName.NONE))


def test_new_file_is_private_and_never_replaces_another(tmp_path: Path) -> None:
    path = str(tmp_path / "key.json")
    key_files.save_new(path, KeyFile.protect(KEY, None, kdf=KdfName.NONE))

    assert os.stat(path).st_mode & 0o777 == 0o600
    assert key_files.load(path).unlock(None) == KEY
    with pytest.raises(BadRequest):
        key_files.save_new(path, KeyFile.protect(EncryptionKey.generate(), None, kdf=KdfName.NONE))
    assert key_files.load(path).unlock(None) == KEY


def test_changed_passphrase_keeps_the_key_and_its_date(tmp_path: Path) -> None:
    path = str(tmp_path / "key.json")
    Path(path).write_text(PLAIN)

    key_files.change_passphrase(path, None, PASSPHRASE, kdf=KdfName.PBKDF2, hint="h")
    changed = key_files.load(path)
    assert changed.unlock(PASSPHRASE) == KEY
    assert (changed.created, changed.hint) == ("2024-06-10T08:13:20+02:00", "h")
    assert os.stat(path).st_mode & 0o777 == 0o600

    assert key_files.change_hint(path, "other").hint == "other"
    assert key_files.load(path).unlock(PASSPHRASE) == KEY
    with pytest.raises(KeyProblem):
        key_files.change_passphrase(path, b"wrong one", b"new one")
    with pytest.raises(KeyProblem):
        key_files.change_passphrase(path, PASSPHRASE, b"new")
    key_files.change_passphrase(path, PASSPHRASE, None, kdf=KdfName.NONE)
    assert key_files.load(path).unlock(None) == KEY
    assert key_files.load(path).hint is None


def test_failing_disk_never_loses_the_key(tmp_path: Path) -> None:
    """Goal: old or new file, always one that opens. Method: fail each effect in turn."""
    path = str(tmp_path / "key.json")
    for step in range(20):
        Path(path).write_text(PLAIN)
        left = iter(range(step))

        def fail(_call: str, _path: object, left: Any = left) -> None:
            if next(left, None) is None:
                raise OSError(5, "disk gone")

        try:
            with gate.installed(fail):
                key_files.change_passphrase(path, None, PASSPHRASE, kdf=KdfName.PBKDF2)
        except HoldfastError:
            found = key_files.load(path)
            assert found.unlock(None if found.kdf is None else PASSPHRASE) == KEY
            continue
        assert step > 3
        return
    pytest.fail("never came to an end")


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        key_files.load(str(tmp_path / "none"))


def test_fingerprint_of_another_key_is_refused() -> None:
    value = json.loads(PLAIN)
    value["fingerprint"] = EncryptionKey(bytes(32)).fingerprint

    with pytest.raises(KeyProblem, match="announces"):
        KeyFile.decode(json.dumps(value).encode()).unlock(None)


def test_fingerprint_and_hint_may_be_missing() -> None:
    value = json.loads(PLAIN)
    del value["fingerprint"]

    assert KeyFile.decode(json.dumps(value).encode()).unlock(None) == KEY


def _changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(PLAIN), **fields}).encode()


def _scrypt(**fields: Any) -> bytes:
    return _changed(kdf={"Scrypt": {"n": 65536, "r": 8, "p": 1, "salt": "", **fields}})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        _changed(data="AAA"),
        _changed(data="AAEC"),
        _changed(data=7),
        _changed(data="ü"),
        _changed(kdf="Scrypt"),
        _changed(kdf={"Argon": {}}),
        _changed(kdf={"Scrypt": {}, "PBKDF2": {}}),
        _changed(kdf={"PBKDF2": {"iter": 1 << 31, "salt": ""}}),
        _changed(kdf={"PBKDF2": {"iter": 0, "salt": ""}}),
        _scrypt(n=3),
        _scrypt(n=1),
        _scrypt(n=1 << 24),
        _scrypt(r=1 << 20),
        _scrypt(p=1 << 30),
        _scrypt(p=0),
        _scrypt(n=True),
        _changed(hint=3),
        _changed(hint="\ud800"),
        _changed(created=[]),
    ],
)
def test_hostile_key_file_is_damage(text: bytes) -> None:
    with pytest.raises(DamagedData):
        KeyFile.decode(text)


def test_pbkdf2_is_the_standard_one() -> None:
    wanted = hashlib.pbkdf2_hmac("sha256", b"pass", b"salt", 3)

    assert Pbkdf2(b"salt", 3).derive(b"pass") == wanted
