"""A real server archives into a store and recovers from it."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.harness.archived_cluster import ArchivedCluster, archived_cluster
from tests.harness.postgres import (
    Cluster,
    as_server_user,
    give_to_server_user,
    short_directory,
)


@pytest.fixture
def archived() -> Iterator[ArchivedCluster]:
    with archived_cluster() as archived:
        archived.settings(pause_s_first=0.1, pause_s_max=1)
        yield archived


def recover(archived: ArchivedCluster, snapshot: str, *options: str, start: bool = True) -> Cluster:
    """A server on what `snapshot` and the archive give, recovering with `options`."""
    data = short_directory() / "data"
    archived.holdfast("pg", "restore", snapshot, data, "--action", "promote", *options)
    restored = Cluster.of_restored(data)
    restored.environment = dict(archived.cluster.environment)
    return restored.start() if start else restored


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

    before_the_mistake = recover(archived, base, "--target-time", moment)
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
    chunks = archived.store / ".chunks"
    chunks.rename(archived.store / "away")
    for n in range(6):
        cluster.sql(f"INSERT INTO t VALUES ({n})")
        archived.archive_everything()
    names = sorted(path.name[:24] for path in archived.stage.glob("[0-9]*/pg_wal/0*.zst"))
    lost = names[len(names) // 2]
    for path in archived.stage.glob(f"[0-9]*/pg_wal/{lost}.zst"):
        path.unlink()
    unknown = archived.holdfast("wal", "get", lost, "got", code=None)
    (archived.store / "away").rename(chunks)

    answer = archived.holdfast("wal", "get", lost, archived.cluster.base / "got", code=None)
    after = archived.holdfast("wal", "get", "0000000100000000000000FF", "got", code=None)

    assert answer.code == 255, answer
    assert "missing although older and newer" in answer.err
    assert after.code == 1
    assert unknown.code == 255, "no store is no reason to say that a file is not there"
    archived.holdfast("wal", "wait", "60")
    assert f"segment {lost} is missing" in archived.holdfast("pg", "check", code=20).text
    restored = recover(archived, base, start=False)
    restored.start(ready=False)
    code, log = restored.wait_for_end(), restored.log.read_text()
    drop(restored)
    assert code != 0, "a recovery that stops with an error, not early"
    assert "exit code 255" in log


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
    (before,) = (path.name for path in archived.stage.glob("[0-9]*"))
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

    (generation,) = (path.name for path in archived.stage.glob("[0-9]*"))
    assert int(generation) > int(before), "the store has all of the first one, so it is gone here"
    assert "went back" in cluster.log.read_text()
    restored = recover_generation(archived, generation)
    assert restored.sql("SELECT n FROM t") == "2"
    drop(restored)


def recover_generation(archived: ArchivedCluster, generation: str) -> Cluster:
    archived.cluster.sql("INSERT INTO t SELECT 3 WHERE false")
    archived.archive_everything()
    archived.holdfast("wal", "wait", "60")
    assert archived.program.json("pg", "list", "--stage", archived.stage)["windows"][-1][
        "generation"
    ] == int(generation)
    restored = recover(archived, newest_base(archived))
    finish_recovery(restored)
    return restored


def test_streaming_loses_nothing_when_the_server_dies() -> None:
    with archived_cluster(settings={"archive_command": "'/bin/true'"}) as archived:
        cluster = archived.cluster
        cluster.configure({"archive_command": "'/bin/true'"})
        cluster.sql("SELECT pg_reload_conf()")
        archived.settings(pause_s_first=0.1, pause_s_max=1)
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
        restored = recover(archived, "host/pg-main")
        finish_recovery(restored)
        assert restored.sql("SELECT count(*), sum(n) FROM t") == "500|125250"
        drop(restored)


def test_a_real_server_killed_at_random_loses_nothing_that_was_archived(
    archived: ArchivedCluster,
) -> None:
    """Goal: what was archived is recovered. Method: kill server, sync and script in any order."""
    dice = random.Random(31)
    cluster = archived.cluster
    script = archived.stage / "scripts" / "backup"
    script.write_text("#!/bin/sh\n[ $(($(date +%N | cut -c1) % 3)) = 0 ] || exit 1\n")
    script.chmod(0o755)
    cluster.sql("CREATE TABLE t (n int)")
    count = 0
    for _step in range(14):
        rows = dice.randrange(1, 400)
        cluster.sql(f"INSERT INTO t SELECT generate_series({count + 1}, {count + rows})")
        count += rows
        match dice.randrange(4):
            case 0:
                cluster.kill()
                cluster.start()
            case 1:
                kill_syncs(archived)
            case 2:
                archived.archive_everything()
            case 3:
                cluster.switch_wal()
    archived.archive_everything()
    script.unlink()
    kill_syncs(archived)
    archived.holdfast("wal", "force-sync")

    assert archived.holdfast("pg", "check", code=None).code in (0, 3), archived.log()
    restored = recover(archived, newest_base(archived))
    finish_recovery(restored)
    assert restored.sql("SELECT count(*), sum(n) FROM t") == f"{count}|{count * (count + 1) // 2}"
    assert restored.sql("SELECT max(n) FROM t") == str(count)
    drop(restored)


def kill_syncs(archived: ArchivedCluster) -> None:
    """Send kill -9 to the background sync of this stage, if one runs."""
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"holdfast.cli.wal_worker" in words and str(archived.stage).encode() in words:
            with suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
