"""Manifests: recorded texts and signatures, round trips, hostile JSON."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.harness import vectors

from holdfast.datastore import blob
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode, FileEntry, Manifest, VerifyResult
from holdfast.errors import BadRequest, DamagedData, KeyProblem, NotFound
from holdfast.ids import Namespace, SnapshotId

RECORDED = vectors.load("datastore", "manifest")
SIGNED = RECORDED["signed"]
KEY = EncryptionKey(bytes.fromhex(SIGNED["enc_key_hex"]))


def _decoded(text: str) -> Manifest:
    return Manifest.decode(b"".join(blob.encode(text.encode())))


def test_published_example_has_the_published_signature() -> None:
    case = RECORDED["published_check"]
    key = EncryptionKey(bytes.fromhex(case["enc_key_hex"]))
    manifest = Manifest(
        SnapshotId.parse("host/elsa/2020-06-26T13:56:05Z"),
        (
            FileEntry("test1.img.fidx", CryptMode.ENCRYPT, 200, bytes([1] * 32)),
            FileEntry("abc.blob", CryptMode.NONE, 200, bytes([2] * 32)),
        ),
    )

    assert key.id_key.hex() == case["id_key_hex"]
    assert manifest.canonical().decode() == case["canonical"]
    assert manifest.signed_with(key).signature == case["signature"]


def test_recorded_signed_manifest_is_accepted_by_its_key_only() -> None:
    manifest = _decoded(SIGNED["index_json_text"])

    assert manifest.canonical().decode() == SIGNED["canonical"]
    assert manifest.signature == SIGNED["signature"]
    manifest.check_signature(KEY)
    with pytest.raises(KeyProblem):
        manifest.check_signature(EncryptionKey(bytes(32)))


@pytest.mark.parametrize("name", ["signed", "unsigned"])
def test_recorded_text_is_written_back_byte_for_byte(name: str) -> None:
    text = RECORDED[name]["index_json_text"]

    assert _decoded(text).to_json().decode() == text


def test_recorded_unsigned_manifest_tells_its_state_and_stats() -> None:
    text = RECORDED["unsigned"]["index_json_text"]
    unprotected = json.loads(text)["unprotected"]

    manifest = _decoded(text)

    assert manifest.signature is None
    manifest.check_signature(KEY)
    assert manifest.verify_state is not None
    assert manifest.verify_state.state is VerifyResult(unprotected["verify_state"]["state"])
    assert str(manifest.verify_state.upid) == unprotected["verify_state"]["upid"]
    assert manifest.chunk_upload_stats is not None
    assert manifest.chunk_upload_stats.count == unprotected["chunk_upload_stats"]["count"]


def test_signature_covers_every_protected_field_and_no_other() -> None:
    manifest = _decoded(SIGNED["index_json_text"])
    entry = manifest.files[0]

    replace(manifest, unprotected={**manifest.unprotected, "notes": "new"}).check_signature(KEY)
    for changed in (
        replace(manifest, files=()),
        replace(manifest, files=(replace(entry, size=entry.size + 1), *manifest.files[1:])),
        replace(manifest, files=(replace(entry, csum=bytes(32)), *manifest.files[1:])),
        replace(manifest, snapshot=SnapshotId.parse("vm/100/2024-06-10T06:13:21Z")),
        replace(manifest, extra={"more": 1}),
    ):
        with pytest.raises(DamagedData):
            changed.check_signature(KEY)


def test_unknown_fields_survive_everywhere() -> None:
    value = json.loads(SIGNED["index_json_text"])
    value["later"] = {"version": [1, 2]}
    value["files"][0]["colour"] = "blue"
    value["unprotected"]["odd"] = [None, {"deep": True}]

    again = json.loads(_decoded(json.dumps(value)).to_json())

    assert again == value


def test_entry_is_found_by_name_and_the_first_of_two_wins() -> None:
    first = FileEntry("a.blob", CryptMode.NONE, 1, bytes(32))
    manifest = Manifest(
        SnapshotId.parse("host/h/2020-06-26T13:56:05Z"), (first, replace(first, size=2))
    )

    assert manifest.entry("a.blob").size == 1
    with pytest.raises(NotFound):
        manifest.entry("b.blob")


def test_snapshot_is_placed_in_the_namespace_it_was_read_from() -> None:
    stored = b"".join(_decoded(SIGNED["index_json_text"]).encode())

    assert Manifest.decode(stored, ns=Namespace(("a", "b"))).snapshot.ns == Namespace(("a", "b"))


def _changed(**fields: Any) -> str:
    return json.dumps({**json.loads(SIGNED["index_json_text"]), **fields})


def _with_file(**fields: Any) -> str:
    entry = {"filename": "a.blob", "size": 1, "csum": "0" * 64, "crypt-mode": "none"}
    return _changed(files=[{**entry, **fields}])


HOSTILE = {
    "no JSON": "{",
    "no object": "[]",
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "deep unprotected": _changed(unprotected={"a": json.loads("[" * 60 + "]" * 60)}),
    "half a surrogate": _changed(unprotected={"notes": "\ud800"}),
    "not a number": _changed(unprotected={"a": float("nan")}),
    "infinite number": _changed(unprotected={"a": 12345}).replace("12345", "1e400"),
    "huge number": _changed().replace("1718000000", "1" * 5000),
    "late year": _changed(**{"backup-time": 10**15}),
    "negative time": _changed(**{"backup-time": -1}),
    "time as text": _changed(**{"backup-time": "1718000000"}),
    "time as truth": _changed(**{"backup-time": True}),
    "time as fraction": _changed(**{"backup-time": 1.5}),
    "no time": _changed(**{"backup-time": None}),
    "unknown type": _changed(**{"backup-type": "disk"}),
    "type as list": _changed(**{"backup-type": ["vm"]}),
    "id as path": _changed(**{"backup-id": "../etc"}),
    "id as number": _changed(**{"backup-id": 100}),
    "files as object": _changed(files={}),
    "file as text": _changed(files=["a.blob"]),
    "signature too short": _changed(signature="00"),
    "signature as number": _changed(signature=1),
    "unprotected as list": _changed(unprotected=[]),
    "filename as path": _with_file(filename="../../etc/passwd.blob"),
    "absolute filename": _with_file(filename="/etc/x.blob"),
    "filename with a slash": _with_file(filename="a/b.blob"),
    "hidden filename": _with_file(filename=".x.blob"),
    "filename with NUL": _with_file(filename="a\0.blob"),
    "filename with newline": _with_file(filename="a.blob\n"),
    "unknown suffix": _with_file(filename="a.txt"),
    "filename as null": _with_file(filename=None),
    "negative size": _with_file(size=-1),
    "size beyond 64 bits": _with_file(size=1 << 64),
    "size as text": _with_file(size="1"),
    "short csum": _with_file(csum="00"),
    "csum of no hex": _with_file(csum="g" * 64),
    "csum with spaces": _with_file(csum="00 " * 21 + "0"),
    "unknown crypt-mode": _with_file(**{"crypt-mode": "rot13"}),
    "crypt-mode as null": _with_file(**{"crypt-mode": None}),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_manifest_is_damage_and_nothing_else(text: str) -> None:
    with pytest.raises(DamagedData):
        _decoded(text)


def test_encrypted_manifest_is_damage() -> None:
    stored = b"".join(blob.encode(SIGNED["index_json_text"].encode(), key=KEY))

    with pytest.raises(DamagedData):
        Manifest.decode(stored)


def test_manifest_that_is_too_large_is_damage() -> None:
    with pytest.raises(DamagedData):
        _decoded(_changed(unprotected={"notes": "x" * (17 << 20)}))


@pytest.mark.parametrize(
    "state",
    [
        None,
        "ok",
        {},
        {"state": "ok"},
        {"state": "great", "upid": "x"},
        {"state": "ok", "upid": "x"},
    ],
)
def test_verify_state_that_cannot_be_read_counts_as_none(state: Any) -> None:
    manifest = _decoded(_changed(unprotected={"verify_state": state, "notes": 3}))

    assert manifest.verify_state is None
    assert manifest.notes == ""


def test_manifest_that_nobody_would_read_back_is_not_written() -> None:
    manifest = _decoded(SIGNED["index_json_text"])

    with pytest.raises(BadRequest, match="shorten its notes"):
        replace(manifest, unprotected={"notes": "\x01" * (3 << 20)}).encode()


def test_missing_optional_fields_take_their_defaults() -> None:
    value = json.loads(_with_file())
    for name in ("signature", "unprotected"):
        del value[name]
    del value["files"][0]["crypt-mode"]

    manifest = _decoded(json.dumps(value))

    assert manifest.signature is None
    assert manifest.unprotected == {}
    assert manifest.files[0].crypt_mode is CryptMode.NONE


def test_null_in_the_signed_part_cannot_be_signed() -> None:
    with pytest.raises(BadRequest):
        _decoded(_changed(later=None)).signed_with(KEY)
