"""Base backups of a real, busy PostgreSQL: taken, restored, recovered and compared by content."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.harness.pg_bases import BALANCE, Rig, contents, empty_place, rig
from tests.harness.postgres import bin_directory, give_to_server_user
from tests.harness.program import Program

from holdfast.datastore.store import Access, Datastore
from holdfast.ids import SnapshotId


@pytest.fixture(scope="module")
def bench() -> Iterator[Rig]:
    """A cluster with pgbench tables and an archive."""
    with rig() as made:
        made.cluster.tool("pgbench", "-iq", "-s", "2", "postgres")
        yield made


def test_backups_taken_under_load_restore_to_a_consistent_cluster(bench: Rig) -> None:
    cluster = bench.cluster
    with bench.load():
        full = bench.backup()
        cluster.sql("CREATE TABLE notes AS SELECT generate_series(1, 1000) AS n")
        first = bench.backup("--incremental")
        second = bench.backup("--incremental")
    assert full["kind"] == "full"
    assert first["parent"] == full["snapshot"].rpartition("/")[2]
    assert second["parent"] == first["snapshot"].rpartition("/")[2]
    assert 0 < second["counters"]["sent_blocks"] < second["counters"]["blocks"]
    assert second["damaged_pages"] == []

    for backup in (full, second):
        target = empty_place(cluster, "under-load")
        bench.restore(backup["snapshot"], target)
        with bench.recovered(target) as restored:
            assert restored.sql(BALANCE) == "t"
            has_notes = restored.sql("SELECT to_regclass('notes') IS NOT NULL") == "t"
            assert has_notes == (backup is not full)
            restored.tool("pg_amcheck", "--heapallindexed", "--install-missing", "-d", "postgres")
        restored.run(bin_directory() / "pg_checksums", "--check", "-D", target)


def test_a_differential_carries_every_kind_of_change(bench: Rig) -> None:
    cluster = bench.cluster
    cluster.sql(
        """
        CREATE TABLE dropped AS SELECT generate_series(1, 5000) AS n;
        CREATE TABLE truncated AS SELECT generate_series(1, 5000) AS n;
        CREATE TABLE shrunk AS SELECT generate_series(1, 20000) AS n;
        CREATE TABLE vacuumed AS SELECT generate_series(1, 20000) AS n;
        CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 5000) AS n;
        CREATE TABLE empty_then_full (n int);
        CREATE TABLE gist_boxes AS SELECT box(point(n, n), point(n + 1, n + 1)) AS b
          FROM generate_series(1, 2000) n;
        """
    )
    full = bench.backup()
    place = cluster.base / r"space with \ backslash"
    place.mkdir()
    give_to_server_user(place)
    cluster.sql(f"CREATE TABLESPACE extra LOCATION '{place}'")
    cluster.sql("VACUUM FULL vacuumed")
    cluster.sql(
        """
        DROP TABLE dropped;
        TRUNCATE truncated;
        INSERT INTO truncated SELECT generate_series(1, 10);
        DELETE FROM shrunk WHERE n > 100;
        INSERT INTO empty_then_full SELECT generate_series(1, 3000);
        CREATE INDEX ON gist_boxes USING gist (b);
        CREATE TABLE elsewhere TABLESPACE extra AS SELECT generate_series(1, 4000) AS n;
        CREATE TABLE brand_new AS SELECT generate_series(1, 3000) AS n;
        UPDATE pgbench_accounts SET filler = 'changed' WHERE aid % 997 = 0;
        """
    )
    cluster.sql("VACUUM shrunk")
    by_digest = bench.backup("--differential")
    by_lsn = bench.backup("--relative-to", full["snapshot"], "--by-lsn")
    assert (by_digest["decision"], by_lsn["decision"]) == ("digest", "lsn")
    assert by_digest["counters"]["sent_blocks"] < by_digest["counters"]["blocks"] / 2
    expected = contents(cluster)

    for backup in (by_digest, by_lsn):
        target, other = empty_place(cluster, "changes"), empty_place(cluster, "moved space")
        oid = cluster.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'extra'")
        refused = bench.program.run("pg", "restore", backup["snapshot"], target, "--json", code=13)
        assert "--tablespace" in refused.error["hint"]
        bench.restore(backup["snapshot"], target, "--tablespace", f"{oid}={other}")
        with bench.recovered(target) as restored:
            assert contents(restored) == expected
            assert restored.sql(f"SELECT pg_tablespace_location({oid})") == str(other)
            assert restored.sql("SELECT count(*) FROM unlogged") == "0"
            restored.tool("pg_amcheck", "--heapallindexed", "--install-missing", "-d", "postgres")
    cluster.sql("DROP TABLE elsewhere; DROP TABLESPACE extra")


def test_a_bit_of_the_visibility_map_that_was_cleared_is_not_forgotten(bench: Rig) -> None:
    cluster = bench.cluster
    cluster.sql(
        "CREATE TABLE seen AS SELECT g AS id, repeat('x', 50) AS t"
        " FROM generate_series(1, 100) g; CREATE INDEX ON seen (id)"
    )
    cluster.sql("VACUUM seen")
    full = bench.backup()
    cluster.sql("DELETE FROM seen WHERE id IN (1, 50, 99)")
    for words in (("--by-lsn",), ()):
        backup = bench.backup("--relative-to", full["snapshot"], *words)
        target = empty_place(cluster, "seen")
        bench.restore(backup["snapshot"], target)
        with bench.recovered(target) as restored:
            counted = restored.sql(
                "SET enable_seqscan = off; SET enable_bitmapscan = off;"
                "SELECT count(*) FROM seen WHERE id > 0"
            )
            assert counted == "97"


def test_recovery_ends_where_it_is_told(bench: Rig) -> None:
    cluster = bench.cluster
    cluster.sql(
        "CREATE TABLE moments (n int, at timestamptz DEFAULT clock_timestamp(), lsn pg_lsn)"
    )
    early = bench.backup()
    marks = []
    for number in (1, 2, 3):
        cluster.sql(f"INSERT INTO moments (n) VALUES ({number})")
        now = cluster.sql("SELECT clock_timestamp() || '|' || pg_current_wal_insert_lsn()")
        marks.append(now.split("|"))
        xid = cluster.sql(
            f"BEGIN; SELECT pg_current_xact_id(); UPDATE moments SET lsn = '0/{number}'"
            f" WHERE n = {number}; COMMIT"
        )
        marks[-1].append(xid)
        cluster.sql(f"SELECT pg_create_restore_point('after {number}')")
    late = bench.backup()
    cluster.switch_wal()
    cluster.sql("INSERT INTO moments (n) VALUES (4)")
    cluster.switch_wal()
    rows = "SELECT coalesce(string_agg(n || ':' || coalesce(lsn::text, '-'), ' ' ORDER BY n), '') FROM moments"
    cases = [
        (("--target-time", marks[1][0]), "1:0/1 2:-"),
        (("--target-lsn", marks[1][1]), "1:0/1 2:-"),
        (("--target-xid", marks[1][2]), "1:0/1 2:0/2"),
        (("--target-name", "after 1"), "1:0/1"),
        (("--immediate",), ""),
        ((), "1:0/1 2:0/2 3:0/3 4:-"),
    ]
    for words, expected in cases:
        target = empty_place(cluster, "moment")
        bench.restore(early["snapshot"], target, *words, *bench.from_archive, "--action", "promote")
        with bench.recovered(target) as restored:
            assert restored.sql(rows) == expected, words
            assert restored.sql("SHOW archive_mode") == "off"
    target = empty_place(cluster, "chosen")
    chosen = bench.restore("host/main", target, "--target-time", marks[1][0], "-n")
    assert chosen["snapshot"] == early["snapshot"]
    assert not target.exists()
    refused = bench.program.run(
        "pg", "restore", late["snapshot"], target, "--target-time", marks[1][0], code=13
    )
    assert "earlier base backup" in refused.err


def test_over_an_existing_cluster_only_what_differs_is_written(bench: Rig) -> None:
    cluster = bench.cluster
    contents(cluster)  # the first reader marks rows, here and not only in the restored cluster
    full = bench.backup()
    target = empty_place(cluster, "again")
    bench.restore(full["snapshot"], target)
    with bench.recovered(target) as restored:
        before = contents(restored)
        running = bench.program.run(
            "pg", "restore", full["snapshot"], target, "--overwrite", code=13
        )
        assert "runs on" in running.err
        restored.sql("UPDATE pgbench_accounts SET abalance = -1 WHERE aid < 200; CREATE TABLE x ()")
    bench.program.run("pg", "restore", full["snapshot"], target, code=13)
    (target / "base" / "stray").write_text("x")
    preview = bench.restore(full["snapshot"], target, "--overwrite", "-n")
    assert (target / "base" / "stray").exists()
    done = bench.restore(full["snapshot"], target, "--overwrite")
    for name in ("written_files", "written_bytes", "files"):
        assert preview[name] == done[name], name
    assert 0 < done["written_bytes"] < done["bytes"] / 4
    assert not (target / "base" / "stray").exists()
    with bench.recovered(target) as restored:
        assert contents(restored) == before


def test_a_damaged_page_is_told_and_the_backup_kept(bench: Rig) -> None:
    cluster = bench.cluster
    cluster.sql("CREATE TABLE broken AS SELECT generate_series(1, 5000) AS n; CHECKPOINT")
    path = cluster.data / cluster.sql("SELECT pg_relation_filepath('broken')")
    with path.open("r+b") as file:
        file.seek(8192 * 3 + 5000)
        byte = file.read(1)
        file.seek(8192 * 3 + 5000)
        file.write(bytes((byte[0] ^ 1,)))
    backup = bench.backup(code=3)
    (bad,) = backup["damaged_pages"]
    assert bad["block"] == 3
    assert str(path).endswith(bad["path"])
    cluster.sql("DROP TABLE broken")


def test_what_cannot_be_backed_up_is_refused(bench: Rig) -> None:
    lost = bench.program.run(
        "pg", "backup", "--cluster", "main", "--connection", "host=/nonexistent", code=75
    )
    assert "no connection to the server" in lost.err
    bench.program.run("pg", "restore", "host/nobody", "/tmp/x", code=10)


def test_a_differential_becomes_a_full_backup_or_a_tar_for_xdelta3(bench: Rig) -> None:
    cluster, program = bench.cluster, bench.program
    cluster.sql("CREATE TABLE combined AS SELECT generate_series(1, 20000) AS n")
    full = bench.backup()
    cluster.sql(
        "UPDATE combined SET n = -n WHERE n % 500 = 0; DELETE FROM combined WHERE n > 19000"
    )
    cluster.sql("VACUUM combined")
    taken = bench.backup("--differential", "--combine")
    expected = contents(cluster)
    place = cluster.base

    target = empty_place(cluster, "whole")
    bench.restore(taken["combined"], target)
    with bench.recovered(target) as restored:
        assert contents(restored) == expected
    refused = program.run("pg", "combine", taken["combined"], code=13)
    assert "a full backup already" in refused.err

    files = empty_place(cluster, "files")
    program.run("pg", "combine", taken["snapshot"], "--to", files)
    program.run("pg", "export", full["snapshot"], "-o", place / "full.tar")
    program.run("pg", "export", taken["snapshot"], "-o", place / "changes.tar")
    by_hand = apply_by_hand(place / "full.tar", place / "changes.tar", place / "by-hand")
    with tarfile.open(place / "changes.tar") as tar:
        lines = tar.extractfile("filelist.jsonl")
        assert lines is not None
        listed = [json.loads(line) for line in lines.read().splitlines()]
    assert sum(line["form"] == "vcdiff" for line in listed) > 100
    for line in listed:
        if line["form"] != "dir":
            data = (by_hand / line["path"]).read_bytes()
            assert data == (files / line["path"]).read_bytes(), line["path"]
            assert sha256(data).hexdigest() == line["sha256"], line["path"]


def apply_by_hand(full: Path, changes: Path, target: Path) -> Path:
    """What an admin without Holdfast does."""
    shutil.rmtree(target, ignore_errors=True)
    old = target.with_name("old-tree")
    for tar, place in ((full, old), (changes, target)):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        subprocess.run(["tar", "-xf", tar, "-C", place], check=True)
    for delta in sorted(target.rglob("*.vcdiff")):
        made = delta.with_suffix("")
        before = old / made.relative_to(target)
        subprocess.run(["xdelta3", "-d", "-s", before, delta, made], check=True)
        delta.unlink()
    return target


def test_a_drill_proves_a_backup_and_writes_it_down(bench: Rig) -> None:
    cluster, program = bench.cluster, bench.program
    cluster.sql("CREATE TABLE drilled AS SELECT generate_series(1, 3000) AS n")
    full = bench.backup()
    cluster.sql("UPDATE drilled SET n = -n WHERE n < 50")
    taken = bench.backup("--incremental")
    cluster.sql("INSERT INTO drilled VALUES (0)")
    cluster.switch_wal()
    scratch = empty_place(cluster, "scratch")
    scratch.mkdir()
    give_to_server_user(scratch)

    proof = program.json(
        "pg", "drill", taken["snapshot"], "--scratch", scratch, *bench.from_archive
    )

    assert proof["result"] == "ok"
    assert proof["recovered_until"] > taken["stop"]["time"]
    assert proof["timeline"] > 1
    assert set(proof["checks"]) == {
        "restore",
        "pg_verifybackup",
        "recovery",
        "pg_amcheck",
        "pg_check_visible",
        "pg_checksums",
    }
    assert set(proof["checks"].values()) == {"ok"}
    assert list(scratch.iterdir()) == []

    refused = program.run("forget", full["snapshot"], code=13)
    assert "builds on" in refused.err
    listed = {
        base["snapshot"]: base["drill"]
        for base in program.json("pg", "list", "--cluster", "main")["bases"]
    }
    assert listed[full["snapshot"]] is None
    assert listed[taken["snapshot"]]["time"] == proof["time"]
    failed = program.run(
        "pg", "drill", taken["snapshot"], "--scratch", scratch, "--target-name", "never", code=20
    )
    assert "recovery" in failed.err
    assert [each["result"] for each in drills_of(program, taken["snapshot"])] == ["ok", "failed"]


def drills_of(program: Program, snapshot: str) -> list[dict[str, str]]:
    store = Datastore.open(program.environment["HOLDFAST_STORE"], Access.READ_ONLY)
    drills = store.manifest(SnapshotId.parse(snapshot)).unprotected["pg_drills"]
    assert isinstance(drills, list)
    return drills


def test_a_streamed_backup_stores_the_same_and_serves_as_parent(bench: Rig) -> None:
    cluster = bench.cluster
    place = cluster.base / "streamed = space"
    place.mkdir()
    give_to_server_user(place)
    cluster.sql(f"CREATE TABLESPACE streamed LOCATION '{place}'")
    cluster.sql("CREATE TABLE far TABLESPACE streamed AS SELECT generate_series(1, 4000) AS n")
    full = bench.backup("--stream", "--scratch", cluster.base)
    cluster.sql("UPDATE far SET n = -n WHERE n < 100")
    taken = bench.backup("--differential")
    assert 0 < taken["counters"]["sent_blocks"] < 500
    streamed = bench.backup("--incremental", "--stream", "--scratch", cluster.base)
    assert streamed["counters"]["sent_blocks"] < 100
    assert not list(cluster.base.glob("holdfast-stream-*"))
    expected = contents(cluster)
    oid = cluster.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'streamed'")
    assert full["wal_required"]["first"] <= full["wal_required"]["last"]
    target, other = empty_place(cluster, "streamed"), empty_place(cluster, "far")
    owner = ("--owner", cluster.data.owner())
    bench.restore(streamed["snapshot"], target, "--tablespace", f"{oid}={other}", *owner)
    with bench.recovered(target) as restored:
        assert contents(restored) == expected
    cluster.sql("DROP TABLE far; DROP TABLESPACE streamed")
