"""Which blocks count as unmodified, by digest and by LSN; the traps are recorded pages."""

from dataclasses import replace

import pytest
from tests.harness.base_record import RECORD
from tests.harness.vectors import GOLDEN

from holdfast.postgres.changed_blocks import by_lsn, lsn_refusal, parent_refusal, same_digests
from holdfast.postgres.file_list import DIGEST_BYTES, block_digests


def page(name: str) -> bytes:
    return (GOLDEN / "postgres" / "pages" / name).read_bytes()


def test_by_digest_a_cleared_visibility_bit_is_seen_although_its_lsn_stands_still() -> None:
    before, after = page("vm_before.bin"), page("vm_after.bin")
    assert before[:8] == after[:8]
    digests = block_digests(memoryview(before))
    assert same_digests(block_digests(memoryview(before)), digests) == [True]
    assert same_digests(block_digests(memoryview(after)), digests) == [False]


def test_blocks_behind_the_end_of_the_file_before_are_modified() -> None:
    data = memoryview(page("heap_blk0.bin") * 3)
    digests = block_digests(data)
    assert same_digests(digests, digests[: 2 * DIGEST_BYTES]) == [True, True, False]
    assert same_digests(digests[:DIGEST_BYTES], digests) == [True]
    assert same_digests(digests, b"") == [False, False, False]


def test_by_lsn_new_pages_and_lsns_that_are_none_are_never_taken_as_unmodified() -> None:
    pages = page("heap_blk0.bin") + page("gist_sorted_build_root.bin") + page("zero.bin")
    data = memoryview(pages)
    known = block_digests(data)
    lsn = 0xC9121E38
    flags, digests = by_lsn(data, known, lsn + 1)
    assert flags == [True, False, False]
    assert digests == known
    assert by_lsn(data, known, lsn)[0] == [False, False, False]
    assert by_lsn(data, b"", lsn + 1)[0] == [False, False, False]


def test_digests_of_blocks_left_out_are_those_of_the_backup_before() -> None:
    data = memoryview(page("heap_blk0.bin"))
    recorded = b"R" * DIGEST_BYTES
    _flags, digests = by_lsn(data, recorded, 0xC9121E39)
    assert digests == recorded


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, False),
        ({"has_checksums": False}, True),
        ({"has_checksums": False, "has_wal_log_hints": True}, False),
        ({"stop": replace(RECORD.stop, lsn=RECORD.stop.lsn + 1)}, True),
        ({"start": replace(RECORD.start, timeline=1)}, True),
    ],
)
def test_lsns_are_trusted_only_under_conditions(change: dict[str, object], refused: bool) -> None:
    before = replace(RECORD, **change)  # type: ignore[arg-type]
    now = replace(RECORD, start=RECORD.stop)
    assert (lsn_refusal(before, now) is not None) == refused


@pytest.mark.parametrize(
    "change", [{"system_identifier": "1"}, {"server_version": 140000}, {"segment_blocks": 1}]
)
def test_a_parent_is_of_the_same_cluster(change: dict[str, object]) -> None:
    assert parent_refusal(RECORD, RECORD) is None
    assert parent_refusal(replace(RECORD, **change), RECORD) is not None  # type: ignore[arg-type]
