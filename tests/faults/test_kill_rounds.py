"""SIGKILL at seeded steps of backup, gc, prune and verify.

What must hold every time: the store opens, no lock is left, every snapshot that looks finished is
whole, only what prune was to remove is gone, and a new backup, collection and verification work.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.sessions import small_store
from tests.harness.small_store import UPID, age
from tests.harness.upkeep_worker import (
    GROUPS,
    KEEP,
    back_up,
    collect,
    contents_of,
    finished,
)

from holdfast.datastore import prune
from holdfast.datastore.reader import StreamReader
from holdfast.datastore.snapshot_check import SnapshotFate
from holdfast.datastore.store import Datastore
from holdfast.datastore.verify import verify
from holdfast.ids import SnapshotId
from holdfast.units import DAY

REPOSITORY = Path(__file__).resolve().parents[2]
WORKER = "tests.harness.upkeep_worker"
VERBS = ("backup", "gc", "prune", "verify")
EFFECTS_MAX = 70


def killed(base: str, verb: str, *, seed: int, effect: int) -> bool:
    """Run one verb in a process of its own; whether SIGKILL ended it."""
    done = subprocess.run(
        [sys.executable, "-m", WORKER, base, verb, str(seed), str(effect), "0"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/core"},
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), (verb, seed, effect, done.stderr.decode())
    return done.returncode != 0


def assert_whole(store: Datastore, snapshot: SnapshotId) -> None:
    for name, data in contents_of(snapshot).items():
        if name.endswith(".blob"):
            assert store.read_blob(snapshot, name) == data
        else:
            assert b"".join(StreamReader.of(store, snapshot, name).pieces()) == data


def prepared(base: Path) -> Datastore:
    """Two groups with a few snapshots, and garbage of a pruned one; all chunks old."""
    store = small_store(base)
    for _number in range(3):
        for group in GROUPS:
            back_up(store, group)
    store.remove_snapshot(store.snapshots(GROUPS[0])[0])
    for path in Path(store.base, ".chunks").glob("*/*"):
        age(path, 2 * DAY)
    return store


def check_after(store: Datastore, before: set[SnapshotId], may_go: set[SnapshotId]) -> None:
    assert store.store_lock.oldest_writer() is None
    left = set(finished(store))
    assert before - left <= may_go
    for snapshot in left:
        assert_whole(store, snapshot)
    back_up(store, GROUPS[0])
    collect(store)
    outcome = verify(store, finished(store), upid=UPID)
    assert {one.fate for one in outcome.snapshots} == {SnapshotFate.OK}
    assert {one for one in left if store.exists(one)} == left


def rounds(template: Path, place: Path, seeds: range) -> Counter[str]:
    """Goal: SIGKILL needs no hand afterwards. Method: kill at seeded effects, look, go on."""
    hits: Counter[str] = Counter()
    for seed in seeds:
        verb = VERBS[seed % len(VERBS)]
        shutil.rmtree(place / "store", ignore_errors=True)
        shutil.copytree(template, place / "store")
        store = small_store(place / "store")
        before = set(finished(store))
        planned = prune.removals(prune.plan(store, GROUPS, KEEP, zone=UTC))
        effect = random.Random(seed).randrange(EFFECTS_MAX if verb in ("backup", "gc") else 12)
        hits[verb] += killed(store.base, verb, seed=seed, effect=effect)
        check_after(store, before, set(planned) if verb == "prune" else set())
    return hits


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with quick_directory() as place:
        yield Path(prepared(place / "store").base)


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as place:
        yield place


def test_killed_at_a_few_points_the_store_needs_no_hand(template: Path, place: Path) -> None:
    assert rounds(template, place, range(8)).total() >= 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_two_hundred_points_the_store_needs_no_hand(template: Path, place: Path) -> None:
    hits = rounds(template, place, range(100, 320))

    assert min(hits[verb] for verb in VERBS) >= 15  # most kills strike, in each of the four
