"""Records of machines: durable, private, never guessed at."""

import os
from pathlib import Path

import pytest

from holdfast.block.vm_record import DiskChain, VmRecord, VmRecords
from holdfast.errors import BadRequest, Busy, DamagedData, NotFound


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    records = VmRecords(str(tmp_path))
    chain = DiskChain(node="n", size_bytes=5, base="vm/a/x", base_epoch=3, starts={"4": 3})
    record = VmRecord(name="a", qmp="/q", epoch=4, stores={"s": {"vd0": chain}})
    records.save(record)
    assert records.load("a") == record
    assert records.names() == ["a"]
    records.remove("a")
    with pytest.raises(NotFound, match="no machine"):
        records.load("a")


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a" * 65, "ä"])
def test_names_that_are_no_file_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        VmRecords(str(tmp_path)).load(name)


def test_damaged_records_are_not_guessed_at(tmp_path: Path) -> None:
    records = VmRecords(str(tmp_path))
    records.save(VmRecord(name="a", qmp="/q"))
    path = Path(records.path("a"))
    for text in ("", "{}", "[]", '{"stores": {"s": {"d": {"odd": 1}}}}', '{"stores": 5}'):
        path.write_text(text)
        with pytest.raises(DamagedData):
            records.load("a")


def test_a_machine_is_worked_on_by_one_run_at_a_time(tmp_path: Path) -> None:
    records = VmRecords(str(tmp_path))
    with records.locked("a"), pytest.raises(Busy):
        records.locked("a").__enter__()
    with records.locked("a"):
        pass


def test_a_socket_path_that_is_too_long_moves_to_a_private_directory(tmp_path: Path) -> None:
    records = VmRecords(str(tmp_path / ("long" * 30)))
    path = records.socket_path("a")
    assert len(path) <= 107
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    Path(path).touch()
    records.remove_socket("a")
    assert not os.path.exists(os.path.dirname(path))
    records.remove_socket("a")
    assert not os.path.exists(os.path.dirname(path))
