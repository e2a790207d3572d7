"""WAL names against recorded ones, and everything that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness import vectors

from holdfast.errors import BadRequest
from holdfast.postgres import wal_names
from holdfast.postgres.wal_names import WalKind, parse_wal_name

CASES = vectors.load("postgres/wal", "names")
SIZES = [1 << power for power in range(20, 31)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['segment_size']}-{case['lsn']}")
def test_positions_and_names_agree_with_the_recorded_ones(case: dict[str, object]) -> None:
    size, timeline = int(str(case["segment_size"])), int(str(case["tli"]))
    lsn = wal_names.parse_lsn(str(case["lsn"]))

    segment = wal_names.segment_of(lsn, size)
    last = wal_names.last_segment_before(lsn, size)

    name = str(case["segment_containing_byte"])
    assert wal_names.segment_name(timeline, segment, size) == name
    assert wal_names.segment_name(timeline, last, size) == case["last_segment_needed_to_reach"]
    assert lsn % size == case["offset"]
    assert wal_names.format_lsn(lsn) == case["lsn"]
    assert parse_wal_name(name).segment(size) == segment


@given(
    timeline=st.integers(1, 2**32 - 1),
    lsn=st.integers(0, 2**64 - 1),
    size=st.sampled_from(SIZES),
)
def test_a_name_leads_back_to_its_segment(timeline: int, lsn: int, size: int) -> None:
    segment = wal_names.segment_of(lsn, size)

    name = parse_wal_name(wal_names.segment_name(timeline, segment, size))

    assert (name.timeline, name.segment(size), name.kind) == (timeline, segment, WalKind.SEGMENT)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("00000003.history", WalKind.HISTORY),
        ("0000000100000000000000FF.partial", WalKind.PARTIAL),
        ("000000010000000000000008.00000028.backup", WalKind.BACKUP),
    ],
)
def test_other_files_of_the_archive_have_names_too(text: str, kind: WalKind) -> None:
    assert parse_wal_name(text).kind is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "../000000010000000000000001",
        "pg_wal/000000010000000000000001",
        "00000001000000000000000a",
        "000000000000000000000001",
        "00000000.history",
        "000000010000000000000001\n",
        "000000010000000000000001.zst",
        "000000010000000000000001.partial.partial",
        "000000010000000000000001.0000002.backup",
        "RECOVERYXLOG",
        "archive_status",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="not the name of a WAL file"):
        parse_wal_name(text)


@pytest.mark.parametrize("text", ["", "1", "0/", "/0", "0/100000000", "g/0", "0/1 "])
def test_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        wal_names.parse_lsn(text)
