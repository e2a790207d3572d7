"""A real server archives into a store and recovers from it."""

import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.archived_cluster import ArchivedCluster, archived_cluster
from tests.harness.postgres import (
    Cluster,
    as_server_user,
    bin_directory,
    give_to_server_user,
    short_directory,
)

BASE_SCRIPT = """#!/bin/sh
# a full base backup for tests of the archive: the server's own tool, stored as a tree
set -eu
rm -rf {base}/copy
{bin}/pg_basebackup -D {base}/copy -X none -c fast -h {base} -U postgres --no-sync >&2
exec {python} -m holdfast --json backup --id pg-main base.pxar:{base}/copy
"""


@pytest.fixture
def archived() -> Iterator[ArchivedCluster]:
    with archived_cluster() as archived:
        base = archived.cluster.base
        script = base / "take-base"
        text = BASE_SCRIPT.format(base=base, bin=bin_directory(), python=sys.executable)
        script.write_text(text)
        script.chmod(0o755)
        archived.settings(base_command=[str(script)], pause_s_first=0.1, pause_s_max=1)
        yield archived


def recover(archived: ArchivedCluster, snapshot: str, **targets: str) -> Cluster:
    """A server on what `snapshot` and the archive give, started and promoted."""
    place = short_directory()
    data = place / "data"
    archived.program.run("restore", snapshot, data)
    data.chmod(0o700)
    shutil.rmtree(data / "pg_wal", ignore_errors=True)
    (data / "pg_wal" / "archive_status").mkdir(parents=True)
    command = f"{shlex.quote(sys.executable)} -m holdfast wal get --stage {archived.stage} %f %p"
    lines = {
        "archive_mode": "off",
        "restore_command": f"'{command}'",
        "recovery_target_action": "promote",
        **targets,
    }
    with (data / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in lines.items())
    (data / "recovery.signal").touch()
    restored = Cluster.of_restored(data)
    give_to_server_user(place)
    restored.environment = dict(archived.cluster.environment)
    restored.start()
    return restored


def finish_recovery(restored: Cluster) -> None:
    deadline = time.monotonic() + 60
    while restored.sql("SELECT pg_is_in_recovery()") != "f":
        assert time.monotonic() < deadline, restored.log.read_text()
        threading.Event().wait(0.05)


def newest_base(archived: ArchivedCluster) -> str:
    snapshots = archived.program.json("snapshots", "host/pg-main")
    return str(snapshots[-1]["snapshot"])


def drop(restored: Cluster) -> None:
    data = restored.data.parent
    with restored:
        pass
    shutil.rmtree(data, ignore_errors=True)


def test_what_was_archived_is_recovered(archived: ArchivedCluster) -> None:
    cluster = archived.cluster
    cluster.sql("CREATE TABLE t (n int, at timestamptz DEFAULT clock_timestamp())")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")
    base = newest_base(archived)
    for round_ in range(5):
        cluster.sql(f"INSERT INTO t SELECT generate_series({round_ * 1000}, {round_ * 1000 + 999})")
        cluster.switch_wal()
    moment = cluster.sql("SELECT clock_timestamp()")
    cluster.sql("DELETE FROM t")
    archived.archive_everything()
    archived.holdfast("wal", "force-sync")

    to_the_end = recover(archived, base)
    finish_recovery(to_the_end)
    assert to_the_end.sql("SELECT count(*) FROM t") == "0"
    drop(to_the_end)

    before_the_mistake = recover(archived, base, recovery_target_time=f"'{moment}'")
    finish_recovery(before_the_mistake)
    assert before_the_mistake.sql("SELECT count(*), sum(n) FROM t") == "5000|12497500"
    drop(before_the_mistake)
    staged = list(archived.stage.glob("[0-9]*/pg_wal/*.zst"))
    assert staged == [], "everything is in the store"


