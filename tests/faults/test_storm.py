"""Backup, gc, prune and verify at once, each in processes of its own, some of them killed.

What must hold: no collection misses a chunk, no verification fails, and in the end every snapshot
that looks finished reads back as it was written. The seed and the seconds can be set:
HOLDFAST_STORM_SEED, HOLDFAST_STORM_S (default 60).
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.faults.test_kill_rounds import REPOSITORY, WORKER, assert_whole
from tests.harness.places import quick_directory
from tests.harness.sessions import small_store
from tests.harness.small_store import UPID
from tests.harness.upkeep_worker import GROUPS, back_up, finished

from holdfast.datastore.gc import collect_garbage
from holdfast.datastore.snapshot_check import SnapshotFate
from holdfast.datastore.verify import verify

CREW = ("backup", "backup", "gc", "prune", "verify")
KILLS_PER_S = 0.5


def start(base: Path, verb: str, seed: int, until_s: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", WORKER, str(base), verb, str(seed), "-1", str(until_s)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/core"},
        stderr=subprocess.PIPE,
    )


def storm(base: Path, *, seconds: float, seed: int) -> tuple[int, int]:
    """Let the crew work for so long, kill one now and then; how many fell, how many ended well."""
    chance = random.Random(seed)
    until_s = time.time() + seconds
    crew = {number: start(base, verb, seed + number, until_s) for number, verb in enumerate(CREW)}
    killed = ended = 0
    while crew:
        number = chance.choice(sorted(crew))
        worker = crew[number]
        try:
            _out, complaint = worker.communicate(timeout=chance.expovariate(KILLS_PER_S))
        except subprocess.TimeoutExpired:
            if time.time() < until_s - 1:
                worker.kill()
                _out, complaint = worker.communicate()
                killed += 1
                crew[number] = start(base, CREW[number], chance.randrange(1 << 30), until_s)
            continue
        assert worker.returncode in (0, -signal.SIGKILL), (CREW[number], complaint.decode())
        ended += 1
        del crew[number]
    return killed, ended


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_minute_of_everything_at_once_loses_nothing() -> None:
    seed = int(os.environ.get("HOLDFAST_STORM_SEED", "1"))
    seconds = float(os.environ.get("HOLDFAST_STORM_S", "60"))
    with quick_directory() as place:
        base = place / "store"
        store = small_store(base)
        for group in GROUPS:
            back_up(store, group)

        killed, ended = storm(base, seconds=seconds, seed=seed)

        assert ended == len(CREW)
        assert killed > 0 or seconds < 10  # short storms may spare everybody
        assert store.store_lock.oldest_writer() is None
        left = finished(store)
        assert {snapshot.group for snapshot in left} == set(GROUPS)
        assert max(snapshot.time_s for snapshot in left) > 1_000_010
        for snapshot in left:
            assert_whole(store, snapshot)
        assert collect_garbage(store, upid=UPID, cutoff_s=0).missing_chunks == 0
        outcome = verify(store, left, upid=UPID)
        assert {one.fate for one in outcome.snapshots} == {SnapshotFate.OK}
