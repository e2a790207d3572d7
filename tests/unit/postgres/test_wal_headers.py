"""Recorded segment headers, and segments that are not what their name says."""

from typing import Any

import pytest
from tests.harness import vectors
from tests.harness.wal_files import CLUSTER_ID, SEGMENT, segment_bytes

from holdfast.errors import Refused
from holdfast.postgres.wal_headers import check_segment, parse_header
from holdfast.postgres.wal_names import WalName, parse_lsn, parse_wal_name, segment_name

CASES = vectors.load("postgres/wal", "headers")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['pg']}-{case['name']}")
def test_recorded_headers_are_read_and_fit_their_names(case: dict[str, Any]) -> None:
    head = bytes.fromhex(case["first64_hex"])
    name = parse_wal_name(case["name"])

    found = check_segment(
        name,
        head,
        case["segment_size"],
        system_identifier=int(case["system_identifier"]),
        segment_bytes=case["segment_size"],
    )

    assert found.version == case["pg"]
    assert found.timeline == case["tli"]
    assert found.position == parse_lsn(case["pageaddr"])


def check(name: WalName, data: bytes, size: int = SEGMENT) -> None:
    check_segment(name, data[:40], size, system_identifier=CLUSTER_ID, segment_bytes=SEGMENT)


def name_of(number: int, timeline: int = 1) -> WalName:
    return parse_wal_name(segment_name(timeline, number, SEGMENT))


def test_the_first_segment_of_a_timeline_may_begin_with_pages_of_the_old_one() -> None:
    check(name_of(7, timeline=2), segment_bytes(7, timeline=1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (segment_bytes(8), "begins at"),
        (segment_bytes(7, timeline=2), "later than its name"),
        (segment_bytes(7, cluster=5), "belongs to the cluster 5"),
        (b"\0" * SEGMENT, "does not begin like"),
        (b"", "is no WAL segment"),
        (segment_bytes(7)[:32] + b"\0\0\0\x07" + segment_bytes(7)[36:], "does not begin like"),
    ],
)
def test_a_segment_that_is_not_what_its_name_says_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Refused, match=message):
        check(name_of(7), data)


def test_a_segment_of_another_size_is_refused() -> None:
    with pytest.raises(Refused, match="has 100 bytes"):
        check(name_of(7), segment_bytes(7), size=100)


def test_a_new_version_of_the_server_is_no_reason_to_refuse() -> None:
    data = b"\x20\xd1" + segment_bytes(7)[2:]

    assert parse_header(data, "x").version is None
