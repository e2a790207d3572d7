from pathlib import Path

import pytest

from holdfast.datastore.gc_status import GcStatus, read_status, write_status
from holdfast.errors import DamagedData

STATUS = GcStatus(upid="UPID:x:", index_file_count=2, index_data_bytes=300, disk_bytes=100)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_status(str(tmp_path), STATUS, owner=None)

    assert read_status(str(tmp_path)) == STATUS
    assert (tmp_path / ".gc-status").stat().st_mode & 0o777 == 0o644


def test_newer_keys_are_ignored() -> None:
    data = STATUS.encode()[:-1] + b',"cache-stats":{"hits":1,"misses":2}}'

    assert GcStatus.decode(data) == STATUS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
        STATUS.encode().replace(b"300", b"-1"),
    ],
)
def test_what_cannot_be_read_counts_as_never_collected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".gc-status").write_bytes(data)

    assert read_status(str(tmp_path)) is None
    with pytest.raises(DamagedData):
        GcStatus.decode(data)


def test_a_store_that_was_never_collected_has_no_status(tmp_path: Path) -> None:
    assert read_status(str(tmp_path)) is None


def test_the_factor_is_bytes_backed_up_per_stored_byte() -> None:
    assert STATUS.dedup_factor == 3.0
    assert GcStatus().dedup_factor == 1.0
