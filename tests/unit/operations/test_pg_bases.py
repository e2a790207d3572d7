from typing import Any

import pytest

from holdfast.operations.pg_bases import ended_s

NOON = 1_767_268_800  # 2026-01-01T12:00:00Z


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"stop": {"time": "2026-01-01T12:00:00Z"}}, NOON),
        ({"stop": {"time": "2026-01-09T12:00:00Z"}}, NOON + 500),
        ({"stop": {"time": "soon"}}, NOON + 500),
        ({"stop": []}, NOON + 500),
        ("no record", NOON + 500),
    ],
)
def test_a_base_ends_when_its_server_did_not_when_it_was_combined(
    about: Any, expected: int
) -> None:
    assert ended_s(NOON + 500, about) == expected
