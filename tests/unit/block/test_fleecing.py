"""Names, records and geometry of fleecing images."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.harness.vectors import load

from holdfast.block.fleecing import ClusterSizes, FleecingRecord, create, image_name
from holdfast.errors import BadRequest, DamagedData
from holdfast.host import gate
from holdfast.units import KIB, MIB

ROWS = load("block", "discard_source")["rows"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(ROWS.index(row)))
def test_sizes_that_gave_no_space_back_are_explained(row: dict[str, Any]) -> None:
    if not row["discard_source"] or row.get("access_discard", "unmap") != "unmap":
        return  # space stays for another reason than cluster sizes
    if row.get("fleece_discard", "unmap") != "unmap" or "note" in row:
        return
    job = max(64 * KIB, row["job_min_cluster"] or 0) if "job_min_cluster" in row else 64 * KIB
    filter_bytes = max(row.get("fleece_cluster", 0), row.get("cbw_min_cluster", 0), 64 * KIB)
    sizes = ClusterSizes(
        fleecing_bytes=row.get("fleece_cluster", 64 * KIB),
        filter_bytes=filter_bytes,
        job_bytes=job,
    )
    gave_back = row["kib_after"] < row["kib_before"]
    assert (sizes.problem() is None) == gave_back


def test_a_filter_below_the_fleecing_cluster_is_explained() -> None:
    sizes = ClusterSizes(fleecing_bytes=MIB, filter_bytes=64 * KIB, job_bytes=MIB)
    assert "min-cluster-size" in (sizes.problem() or "")


def test_names_follow_the_scheme_and_cannot_leave_their_directory() -> None:
    assert image_name("100", 2, "qcow2") == "vm-100-fleece-2.qcow2"
    for guest in ("../x", "", "a/b", ".hidden", "a" * 65):
        with pytest.raises(BadRequest):
            image_name(guest, 0)


async def test_an_image_is_on_record_before_it_exists(tmp_path: Path) -> None:
    record = FleecingRecord(str(tmp_path / "record"))
    path = str(tmp_path / "vm-1-fleece-0.raw")

    def power_loss(call: str, name: object) -> None:
        if call == "open" and name == path:
            raise KeyboardInterrupt

    with gate.installed(power_loss), pytest.raises(KeyboardInterrupt):
        create(path, MIB, record, budget_bytes=0)
    assert record.images() == [path]
    assert record.clean() == []
    image = create(path, MIB + 512, record, budget_bytes=0)
    assert image.node.size_bytes == MIB + 512
    await image.close()
    assert record.clean() == []
    assert record.images() == []
    assert not os.path.exists(path)  # noqa: ASYNC240


def test_images_that_cannot_be_deleted_stay_on_record(tmp_path: Path) -> None:
    record = FleecingRecord(str(tmp_path / "record"))
    stuck = tmp_path / "stuck"
    stuck.mkdir()
    record.intend(str(stuck))
    record.intend(str(tmp_path / "gone"))
    assert len(record.clean()) == 1
    assert record.images() == [str(stuck)]


def test_a_damaged_record_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for text in ("", "[]", '{"images": 5}', '{"images": [5]}'):
        path.write_text(text)
        with pytest.raises(DamagedData):
            FleecingRecord(str(path)).images()
