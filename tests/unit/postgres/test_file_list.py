"""The list of a base backup's files, and the record of the backup: what is read is checked."""

import json
from dataclasses import replace

import pytest
from tests.harness.base_record import RECORD

from holdfast.errors import DamagedData
from holdfast.postgres.backup_record import BackupRecord
from holdfast.postgres.file_list import Form, ListedFile, read_list

LINE = ListedFile(b"base/5/1\xff", Form.DELTA, 0o600, 5, 16384, "a" * 64, 32, 1)


def test_lines_come_back_whatever_pieces_they_arrive_in() -> None:
    lines = [LINE, ListedFile(b"", Form.DIRECTORY, 0o700, 0), replace(LINE, sha256=None)]
    data = b"".join(line.encode() for line in lines)
    for step in (1, 7, len(data)):
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        assert list(read_list(pieces)) == lines
    with pytest.raises(DamagedData, match="cut short"):
        list(read_list([data[:-1]]))


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../etc/passwd"},
        {"path": "/etc/passwd"},
        {"path": "base//1"},
        {"path": "a/./b"},
        {"path": "a\0b"},
        {"mode": 0o200000},
        {"size": -1},
        {"size": "x"},
        {"sha256": "ab"},
        {"digest_at": -1},
        {"form": "other"},
        {"path": None},
    ],
)
def test_lines_that_lead_elsewhere_or_cannot_be_are_refused(change: dict[str, object]) -> None:
    value = {**json.loads(LINE.encode()), **change}
    with pytest.raises(DamagedData):
        ListedFile.decode(json.dumps(value).encode())


def test_a_record_comes_back_as_it_was() -> None:
    assert BackupRecord.decode(RECORD.encode()) == RECORD
    summary = RECORD.summary()
    assert summary["start"]["lsn"] == "3/60"
    assert summary["chain"][0] == "host/main/2025-12-31T00:00:00Z"


@pytest.mark.parametrize("key", list(json.loads(RECORD.encode())))
def test_a_record_without_one_of_its_parts_is_damaged(key: str) -> None:
    value = json.loads(RECORD.encode())
    del value[key]
    with pytest.raises(DamagedData):
        BackupRecord.decode(json.dumps(value).encode())
