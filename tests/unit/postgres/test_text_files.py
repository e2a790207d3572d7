"""Recorded text files of servers, and what is none."""

import pytest
from tests.harness.vectors import GOLDEN

from holdfast.errors import DamagedData
from holdfast.postgres.text_files import Ancestor, BackupLabel, parse_history

TEXT = GOLDEN / "postgres" / "text"


def test_a_history_file_names_all_ancestors() -> None:
    found = parse_history((TEXT / "00000003.history").read_bytes(), "x")

    assert found == (Ancestor(1, 0x750024A0), Ancestor(2, 0x76000000))


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"x", b"1", b"1\tnowhere", b"2\t0/1\tx\n1\t0/2\ty\n", b"0\t0/1", b"\xff"]
)
def test_what_is_no_history_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedData):
        parse_history(data, "x")


def test_a_label_says_where_a_backup_starts() -> None:
    label = BackupLabel.parse((TEXT / "backup_label.15.txt").read_bytes())

    assert (label.start_lsn, label.start_segment) == (0x2E01D8D0, "00000001000000000000002E")
    assert (label.timeline, label.label, label.stop_lsn) == (1, "lab", None)
    assert not label.is_incremental


def test_a_label_of_the_servers_own_increment_is_told_apart() -> None:
    label = BackupLabel.parse((TEXT / "backup_label.17.incremental.txt").read_bytes())

    assert label.is_incremental


def test_a_backup_history_file_also_says_where_it_stops() -> None:
    data = (TEXT / "000000010000000000000008.00000028.backup").read_bytes()

    label = BackupLabel.parse(data)

    assert (label.start_lsn, label.stop_lsn) == (0x8000028, 0x8000100)


@pytest.mark.parametrize("data", [b"", b"START WAL LOCATION: x", b"\xff" * 100])
def test_what_is_no_label_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedData):
        BackupLabel.parse(data)
