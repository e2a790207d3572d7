"""Base backups and restores that are interrupted: nothing half done can be taken for whole."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.pg_bases import contents, wait_until_open
from tests.harness.places import quick_directory
from tests.harness.postgres import Cluster, server_user

from holdfast.datastore.session import SessionSettings
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, HoldfastError, NoSpace, Refused, TemporaryFailure
from holdfast.host import gate
from holdfast.ids import BackupType, GroupId, SnapshotId
from holdfast.operations.pg_backup import PgBackupRequest, back_up_cluster
from holdfast.operations.pg_chain import BaseChain
from holdfast.operations.pg_restore import PgRestoreRequest, restore_cluster
from holdfast.operations.progress import NullProgress
from holdfast.postgres.file_list import Form
from holdfast.postgres.pages import PAGE_BYTES

GROUP = GroupId(BackupType.HOST, "main")


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    with quick_directory() as place:
        yield Datastore.create(f"{place}/store")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.create() as made:
        made.start()
        made.sql("CREATE TABLE t AS SELECT generate_series(1, 30000) AS n")
        yield made


def request(cluster: Cluster, **more: object) -> PgBackupRequest:
    fields = {"cluster": "main", "connection": cluster.dsn, **more}
    return PgBackupRequest(settings=SessionSettings(workers=1), **fields)  # type: ignore[arg-type]


def snapshots(store: Datastore) -> list[object]:
    return [*store.snapshots(GROUP)] if store.exists(GROUP) else []


def test_a_server_that_dies_during_the_backup_leaves_no_snapshot(
    store: Datastore, cluster: Cluster
) -> None:
    before = snapshots(store)

    def kill_once(call: str, name: object) -> None:
        if call == "read" and isinstance(name, bytes) and cluster.server is not None:
            cluster.kill()

    with gate.installed(kill_once), pytest.raises(TemporaryFailure):
        back_up_cluster(store, request(cluster), NullProgress())
    assert snapshots(store) == before
    cluster.start()
    assert cluster.sql("SELECT count(*) FROM t") == "30000"


def test_a_file_that_cannot_be_read_voids_the_backup(store: Datastore, cluster: Cluster) -> None:
    before = snapshots(store)

    def broken_disk(call: str, name: object) -> None:
        if call == "read" and isinstance(name, bytes) and name.startswith(b"base/"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with gate.installed(broken_disk), pytest.raises(HoldfastError, match="base/"):
        back_up_cluster(store, request(cluster), NullProgress())
    assert snapshots(store) == before
    assert cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE query ~ 'backup_start'") == "1"


def test_a_page_caught_half_written_is_read_again_and_a_damaged_one_reported(
    store: Datastore, cluster: Cluster
) -> None:
    cluster.sql("CREATE TABLE torn AS SELECT generate_series(1, 5000) AS n")
    cluster.sql("SELECT count(*) FROM torn; CHECKPOINT")  # the first reader marks rows
    path = cluster.sql("SELECT pg_relation_filepath('torn')").encode()
    file = cluster.data / os.fsdecode(path)
    whole = file.read_bytes()
    half = 3 * PAGE_BYTES + PAGE_BYTES // 2
    reads = 0

    def write_on(call: str, name: object) -> None:
        """As if the server was in the middle of page 3 when it was first read."""
        nonlocal reads
        if call == "read" and name == path:
            reads += 1
            with file.open("r+b") as changed:
                changed.seek(half)
                changed.write(whole[half : half + 8] if reads > 1 else b"not yet.")

    with gate.installed(write_on):
        taken = back_up_cluster(store, request(cluster), NullProgress())
    assert reads == 2
    assert (taken.record.warnings, taken.warnings) == ((), ())
    assert stored(store, taken.summary.snapshot, path) == whole

    reads = -1  # stays half written however often it is read
    with gate.installed(write_on):
        taken = back_up_cluster(store, request(cluster), NullProgress())
    assert [(one["path"], one["block"]) for one in taken.record.warnings] == [(path.decode(), 3)]
    assert f"{path.decode()}: block 3 is damaged" in taken.warnings[0]
    damaged = whole[:half] + b"not yet." + whole[half + 8 :]
    assert stored(store, taken.summary.snapshot, path) == damaged


def stored(store: Datastore, snapshot: SnapshotId, path: bytes) -> bytes:
    """A file as the backup has it."""
    with BaseChain(store, snapshot) as chain:
        line = next(line for line in chain.lines() if line.path == path)
        content = chain.content(line)
        room = bytearray(content.size)
        assert content.read_into(0, memoryview(room)) == line.size
        return bytes(room)


def test_an_interrupted_restore_cannot_be_started_and_can_be_completed(
    store: Datastore, cluster: Cluster
) -> None:
    full = back_up_cluster(store, request(cluster), NullProgress()).summary.snapshot
    cluster.sql("UPDATE t SET n = -n WHERE n % 100 = 0")
    expected = contents(cluster)
    taken = back_up_cluster(store, request(cluster, parent=full), NullProgress()).summary.snapshot
    target = cluster.base / "restored"
    user = server_user()
    plan = PgRestoreRequest(
        snapshot=taken,
        target=str(target),
        owner=(user.pw_uid, user.pw_gid) if os.geteuid() == 0 else None,
    )

    writes = 0

    def full_disk(call: str, _name: object) -> None:
        nonlocal writes
        writes += call == "write"
        if writes > 400:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with gate.installed(full_disk), pytest.raises(NoSpace):
        restore_cluster(store, plan, NullProgress())
    assert not (target / "global" / "pg_control").exists()
    with pytest.raises(Refused, match="not empty"):
        restore_cluster(store, plan, NullProgress())
    again = PgRestoreRequest(snapshot=taken, target=str(target), owner=plan.owner, overwrite=True)
    done = restore_cluster(store, again, NullProgress()).laid_out
    assert 0 < done.written_files < done.files
    with Cluster.of_restored(target) as restored:
        restored.start()
        wait_until_open(restored)
        assert contents(restored) == expected


def test_a_chain_with_a_missing_or_altered_link_is_refused(
    store: Datastore, cluster: Cluster
) -> None:
    full = back_up_cluster(store, request(cluster), NullProgress()).summary.snapshot
    cluster.sql("UPDATE t SET n = -n WHERE n % 1000 = 0")
    taken = back_up_cluster(store, request(cluster, parent=full), NullProgress()).summary.snapshot
    with BaseChain(store, taken) as chain:
        line = next(line for line in chain.lines() if line.form is Form.DELTA and line.sent_blocks)
        content = chain.content(line)
        room = memoryview(bytearray(content.size))
        assert content.read_into(0, room) == line.size
    path = Path(store.path_of(full, "filelist.didx"))
    path.rename(path.with_name("aside"))
    with pytest.raises(HoldfastError), BaseChain(store, taken) as chain:
        chain.content(line)
    path.with_name("aside").rename(path)
    store.remove_snapshot(full)
    with pytest.raises(HoldfastError, match="builds on") as caught:
        BaseChain(store, taken)
    assert not isinstance(caught.value, DamagedData)
    store.remove_snapshot(taken)
