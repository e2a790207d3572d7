"""Goal: with workers killed at any moment no request is lost, no two workers run, waiting ends.

Method: a crowd of real processes around one file, kill -9 after random delays, seeded.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def crowd(directory: Path, rounds: int, seed: int) -> dict[str, int]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.harness.request_crowd",
            str(directory),
            str(rounds),
            str(seed),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def check(total: dict[str, int], seed: int) -> None:
    assert total["killed"] > 0, f"seed {seed} killed nobody: {total}"
    assert total["accepted"] > 0
    wrong = ("lost", "two_workers", "waited_too_long", "failed", "still_owed", "still_alive")
    assert {key: total[key] for key in wrong} == dict.fromkeys(wrong, 0), f"seed {seed}: {total}"


def test_a_killed_worker_loses_no_request(tmp_path: Path) -> None:
    check(crowd(tmp_path / "crowd", rounds=40, seed=11), seed=11)


@pytest.mark.slow
def test_no_request_is_lost_in_a_thousand_rounds(tmp_path: Path) -> None:
    total = crowd(tmp_path / "crowd", rounds=1000, seed=29)

    check(total, seed=29)
    assert total["taken_up"] >= 10, f"too few rounds left work behind to prove anything: {total}"
