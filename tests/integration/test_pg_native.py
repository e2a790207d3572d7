"""Incremental backups that the server makes itself (PostgreSQL 17 and later), end to end."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.harness.pg_bases import BALANCE, Rig, contents, empty_place, rig
from tests.harness.postgres import Cluster, give_to_server_user, server_from_npm

from holdfast.archive.open import OpenSnapshot
from holdfast.datastore.store import Access, Datastore
from holdfast.ids import SnapshotId
from holdfast.operations.pg_chain import read_record
from holdfast.operations.pg_native import uploaded_manifest
from holdfast.operations.pg_parent import open_parent
from holdfast.postgres.backup_manifest import manifest_of
from holdfast.postgres.base_backup_stream import stream, upload_manifest
from holdfast.postgres.libpq import ReplicationConnection
from holdfast.postgres.tar_stream import Member

SUMMARIES = {"summarize_wal": "on"}
INDEX_ONLY = "SET enable_seqscan = off; SET enable_bitmapscan = off; "


@pytest.fixture(scope="module", params=[17, 18])
def bench(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A cluster with pgbench tables that writes WAL summaries."""
    with rig(SUMMARIES, programs=server_from_npm(request.param)) as made:
        made.cluster.tool("pgbench", "-iq", "-s", "2", "postgres")
        made.cluster.sql("CREATE EXTENSION amcheck; CREATE EXTENSION pg_visibility")
        yield made


def native(bench: Rig, *words: str, code: int = 0) -> Any:
    taken = bench.backup("--native", "--scratch", bench.cluster.base, *words, code=code)
    assert not list(bench.cluster.base.glob("holdfast-stream-*"))
    return taken


def check_all(server: Cluster) -> None:
    """Heaps, indexes and visibility maps by the server's own extensions."""
    assert (
        server.sql(
            """
            SELECT count(*) FROM pg_class c, LATERAL verify_heapam(c.oid) v
             WHERE c.relkind IN ('r', 't', 'm');
            SELECT count(*) FROM pg_class c, LATERAL pg_check_visible(c.oid) v
             WHERE c.relkind IN ('r', 't', 'm');
            SELECT count(*) FROM (SELECT bt_index_check(c.oid, true) FROM pg_class c
              JOIN pg_am a ON a.oid = c.relam WHERE c.relkind = 'i' AND a.amname = 'btree') q
             WHERE false;
            """
        )
        == "0\n0\n0"
    )


def test_a_chain_taken_under_load_restores_to_a_consistent_cluster(bench: Rig) -> None:
    with bench.load():
        full = native(bench)
        first = native(bench, "--incremental")
        second = native(bench, "--incremental")
        ours = bench.backup("--incremental")
        third = native(bench, "--incremental", "--combine")
    assert (full["kind"], full["decision"]) == ("full", "digest")
    assert {taken["decision"] for taken in (first, second, third)} == {"summary"}
    assert first["parent"] == full["snapshot"].rpartition("/")[2]
    assert third["parent"] == ours["snapshot"].rpartition("/")[2]
    assert 0 < second["counters"]["sent_blocks"] < second["counters"]["blocks"]

    target = empty_place(bench.cluster, "under-load")
    bench.restore(third["combined"], target)
    with bench.recovered(target) as restored:
        assert restored.sql(BALANCE) == "t"
        check_all(restored)


def test_every_kind_of_change_arrives(bench: Rig) -> None:
    cluster = bench.cluster
    place = cluster.base / r"space with \ backslash"
    place.mkdir()
    give_to_server_user(place)
    cluster.sql(f"CREATE TABLESPACE extra LOCATION '{place}'")
    cluster.sql(
        """
        CREATE TABLE dropped AS SELECT generate_series(1, 5000) AS n;
        CREATE TABLE truncated AS SELECT generate_series(1, 5000) AS n;
        CREATE TABLE cut AS SELECT generate_series(1, 20000) AS n;
        CREATE TABLE rewritten AS SELECT generate_series(1, 20000) AS n;
        CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 5000) AS n;
        CREATE TABLE empty_then_full (n int);
        CREATE TABLE elsewhere TABLESPACE extra AS SELECT generate_series(1, 9000) AS n;
        CREATE TABLE seen AS SELECT generate_series(1, 20000) AS n;
        CREATE INDEX ON seen (n);
        """
    )
    cluster.sql("VACUUM ANALYZE seen")
    full = native(bench)
    cluster.sql("VACUUM FULL rewritten")
    cluster.sql(
        """
        DROP TABLE dropped;
        TRUNCATE truncated;
        INSERT INTO truncated SELECT generate_series(1, 10);
        DELETE FROM cut WHERE n > 100;
        INSERT INTO empty_then_full SELECT generate_series(1, 3000);
        UPDATE elsewhere SET n = -n WHERE n % 4000 = 1;
        CREATE TABLE brand_new AS SELECT generate_series(1, 3000) AS n;
        DELETE FROM seen WHERE n % 5000 = 7;
        """
    )
    cluster.sql("VACUUM cut")
    first = native(bench, "--differential")
    cluster.sql("INSERT INTO cut SELECT generate_series(1, 9000); DELETE FROM seen WHERE n = 8")
    second = native(bench, "--relative-to", first["snapshot"], "--combine")
    assert first["counters"]["sent_blocks"] < full["counters"]["blocks"] / 5
    assert second["counters"]["sent_blocks"] < full["counters"]["blocks"] / 5
    expected = contents(cluster)

    oid = cluster.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'extra'")
    target, other = empty_place(cluster, "changes"), empty_place(cluster, "moved space")
    bench.restore(second["snapshot"], target, "--tablespace", f"{oid}={other}")
    label = (target / "backup_label").read_text()
    assert "START WAL LOCATION" in label
    assert "INCREMENTAL" not in label
    assert not list(target.rglob("INCREMENTAL.*"))
    with bench.recovered(target) as restored:
        assert contents(restored) == expected
        assert restored.sql(INDEX_ONLY + "SELECT count(*) FROM seen") == "19995"
        check_all(restored)
    cluster.sql("DROP TABLE elsewhere; DROP TABLESPACE extra")

    scratch = empty_place(cluster, "scratch")
    scratch.mkdir()
    give_to_server_user(scratch)
    words = ("--programs", cluster.programs, "--scratch", scratch)
    proof = bench.program.json("pg", "drill", second["combined"], *words, code=3)
    assert {name for name, said in proof["checks"].items() if said == "ok"} >= {
        *("restore", "recovery", "pg_check_visible")
    }
    bench.program.run("pg", "check", "--cluster", "main")


