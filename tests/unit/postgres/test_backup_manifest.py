"""Manifests: ours, and what comes from a server held against its own."""

import json
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import pytest
from tests.harness.base_record import RECORD

from holdfast.errors import DamagedData
from holdfast.postgres.backup_manifest import check_received, manifest_of

FILES = {b"global/1": b"x", b"base/5/INCREMENTAL.2": b"yy", b"odd \xff": b""}


def received(**changes: bytes) -> dict[bytes, tuple[int, str]]:
    found = {**FILES, **{name.encode(): data for name, data in changes.items()}}
    return {path: (len(data), sha256(data).hexdigest()) for path, data in found.items()}


def manifest(*more: dict[str, object], algorithm: str = "SHA256") -> bytes:
    """As a server writes it, with `more` entries."""
    entries: list[dict[str, object]] = []
    for path, data in FILES.items():
        key = "Encoded-Path" if b"\xff" in path else "Path"
        name = path.hex() if b"\xff" in path else path.decode()
        about = {"Size": len(data), "Last-Modified": "2026-01-01 00:00:00 GMT"}
        digest = {"Checksum-Algorithm": algorithm, "Checksum": sha256(data).hexdigest()}
        entries.append({key: name, **about, **digest})
    lines = ",\n".join("{ " + json.dumps(entry)[1:] for entry in [*entries, *more])
    text = f'{{ "PostgreSQL-Backup-Manifest-Version": 2,\n"Files": [\n{lines}\n],\n'.encode()
    return text + f'"Manifest-Checksum": "{sha256(text).hexdigest()}"}}\n'.encode()


def check(text: bytes, found: dict[bytes, tuple[int, str]]) -> None:
    check_received(BytesIO(text), found)


def test_what_came_as_listed_is_accepted_and_wal_need_not_be_listed() -> None:
    check(manifest(), received())
    check(manifest(), received() | {b"pg_wal/000000010000000000000001": (1, "")})


@pytest.mark.parametrize(
    ("text", "found", "reason"),
    [
        (manifest(), received(**{"global/1": b"z"}), "global/1"),
        (manifest(), received(**{"global/1": b"xx"}), "global/1"),
        (manifest(), received(more=b""), "does not list"),
        (manifest({"Path": "gone", "Size": 0}), received(), "does not read"),
        (manifest({"Path": 7}), received(), "does not read"),
        (manifest({"Encoded-Path": "xyz"}), received(), "does not read"),
        (manifest(algorithm="CRC32C"), received(), "asked for"),
        (manifest()[:-2], received(), "checksum is wrong"),
        (manifest().replace(b"Version", b"version"), received(), "checksum is wrong"),
        (b"", {}, "checksum is wrong"),
        (manifest(), {path: about for path, about in received().items() if b"5" not in path}, "5"),
    ],
)
def test_what_differs_is_refused(
    text: bytes, found: dict[bytes, tuple[int, str]], reason: str
) -> None:
    with pytest.raises(DamagedData, match=reason):
        check(text, found)


def test_a_manifest_names_the_cluster_where_the_server_wants_it() -> None:
    assert json.loads(manifest_of(RECORD, (), ()))["PostgreSQL-Backup-Manifest-Version"] == 1
    newer = json.loads(manifest_of(replace(RECORD, server_version=170_010), (), ()))
    assert newer["PostgreSQL-Backup-Manifest-Version"] == 2
    assert newer["System-Identifier"] == int(RECORD.system_identifier)
