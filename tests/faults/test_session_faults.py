"""Backups that are hit by disk errors, a full disk or SIGKILL at any moment.

What must hold every time: the failure is loud, no snapshot that looks finished is left unless it is
whole, earlier snapshots keep their bytes, and the next backup works and stores only what is missing.
"""

import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.session_victim import SETTINGS, contents
from tests.harness.sessions import GROUP, add_contents, back_up, small_store

from holdfast.datastore.reader import StreamReader
from holdfast.datastore.session import BackupSession
from holdfast.datastore.store import Datastore
from holdfast.errors import HoldfastError, NoSpace
from holdfast.host import gate
from holdfast.ids import SnapshotId
from holdfast.units import MIB

FIRST, SECOND = contents(0), contents(1)
REPOSITORY = Path(__file__).resolve().parents[2]
EFFECTS_MAX = 400
MUST_FAIL = {"write", "flush", "fsync", "syncfs", "rename", "mkdir", "link", "touch"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one snapshot, to be copied."""
    base = tmp_path_factory.mktemp("template") / "store"
    back_up(small_store(base), FIRST, time_s=1000, settings=SETTINGS)
    return base


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Datastore:
    return fresh_copy(template, tmp_path)


def fresh_copy(template: Path, place: Path) -> Datastore:
    base = place / "store"
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(template, base)
    return small_store(base)


def assert_holds(store: Datastore, time_s: int, expected: dict[str, bytes]) -> None:
    snapshot = SnapshotId(GROUP, time_s)
    for name, data in expected.items():
        if name.endswith(".blob"):
            assert store.read_blob(snapshot, name) == data
        else:
            assert b"".join(StreamReader.of(store, snapshot, name).pieces()) == data
            index, entry = store.open_index(snapshot, name), store.manifest(snapshot).entry(name)
            assert (index.size_bytes, index.checksum()) == (entry.size, entry.csum)


def chunk_names(store: Datastore) -> set[str]:
    return {path.name for path in Path(store.base, ".chunks").glob("*/*")}


class Fault:
    """Fails the effect with number `at`, once; counts all of them."""

    def __init__(self, at: int, error: int | None, *, lasting: bool = False) -> None:
        self.hit: str | None = None
        self._at = at
        self._error = error
        self._lasting = lasting
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, call: str, path: object) -> int | None:
        with self._lock:
            number = next(self._numbers)
        if number < self._at or (number > self._at and not self._lasting):
            return None
        if self._error is None:
            self.hit = self.hit or call
            return 1 if call == "write" else None
        if call in ("unlink", "rmdir") and self._lasting:  # what frees space still works
            return None
        self.hit = self.hit or call
        raise OSError(self._error, os.strerror(self._error), path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("lasting", [False, True])
def test_an_error_at_any_effect_is_loud_and_costs_nothing_that_was_there(
    template: Path, tmp_path: Path, number: int, lasting: bool
) -> None:
    """Goal: the promises of this module. Method: fail the 1st, 2nd ... effect, then try again."""
    for position in range(EFFECTS_MAX):
        store = fresh_copy(template, tmp_path)
        fault = Fault(position, number, lasting=lasting)
        try:
            with gate.installed(fault):
                back_up(store, SECOND, time_s=1001, settings=SETTINGS)
            failed = False
        except HoldfastError:
            failed = True
        if fault.hit is None:
            assert not failed
            return

        assert failed or fault.hit not in MUST_FAIL, f"{fault.hit} number {position} went unnoticed"
        assert_holds(store, 1000, FIRST)
        if not failed:
            assert_holds(store, 1001, SECOND)
            continue
        assert not any(store.is_finished(each) for each in store.snapshots(GROUP)[1:])
        assert not [name for name in chunk_names(store) if ".tmp" in name]
        assert store.store_lock.oldest_writer() is None
        retry_pays_only_for_what_is_missing(store)
    pytest.fail(f"more than {EFFECTS_MAX} effects")


def retry_pays_only_for_what_is_missing(store: Datastore) -> None:
    there = chunk_names(store)
    with BackupSession.start(store, GROUP, 1002, settings=SETTINGS) as session:
        add_contents(session, SECOND)
        stats = session.finish().stats
    assert_holds(store, 1002, SECOND)
    assert stats.new_chunks == len(chunk_names(store) - there)


def test_writes_cut_short_at_any_position_change_nothing(template: Path, tmp_path: Path) -> None:
    """Goal: short writes are no errors. Method: let only one byte through, at each effect."""
    for position in range(EFFECTS_MAX):
        store = fresh_copy(template, tmp_path)
        fault = Fault(position, None)
        with gate.installed(fault):
            back_up(store, SECOND, time_s=1001, settings=SETTINGS)
        if fault.hit is None:
            return
        assert_holds(store, 1001, SECOND)
    pytest.fail(f"more than {EFFECTS_MAX} effects")


# A disk that is really full ------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An own file system of 6 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_named_and_freed_space_is_all_the_retry_needs(small_disk: Path) -> None:
    store = small_store(small_disk / "store")
    back_up(store, FIRST, time_s=1000, settings=SETTINGS)
    large = {"big.pxar.didx": random.Random(7).randbytes(8 * MIB)}

    with pytest.raises(NoSpace):
        back_up(store, large, time_s=1001, settings=SETTINGS)

    assert_holds(store, 1000, FIRST)
    assert [each.time_s for each in store.snapshots(GROUP)] == [1000]
    there = chunk_names(store)
    assert not [name for name in there if ".tmp" in name]
    subprocess.run(["mount", "-o", "remount,size=32m", small_disk], check=True)
    with BackupSession.start(store, GROUP, 1002, settings=SETTINGS) as session:
        add_contents(session, large)
        stats = session.finish().stats
    assert_holds(store, 1002, large)
    assert stats.duplicates > 0
    assert stats.new_chunks == len(chunk_names(store) - there)


# Sudden death --------------------------------------------------------------------------------------


def killed_backup(base: str, *, time_s: int, effect: int, seed: int) -> bool:
    """Whether the backup was killed before it could finish."""
    arguments = [str(number) for number in (time_s, effect, seed)]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.harness.session_victim", base, *arguments],
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/core"},
        capture_output=True,
    )
    assert finished.returncode in (0, -signal.SIGKILL), finished.stderr.decode()
    return finished.returncode != 0


def kill_and_look(store: Datastore, seeds: range) -> None:
    """Goal: SIGKILL needs no hand afterwards. Method: kill at seeded effects, look, go on."""
    whole = {1000: FIRST}
    time_s = 1000
    for seed in seeds:
        time_s += 1
        effect = random.Random(seed).randrange(120)
        killed = killed_backup(store.base, time_s=time_s, effect=effect, seed=seed)
        snapshot = SnapshotId(GROUP, time_s)
        if not killed:
            assert store.is_finished(snapshot)
        if store.exists(snapshot) and store.is_finished(snapshot):
            whole[time_s] = contents(seed)
        assert store.store_lock.oldest_writer() is None
        for finished in {1000, max(whole)}:
            assert_holds(store, finished, whole[finished])
        time_s += 1
        back_up(store, contents(seed), time_s=time_s, settings=SETTINGS)
        whole[time_s] = contents(seed)
        assert_holds(store, time_s, whole[time_s])
    for finished, expected in whole.items():
        assert_holds(store, finished, expected)


def test_backups_killed_at_a_few_points_leave_a_working_store(store: Datastore) -> None:
    kill_and_look(store, range(6))


@pytest.mark.slow
def test_backups_killed_at_two_hundred_points_leave_a_working_store(store: Datastore) -> None:
    kill_and_look(store, range(100, 300))