class Names:
    """Takes the names of what the server sends."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def of(self, _oid: int | None) -> "Names":
        return self

    def begin(self, member: Member) -> None:
        self.names.append(member.path.decode())

    def content(self, piece: memoryview) -> None: ...

    def end(self) -> None: ...


def test_visibility_maps_come_whole_because_the_server_is_not_told_of_them(bench: Rig) -> None:
    cluster = bench.cluster
    cluster.sql("CREATE TABLE mapped AS SELECT generate_series(1, 20000) AS n")
    cluster.sql("VACUUM mapped")
    full = native(bench)
    cluster.sql("DELETE FROM mapped WHERE n = 1")
    path = cluster.sql("SELECT pg_relation_filepath('mapped') || '_vm'")
    partly = path.replace("/16", "/INCREMENTAL.16").replace("/24", "/INCREMENTAL.24")
    assert partly != path
    store = Datastore.open(bench.program.environment["HOLDFAST_STORE"], Access.READ_ONLY)
    with OpenSnapshot(store, SnapshotId.parse(full["snapshot"]), None) as opened:
        record, parent = read_record(opened), open_parent(opened, since_lsn=None)
        lines = list(parent.files.values())
        for manifest, wanted in (
            (manifest_of(record, lines, ()), partly),
            (uploaded_manifest(record, parent), path),
        ):
            sent = Names()
            connection = ReplicationConnection(cluster.dsn)
            upload_manifest(connection, manifest)
            stream(connection, "x", sent.of, fast=True, is_incremental=True, take_manifest=len)
            connection.close()
            assert [name for name in sent.names if name in (path, partly)] == [wanted]


def refusal(bench: Rig, connection: str, *words: str, code: int = 13) -> str:
    """What is said instead of a native backup."""
    base = ("pg", "backup", "--cluster", "main", "--connection", connection, "--native")
    return bench.program.run(*base, *words, code=code).err


def test_a_server_without_the_summaries_is_refused_with_advice(bench: Rig) -> None:
    cluster = bench.cluster
    native(bench)
    cluster.sql("ALTER SYSTEM SET summarize_wal = off; SELECT pg_reload_conf()")
    wait_for(cluster, "SELECT current_setting('summarize_wal') = 'off'")
    assert "set summarize_wal = on" in refusal(bench, cluster.dsn, "--incremental")
    without = native(bench)
    cluster.sql("CREATE TABLE unseen AS SELECT 1 AS n; CHECKPOINT")
    cluster.switch_wal()
    cluster.sql("DROP TABLE unseen; CHECKPOINT")
    cluster.run("sh", "-c", f"rm -f {cluster.data}/pg_wal/summaries/*")
    cluster.sql("ALTER SYSTEM RESET summarize_wal; SELECT pg_reload_conf()")
    wait_for(cluster, "SELECT current_setting('summarize_wal') = 'on'")
    said = refusal(bench, cluster.dsn, "--relative-to", without["snapshot"])
    assert "summaries" in said, said
    assert "take a full backup" in said, said
    assert "--by-lsn" in refusal(bench, cluster.dsn, "--incremental", "--by-lsn", code=2)


def wait_for(cluster: Cluster, condition: str) -> None:
    cluster.sql(
        f"DO $$ BEGIN FOR i IN 1..200 LOOP EXIT WHEN ({condition});"
        " PERFORM pg_sleep(0.05); END LOOP; END $$"
    )
    assert cluster.sql(condition) == "t"


def test_a_parent_from_the_future_of_a_restored_server_is_refused(bench: Rig) -> None:
    early = native(bench)
    bench.cluster.sql("CREATE TABLE later AS SELECT 1 AS n; DROP TABLE later")
    late = native(bench)
    target = empty_place(bench.cluster, "restored")
    bench.restore(early["snapshot"], target)
    with bench.recovered(target) as restored:
        said = refusal(bench, restored.dsn, "--relative-to", late["snapshot"])
    assert "take a full backup" in said, said


def test_an_older_server_sends_itself_whole_but_no_increments() -> None:
    with rig() as old:
        old.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS n")
        full = native(old)
        assert full["kind"] == "full"
        assert "leave --native out" in refusal(old, old.cluster.dsn, "--incremental")
        with Cluster.create() as other:
            other.start()
            assert "another cluster" in refusal(old, other.dsn, "--incremental")
        old.cluster.sql("DELETE FROM t WHERE n = 7")
        taken = old.backup("--incremental")
        target = empty_place(old.cluster, "old")
        old.restore(taken["snapshot"], target)
        with old.recovered(target) as restored:
            assert contents(restored) == contents(old.cluster)
