"""The decisions of a sync against the recorded ones."""

from typing import Any

import pytest
from tests.harness import vectors

from holdfast.postgres.sync_steps import Action, choose, is_base_due, next_pause, owed_after
from holdfast.postgres.wal_stage import ARCHIVE

CASES = vectors.load("postgres/state", "pgbak_state")["step"]
ACTIONS = {"backup-script": Action.ARCHIVE, "snapshot": Action.SNAPSHOT}


@pytest.mark.parametrize("case", CASES, ids=[str(number) for number in range(len(CASES))])
def test_steps_agree_with_the_recorded_ones(case: dict[str, Any]) -> None:
    step = choose(case["state"], has_base=case["current_usable"])

    left = owed_after(
        step,
        is_done=case["outcome"] == "ok",
        is_base_due=case["base_due"],
        took_base=case["did_snapshot"],
    )

    assert step.action is ACTIONS[case["action"]]
    assert step.owed << 4 == case["running_byte"]
    assert left | case["pending_after"] == case["next_state"]
    took_base = step.action is Action.SNAPSHOT and case["outcome"] == "ok"
    assert (took_base or bool(case["pending_after"] & ARCHIVE)) == case["refresh_ts"]


def test_nothing_owed_is_nothing_to_do() -> None:
    assert choose(0, has_base=False).action is Action.NONE


@pytest.mark.parametrize(
    ("segments", "wal_bytes", "base_bytes", "expected"),
    [(8, 1000, 1, False), (9, 199, 100, False), (9, 200, 100, True), (9, 0, 0, True)],
)
def test_a_base_is_due_when_wal_outgrew_it(
    segments: int, wal_bytes: int, base_bytes: int, *, expected: bool
) -> None:
    assert is_base_due(segments=segments, wal_bytes=wal_bytes, base_bytes=base_bytes) is expected


def test_pauses_grow_by_a_quarter_up_to_their_limit() -> None:
    pauses = [4.0]
    for _failure in range(30):
        pauses.append(next_pause(pauses[-1], pause_s_max=300))

    assert pauses[1:3] == [5.0, 6.25]
    assert pauses[-1] == 300
