"""Several processes at one store: no change is lost, no lock outlives its holder."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.harness.stores import materialise_sample

from holdfast.datastore.store import Access, Datastore
from holdfast.errors import Busy
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, SnapshotId

COUNT = 25
SNAPSHOT = SnapshotId.parse("vm/100/2024-06-10T06:13:20Z")
COMMON = """
import sys
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import Busy, NotFound
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, SnapshotId
store = Datastore.open(sys.argv[1], Access.READ_WRITE)
snapshot = SnapshotId.parse("vm/100/2024-06-10T06:13:20Z")
"""
COUNTER = (
    COMMON
    + """
def change(unprotected):
    unprotected["count"] = unprotected.get("count", 0) + 1
    unprotected["by-" + sys.argv[2]] = unprotected.get("by-" + sys.argv[2], 0) + 1
for _ in range(int(sys.argv[3])):
    store.update_unprotected(snapshot, change)
"""
)
HOLDER = (
    COMMON
    + """
with store.locks.group(snapshot.group), store.locks.manifest(snapshot):
    with store.locks.snapshot(snapshot, LockMode.EXCLUSIVE):
        print("held", flush=True)
        sys.stdin.read()
"""
)
MAKER = (
    COMMON
    + """
import os
group = GroupId.parse("host/contested")
made = 0
while not os.path.exists(store.base + "/.stop"):
    try:
        with store.locked_group(group, "me@pam") as owner:
            assert owner == "me@pam", owner
            assert store.owner(group) == "me@pam"
        made += 1
    except Busy:
        pass
print(made)
"""
)
REMOVER = (
    COMMON
    + """
group = GroupId.parse("host/contested")
removed = 0
while removed < int(sys.argv[2]):
    try:
        store.remove_group(group)
        removed += 1
    except (Busy, NotFound):
        pass
open(store.base + "/.stop", "w").close()
print(removed)
"""
)
Starter = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(materialise_sample(tmp_path / "sample"))


@pytest.fixture
def start(base: str) -> Iterator[Starter]:
    with ExitStack() as stack:

        def started(program: str, *arguments: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-c", program, base, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield started


def test_changes_of_one_manifest_by_many_processes_all_arrive(base: str, start: Starter) -> None:
    processes = [start(COUNTER, str(number), str(COUNT)) for number in range(4)]
    for process in processes:
        _out, errors = process.communicate()
        assert process.returncode == 0, errors

    unprotected = Datastore.open(base, Access.READ_ONLY).manifest(SNAPSHOT).unprotected
    assert unprotected["count"] == 4 * COUNT
    assert [unprotected[f"by-{number}"] for number in range(4)] == [COUNT] * 4
    assert [name for name in os.listdir(f"{base}/{SNAPSHOT.path}") if "tmp" in name] == []


def test_locks_of_a_killed_process_are_free_at_once(base: str, start: Starter) -> None:
    store = Datastore.open(base, Access.READ_WRITE)
    holder = start(HOLDER)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Busy), store.locks.group(SNAPSHOT.group):
        pass
    with pytest.raises(Busy):
        store.remove_snapshot(SNAPSHOT)

    holder.send_signal(signal.SIGKILL)
    holder.wait()

    store.set_snapshot_notes(SNAPSHOT, "free again")
    with store.locks.group(SNAPSHOT.group), store.locks.snapshot(SNAPSHOT, LockMode.EXCLUSIVE):
        pass
    store.remove_snapshot(SNAPSHOT)


def test_group_made_and_removed_at_the_same_time_is_never_half_there(
    base: str, start: Starter
) -> None:
    """Goal: whoever has the group finds it whole. Method: makers and removers without a pause."""
    processes = [start(MAKER), start(MAKER), start(REMOVER, "20")]
    counts = []
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        counts.append(int(out))

    assert min(counts) > 0
    assert counts[2] == 20
    store = Datastore.open(base, Access.READ_ONLY)
    group = GroupId.parse("host/contested")
    if store.exists(group):
        assert store.owner(group) == "me@pam"
