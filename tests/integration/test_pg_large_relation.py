"""A relation of more than one gigabyte, which lies in two files."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from tests.harness.pg_bases import empty_place, rig


@pytest.mark.slow
def test_a_relation_of_two_segments_comes_back_from_a_differential() -> None:
    with rig(archives=False, settings={"max_wal_size": "'4GB'"}) as made:
        cluster = made.cluster
        cluster.sql(
            "CREATE TABLE large (n int, filler text) WITH (fillfactor = 10);"
            "ALTER TABLE large ALTER filler SET STORAGE PLAIN;"
            "INSERT INTO large SELECT g, repeat('x', 700) FROM generate_series(1, 140000) g;"
            "SELECT count(*) FROM large; CHECKPOINT"  # the first reader marks rows as committed
        )
        path = cluster.data / cluster.sql("SELECT pg_relation_filepath('large')")
        assert path.stat().st_size == 1 << 30
        second = path.with_name(path.name + ".1")
        assert second.stat().st_size > 1 << 20
        full = made.backup()
        cluster.sql("UPDATE large SET n = -n WHERE n % 1000 = 0; CHECKPOINT")
        taken = made.backup("--differential")
        assert 140 <= taken["counters"]["sent_blocks"] < 3000
        assert taken["stored_bytes"] < full["counters"]["bytes"] / 50
        digest = "SELECT count(*), sum(n), md5(string_agg(n::text, ' ' ORDER BY n)) FROM large"
        expected = cluster.sql(digest)
        target = empty_place(cluster, "large")
        used = made.program.peak_memory("pg", "restore", taken["snapshot"], target)
        assert used < 300 * 1024, used
        with made.recovered(target) as restored:
            assert restored.sql(digest) == expected
            restored.sql("CHECKPOINT")

        # the same by hand: the older file and the delta of its first segment through xdelta3
        place = Path(cluster.base)
        made.program.run("pg", "export", taken["snapshot"], "-o", place / "changes.tar")
        name = str(path.relative_to(cluster.data))
        subprocess.run(
            ["tar", "-xf", place / "changes.tar", "-C", place, f"{name}.vcdiff", "filelist.jsonl"],
            check=True,
        )
        made.program.run("pg", "combine", full["snapshot"], "--to", empty_place(cluster, "old"))
        old = place / "old" / name
        delta = place / f"{name}.vcdiff"
        subprocess.run(["xdelta3", "-d", "-s", old, delta, place / "by-hand"], check=True)
        lines = map(json.loads, (place / "filelist.jsonl").read_text().splitlines())
        wanted = next(line["sha256"] for line in lines if line["path"] == name)
        with (place / "by-hand").open("rb") as made_by_hand:
            assert hashlib.file_digest(made_by_hand, "sha256").hexdigest() == wanted
