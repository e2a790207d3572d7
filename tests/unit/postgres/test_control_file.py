"""pg_control of three server versions, and what is none."""

from pathlib import Path
from typing import Any

import pytest
from tests.harness import vectors
from tests.harness.driven_clock import DrivenClock

from holdfast.errors import DamagedData
from holdfast.postgres.control_file import ControlFile, read_control
from holdfast.postgres.wal_names import format_lsn

CASES = vectors.load("postgres/control", "pg_control")


def whole(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["used_hex"]).ljust(case["file_size"], b"\0")


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["pg"]))
def test_recorded_files_are_read(case: dict[str, Any]) -> None:
    found = ControlFile.parse(whole(case))

    assert str(found.system_identifier) == case["system_identifier"]
    assert found.control_version == case["pg_control_version"]
    assert found.catalog_version == case["catalog_version"]
    assert found.state == case["state"]
    assert found.timeline == case["tli"]
    high, low = case["checkpoint"].split("/")
    assert found.checkpoint == (int(high, 16) << 32) + int(low, 16)
    assert format_lsn(found.redo) == case["redo"].replace("/0", "/")
    assert (found.block_bytes, found.segment_blocks) == (case["blcksz"], case["relseg_blocks"])
    assert found.wal_segment_bytes == case["xlog_seg_size"]
    assert found.has_checksums == bool(case["data_checksum_version"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["pg"]))
def test_any_changed_byte_is_noticed(case: dict[str, Any]) -> None:
    data = whole(case)
    for at in range(case["crc_offset"] + 4):
        changed = bytearray(data)
        changed[at] ^= 0x10
        with pytest.raises(DamagedData):
            ControlFile.parse(bytes(changed))


@pytest.mark.parametrize("length", [0, 100, 291, 511])
def test_a_short_file_is_refused(length: int) -> None:
    with pytest.raises(DamagedData):
        ControlFile.parse(whole(CASES[0])[:length])


def test_a_file_that_is_being_rewritten_is_read_again(tmp_path: Path) -> None:
    data = whole(CASES[0])
    (tmp_path / "global").mkdir()
    path = tmp_path / "global" / "pg_control"
    path.write_bytes(data[:40] + bytes(8) + data[48:])

    class Mending(DrivenClock):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            path.write_bytes(data)

    assert read_control(str(tmp_path), clock=Mending()).timeline == 1