def test_a_hole_in_the_archive_stops_a_recovery_instead_of_ending_it(
    archived: ArchivedCluster,
) -> None:
    cluster = archived.cluster
    cluster.sql("CREATE TABLE t (n int)")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")
    base = newest_base(archived)
    (archived.stage / "scripts" / "backup").write_text("#!/bin/sh\nexit 1\n")
    (archived.stage / "scripts" / "backup").chmod(0o755)
    for n in range(6):
        cluster.sql(f"INSERT INTO t VALUES ({n})")
        archived.archive_everything()
    names = sorted(path.name[:24] for path in archived.stage.glob("[0-9]*/pg_wal/0*.zst"))
    lost = names[len(names) // 2]
    for path in [*archived.stage.glob(f"[0-9]*/pg_wal/{lost}.zst")]:
        path.unlink()
    for snapshot in archived.program.json("snapshots", "host/pg-main.wal")[1:]:
        archived.program.run("forget", snapshot["snapshot"], "--yes", code=None)

    answer = archived.holdfast("wal", "get", lost, archived.cluster.base / "got", code=None)
    after = archived.holdfast("wal", "get", "0000000100000000000000FF", "got", code=None)

    assert answer.code == 255, answer
    assert "missing although older and newer" in answer.err
    assert after.code == 1
    assert base
    Path(archived.stage / "scripts" / "backup").unlink()


def test_a_crashed_server_hands_in_what_it_had_not_noted(archived: ArchivedCluster) -> None:
    cluster = archived.cluster
    cluster.sql("CREATE TABLE t (n int)")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")
    cluster.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    cluster.switch_wal()
    cluster.kill()

    cluster.start()
    cluster.sql("INSERT INTO t VALUES (0)")
    archived.archive_everything()

    assert cluster.sql("SELECT failed_count FROM pg_stat_archiver") == "0"
    assert len(list(archived.stage.glob("[0-9]*"))) == 1, "no new history"


def test_a_server_that_went_back_in_time_begins_a_new_history(archived: ArchivedCluster) -> None:
    cluster = archived.cluster
    cluster.sql("CREATE TABLE t (n int)")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")
    cluster.stop()
    shutil.copytree(cluster.data, cluster.base / "earlier", symlinks=True)
    cluster.start()
    cluster.sql("INSERT INTO t VALUES (1)")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")
    cluster.stop()
    shutil.rmtree(cluster.data)
    shutil.copytree(cluster.base / "earlier", cluster.data, symlinks=True)
    give_to_server_user(cluster.data)
    cluster.start()
    cluster.sql("INSERT INTO t VALUES (2)")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")

    generations = sorted(path.name for path in archived.stage.glob("[0-9]*"))
    assert len(generations) == 2, archived.log()
    assert "went back" in cluster.log.read_text()
    restored = recover_generation(archived, generations[-1])
    assert restored.sql("SELECT n FROM t") == "2"
    drop(restored)


def recover_generation(archived: ArchivedCluster, generation: str) -> Cluster:
    archived.cluster.sql("INSERT INTO t SELECT 3 WHERE false")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")
    command = f"{sys.executable} -m holdfast wal get --generation {generation} "
    command += f"--stage {archived.stage} %f %p"
    restored = recover(archived, newest_base(archived), restore_command=f"'{command}'")
    finish_recovery(restored)
    return restored


def test_streaming_loses_nothing_when_the_server_dies() -> None:
    with archived_cluster(settings={"archive_command": "'/bin/true'"}) as archived:
        cluster = archived.cluster
        cluster.configure({"archive_command": "'/bin/true'"})
        cluster.sql("SELECT pg_reload_conf()")
        archived.settings(base_command=[], pause_s_first=0.1, pause_s_max=1)
        words = [sys.executable, "-m", "holdfast", "wal", "stream"]
        receiver = subprocess.Popen(
            as_server_user(words), env=cluster.environment, cwd=cluster.base
        )
        try:
            archived.wait_for(
                "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'"
            )
            cluster.sql("CREATE TABLE t (n int)")
            cluster.switch_wal()
            cluster.sql("INSERT INTO t VALUES (1)")
            archived.wait_for_file("[0-9]*/base.json")
            cluster.sql("INSERT INTO t SELECT generate_series(2, 500)")
            archived.wait_for(
                "SELECT flush_lsn >= pg_current_wal_flush_lsn() FROM pg_stat_replication"
            )
            cluster.kill()
        finally:
            receiver.send_signal(signal.SIGINT)
            assert receiver.wait(60) in (130, 1)
        archived.holdfast("wal", "wait", "60")

        assert list(archived.stage.glob("stream/*.partial"))
        place = short_directory()
        archived.holdfast("pg", "restore", "host/pg-main", place / "data", "--action", "promote")
        restored = Cluster.of_restored(place / "data")
        restored.environment = dict(cluster.environment)
        restored.start()
        finish_recovery(restored)
        assert restored.sql("SELECT count(*), sum(n) FROM t") == "500|125250"
        drop(restored)
