"""`backup_manifest` as the server's tools want it, for a cluster put together by us.

JSON text, version 1, or 2 from PostgreSQL 17 on: every file with its size, time and, where it is
known, SHA-256; the range of WAL without which it is nothing; in the last line the SHA-256 of all
bytes before that line. With it pg_verifybackup can say that what was restored is what was backed
up. Source: PostgreSQL manual, Backup Manifest Format.
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from holdfast.errors import DamagedData
from holdfast.postgres.backup_record import BackupRecord
from holdfast.postgres.file_list import Form, ListedFile
from holdfast.postgres.wal_names import format_lsn
from holdfast.shown import printable

_FILE_LINE = re.compile(rb'\{ ?"(?:Encoded-)?Path"')
_WHAT = "the manifest that the server sent"
_NANO = 1_000_000_000
_IDENTIFIED_FROM = 17  # the version that names the cluster in manifests


def manifest_of(
    record: BackupRecord, lines: Iterable[ListedFile], others: Iterable[tuple[str, bytes]]
) -> bytes:
    """The text.

    Args:
        record: of the backup.
        lines: its list of files.
        others: names and contents of files that the list does not have, such as `backup_label`.
    """
    parts = ['{ "PostgreSQL-Backup-Manifest-Version": 1,\n']
    if record.major >= _IDENTIFIED_FROM:
        number = int(record.system_identifier)
        parts = [f'{{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": {number},\n']
    parts.append('"Files": [\n')
    parts.append(",\n".join(_files(lines, others)))
    wal = {
        "Timeline": record.start.timeline,
        "Start-LSN": format_lsn(record.start.lsn),
        "End-LSN": format_lsn(record.stop.lsn),
    }
    parts.append(f'\n],\n"WAL-Ranges": [\n{json.dumps(wal)}\n],\n')
    text = "".join(parts).encode()
    return text + f'"Manifest-Checksum": "{sha256(text).hexdigest()}"}}\n'.encode()


def check_received(manifest: Iterable[bytes], received: dict[bytes, tuple[int, str]]) -> None:
    """Hold what came against the server's manifest, whose every file stands on a line of its own.

    Args:
        manifest: its lines, with their ends.
        received: size and SHA-256 of every file by path; what is listed is taken out.

    Raises:
        DamagedData: a file is another, is missing, or is too many (WAL is not listed).
    """
    hasher, last = sha256(), b""
    for line in manifest:
        hasher.update(last)
        last = line
        if _FILE_LINE.match(line):
            path, about = _listed(line)
            if received.pop(path, None) != about:
                raise DamagedData(printable(path), "it did not come as the server read it")
    if last != f'"Manifest-Checksum": "{hasher.hexdigest()}"}}\n'.encode():
        raise DamagedData(_WHAT, "its checksum is wrong")
    if any(not path.startswith(b"pg_wal/") for path in received):
        raise DamagedData(_WHAT, "files came that it does not list")


def _listed(line: bytes) -> tuple[bytes, tuple[int, str]]:
    try:
        value = json.loads(line.rstrip(b",\n"))
        encoded = value.get("Encoded-Path")
        path = value["Path"].encode() if encoded is None else bytes.fromhex(encoded)
        if value["Checksum-Algorithm"] != "SHA256":
            raise DamagedData(_WHAT, "its checksums are not those that were asked for")
        return path, (int(value["Size"]), str(value["Checksum"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedData(_WHAT, f"a line does not read as one ({error})") from error


def _files(lines: Iterable[ListedFile], others: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    for line in lines:
        if line.form is not Form.DIRECTORY:
            yield _file(line.path, line.size, line.mtime_ns, line.sha256)
    for name, data in others:
        yield _file(name.encode(), len(data), 0, sha256(data).hexdigest())


def _file(path: bytes, size: int, mtime_ns: int, digest: str | None) -> str:
    value: dict[str, Any] = {}
    try:
        value["Path"] = path.decode()
    except UnicodeDecodeError:
        value["Encoded-Path"] = path.hex()
    value["Size"] = size
    moment = datetime.fromtimestamp(mtime_ns // _NANO, UTC)
    value["Last-Modified"] = moment.strftime("%Y-%m-%d %H:%M:%S GMT")
    if digest is not None:
        value["Checksum-Algorithm"] = "SHA256"
        value["Checksum"] = digest
    return json.dumps(value)
