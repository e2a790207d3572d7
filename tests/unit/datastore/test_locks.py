"""Group, snapshot and manifest locks, in both of Proxmox's generations."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.harness import vectors

from holdfast.datastore.locks import StoreLocks, lock_file_name, proxmox_name
from holdfast.errors import Busy, NotFound
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, Namespace, SnapshotId

RECORDED = vectors.load("datastore", "names")
GROUP = GroupId.parse("vm/100", Namespace(("a",)))
SNAPSHOT = SnapshotId(GROUP, 1_718_000_000)
MANIFEST_FILES = [
    "a/vm-100-2024\\x2d06\\x2d10T06\\x3a13\\x3a20Z-.index.json.lck",
    "ns/a/vm/100/2024-06-10T06:13:20Z/2024-06-10T06:13:20Z.index.json.lck",
]
SNAPSHOT_FILE = "a/vm-100-2024\\x2d06\\x2d10T06\\x3a13\\x3a20Z"


class _QuickClock:
    """Waiting takes no time, but is counted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_s(self) -> float:
        return self.seconds

    def monotonic_s(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "store" / SNAPSHOT.path
    directory.mkdir(parents=True)
    (directory / "index.json.blob").write_bytes(b"1")
    return tmp_path / "store"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run" / "locks" / "name"


@pytest.fixture
def locks(base: Path) -> StoreLocks:
    return StoreLocks(str(base), clock=_QuickClock())


@pytest.fixture
def shared_locks(base: Path, run: Path) -> StoreLocks:
    return StoreLocks(str(base), proxmox_locks=str(run), clock=_QuickClock())


@contextmanager
def _flocked(path: Path, mode: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _is_free(path: Path) -> bool:
    try:
        with _flocked(path, fcntl.LOCK_EX):
            return True
    except BlockingIOError:
        return False


def _is_refused(lock: AbstractContextManager[None]) -> bool:
    try:
        with lock:
            return False
    except Busy:
        return True


@pytest.mark.parametrize("case", RECORDED["lock_files"], ids=lambda case: case["object"][:30])
def test_lock_files_have_the_recorded_names(case: dict[str, Any]) -> None:
    name = lock_file_name(Namespace.parse(case["namespace"]), case["object"])

    assert name == case["lock_path_below_locks/<store>"]


def test_group_lock_is_a_flock_on_its_directory(locks: StoreLocks, base: Path) -> None:
    with locks.group(GROUP):
        assert not _is_free(base / GROUP.path)
        with pytest.raises(Busy), locks.group(GROUP):
            pass
    assert _is_free(base / GROUP.path)
    with _flocked(base / GROUP.path, fcntl.LOCK_SH), pytest.raises(Busy), locks.group(GROUP):
        pass


def test_readers_of_a_snapshot_share_it_and_keep_others_out(locks: StoreLocks) -> None:
    with locks.snapshot(SNAPSHOT, LockMode.SHARED), locks.snapshot(SNAPSHOT, LockMode.SHARED):
        assert _is_refused(locks.snapshot(SNAPSHOT, LockMode.EXCLUSIVE))
    with locks.snapshot(SNAPSHOT, LockMode.EXCLUSIVE):
        assert _is_refused(locks.snapshot(SNAPSHOT, LockMode.SHARED))
    assert not _is_refused(locks.snapshot(SNAPSHOT, LockMode.EXCLUSIVE))


def test_what_is_not_there_cannot_be_locked(locks: StoreLocks) -> None:
    missing = SnapshotId(GROUP, 5)

    with pytest.raises(NotFound), locks.snapshot(missing, LockMode.SHARED):
        pass
    with pytest.raises(NotFound), locks.group(GroupId.parse("vm/101")):
        pass
    with pytest.raises(NotFound), locks.manifest(missing):
        pass


def test_where_proxmox_knows_the_store_its_lock_files_are_held_as_well(
    shared_locks: StoreLocks, base: Path, run: Path
) -> None:
    with shared_locks.group(GROUP), shared_locks.snapshot(SNAPSHOT, LockMode.SHARED):
        assert not _is_free(run / "a" / "vm-100")
        assert not _is_free(run / SNAPSHOT_FILE)
        assert not _is_free(base / SNAPSHOT.path)
        assert (run / "a" / "vm-100").stat().st_mode & 0o777 == 0o660
    for newer in ("a/vm-100", SNAPSHOT_FILE):
        assert _is_free(run / newer)

    with _flocked(run / "a" / "vm-100", fcntl.LOCK_EX):
        assert _is_refused(shared_locks.group(GROUP))
    assert _is_free(base / GROUP.path), "a refused lock gives up what it had taken"


@pytest.mark.parametrize("name", MANIFEST_FILES)
def test_manifest_lock_sees_both_generations(
    shared_locks: StoreLocks, run: Path, name: str
) -> None:
    with shared_locks.manifest(SNAPSHOT):
        assert not _is_free(run / name)
    with _flocked(run / name, fcntl.LOCK_EX), pytest.raises(Busy), shared_locks.manifest(SNAPSHOT):
        pass
    with shared_locks.manifest(SNAPSHOT):
        pass


def test_lock_file_goes_with_the_directory_it_stood_for(
    shared_locks: StoreLocks, base: Path, run: Path
) -> None:
    with shared_locks.snapshot(SNAPSHOT, LockMode.EXCLUSIVE):
        (base / SNAPSHOT.path / "index.json.blob").unlink()
        (base / SNAPSHOT.path).rmdir()
    with shared_locks.group(GROUP):
        pass

    assert not (run / SNAPSHOT_FILE).exists()
    assert (run / "a" / "vm-100").exists()


def test_unwritable_store_gets_no_lock_files(base: Path, run: Path) -> None:
    locks = StoreLocks(str(base), proxmox_locks=str(run), is_writable=False)

    with locks.snapshot(SNAPSHOT, LockMode.SHARED):
        assert not _is_free(base / SNAPSHOT.path)
    assert not run.exists()

    (run / "a").mkdir(parents=True)
    (run / SNAPSHOT_FILE).touch()
    with locks.snapshot(SNAPSHOT, LockMode.SHARED):
        assert not _is_free(run / SNAPSHOT_FILE)


def test_manifest_is_waited_for_and_given_up_after_five_seconds(base: Path) -> None:
    clock = _QuickClock()
    locks = StoreLocks(str(base), clock=clock)

    with locks.manifest(SNAPSHOT), pytest.raises(Busy), locks.manifest(SNAPSHOT):
        pass
    assert 5 <= clock.seconds < 5.1


def test_replaced_manifest_is_locked_anew(base: Path) -> None:
    """The lock on the old file says nothing about the new one, so the waiter starts again."""
    locks = StoreLocks(str(base))
    path = base / SNAPSHOT.path / "index.json.blob"
    entered = threading.Event()

    def wait_for_it() -> None:
        with locks.manifest(SNAPSHOT):
            entered.set()

    thread = threading.Thread(target=wait_for_it)
    with locks.manifest(SNAPSHOT):
        thread.start()
        new = path.parent / "new"
        new.write_bytes(b"2")
        with _flocked(new, fcntl.LOCK_EX):
            new.rename(path)
            assert not entered.wait(0.05)
    thread.join(10)
    assert entered.is_set()


def test_directory_that_is_a_link_is_not_locked(base: Path, locks: StoreLocks) -> None:
    (base / GROUP.path).rename(base / "elsewhere")
    (base / GROUP.path).symlink_to(base / "elsewhere")

    with pytest.raises(Exception, match="symbolic"), locks.group(GROUP):
        pass


def test_name_under_which_proxmox_knows_the_store_is_read_from_its_list(tmp_path: Path) -> None:
    config = tmp_path / "datastore.cfg"
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to("mine")
    config.write_text(
        f"datastore: other\n\tcomment {tmp_path}/mine\n\tpath /somewhere\n\n"
        f"datastore: tank\n\tgc-schedule daily\n\tpath {tmp_path}/link\n"
    )

    assert proxmox_name(f"{tmp_path}/mine", config_path=str(config)) == "tank"
    assert proxmox_name(str(tmp_path), config_path=str(config)) is None
    assert proxmox_name(f"{tmp_path}/mine", config_path=f"{tmp_path}/none.cfg") is None
