"""verify, gc, prune, stats and affected as a person or a cron job runs them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.small_store import SmallStore

from holdfast.datastore import key_files

A, B, C = b"a" * 4096, b"b" * 4096, b"c" * 5000
FIRST, SECOND = "host/web1/2026-01-01T06:00:00Z", "host/web1/2026-03-01T06:00:00Z"
TWO_DAYS_S = 2 * 86_400


@pytest.fixture
def program() -> Iterator[Program]:
    with quick_directory() as home:
        yield Program(home)


@pytest.fixture
def small(program: Program) -> SmallStore:
    """The store of `program`: two snapshots that share a chunk, and an old orphan."""
    small = SmallStore(program.home / "store")
    program.environment["HOLDFAST_STORE"] = str(small.base)
    small.snapshot(FIRST, {"x.raw.didx": [A, B], "x.conf.blob": b"x"})
    small.snapshot(SECOND, {"x.raw.didx": [A, C]})
    return small


def test_verify_says_ok_and_marks(program: Program, small: SmallStore) -> None:
    found = program.json("verify")

    assert [(one["snapshot"], one["state"]) for one in found["snapshots"]] == [
        (SECOND, "ok"),
        (FIRST, "ok"),
    ]
    assert (found["corrupt_chunks"], found["missing_chunks"]) == ([], [])
    assert found["bytes_read"] == sum(path.stat().st_size for path in small.chunk_files())
    states = [one["verify_state"]["state"] for one in program.json("snapshots")]
    assert states == ["ok", "ok"]
    again = program.json("verify", "--ignore-verified")
    assert {one["state"] for one in again["snapshots"]} == {"skipped"}


def test_verify_ends_with_20_and_names_who_is_hit(program: Program, small: SmallStore) -> None:
    shared, own = small.put(A), small.put(B)
    small.flip(shared)
    small.path(own).unlink()

    found = program.json("verify", "host/web1", code=20)

    assert [(one["digest"], one["snapshots"]) for one in found["corrupt_chunks"]] == [
        (shared.hex(), [FIRST, SECOND])
    ]
    assert [(one["digest"], one["snapshots"]) for one in found["missing_chunks"]] == [
        (own.hex(), [FIRST])
    ]
    assert {one["state"] for one in found["snapshots"]} == {"failed"}
    assert "failed" in program.run("verify", FIRST, code=20).text


def test_what_an_interrupted_backup_left_is_a_warning_and_can_be_forgotten(
    program: Program, small: SmallStore
) -> None:
    left = SECOND.replace("03-01", "04-01")
    (small.base / left).mkdir()
    (small.base / left / "x.raw.tmp_didx").write_bytes(b"half")

    found = program.run("verify", "--json", code=3)

    assert [one["state"] for one in found.document["snapshots"]] == ["unfinished", "ok", "ok"]
    assert f"holdfast forget {left}" in found.err
    assert "1 skipped" in program.run("verify", code=3).text
    program.run("forget", left, "--yes")
    program.run("verify")


def test_show_has_earlier_results(program: Program, small: SmallStore) -> None:
    program.run("verify", FIRST)
    small.flip(small.put(A))
    program.run("verify", FIRST, code=20)

    history = program.json("show", FIRST)["verify_history"]
    assert [one["state"] for one in history] == ["ok", "failed"]
    assert history[-1] == program.json("show", FIRST)["verify_state"]
    assert "earlier" in program.run("show", FIRST).text


def test_read_only_verify_marks_nothing(program: Program, small: SmallStore) -> None:
    small.flip(small.put(A))
    before = small.written()

    found = program.json("verify", "--read-only", code=20)

    assert found["marked"] is False
    assert small.written() == before


def test_gc_dry_run_and_gc_agree(program: Program, small: SmallStore) -> None:
    orphan = small.put(b"nobody wants this" * 100)
    small.age_chunks(TWO_DAYS_S)

    told = program.json("gc", "-n")
    assert orphan in small.digests()
    done = program.json("gc")

    keys = ("index_files", "referenced_chunks", "referenced_bytes", "stored_bytes",
            "removed_chunks", "removed_bytes", "pending_chunks", "pending_bytes", "bad_chunks",
            "missing_chunks")  # fmt: skip
    assert {key: told[key] for key in keys} == {key: done[key] for key in keys}
    assert (done["index_files"], done["referenced_chunks"], done["removed_chunks"]) == (2, 3, 1)
    assert orphan not in small.digests()
    assert "0" in program.run("gc").text
    program.json("verify")


def test_gc_cutoff_says_how_old_garbage_must_be(program: Program, small: SmallStore) -> None:
    small.put(b"nobody wants this" * 100)
    small.age_chunks(3600)

    assert program.json("gc")["pending_chunks"] == 1
    assert program.json("gc", "--cutoff", "30m")["removed_chunks"] == 1
    assert program.run("gc", "--cutoff", "soon", code=2).err


def test_gc_stops_at_a_damaged_index(program: Program, small: SmallStore) -> None:
    index = small.base / FIRST / "x.raw.didx"
    index.write_bytes(index.read_bytes()[:-1])
    small.put(b"nobody wants this" * 100)
    small.age_chunks(TWO_DAYS_S)

    failed = program.run("gc", "--json", code=20)

    assert FIRST in failed.error["message"]
    assert len(small.chunk_files()) == 4


def test_gc_is_busy_while_proxmox_writes(program: Program, small: SmallStore) -> None:
    import fcntl

    with open(small.base / ".lock", "r+b") as lock_file:
        fcntl.lockf(lock_file, fcntl.LOCK_SH)
        failed = program.run("gc", "--json", code=11)

    assert failed.error["kind"] == "busy"


def test_prune_previews_asks_and_removes(program: Program, small: SmallStore) -> None:
    freed = small.path(small.put(B)).stat().st_size

    told = program.json("prune", "--keep-last", "1", "-n")
    refused = program.run("prune", "--keep-last", "1", code=2)
    done = program.json("prune", "host/web1", "--keep-last", "1", "--yes")

    assert told == done
    assert [(one["snapshot"], one["keep"], one["freed_bytes"]) for one in done] == [
        (SECOND, True, 0),
        (FIRST, False, freed),
    ]
    assert done[0]["reason"] == "last 1 of 1"
    assert "--yes" in refused.err
    assert [one["snapshot"] for one in program.json("snapshots")] == [SECOND]
    small.age_chunks(TWO_DAYS_S)
    assert program.json("gc")["removed_bytes"] == freed


def test_prune_without_any_rule_is_a_mistake(program: Program, small: SmallStore) -> None:
    assert small.base.exists()
    program.run("prune", "--yes", code=2)


def test_prune_leaves_protected_snapshots(program: Program, small: SmallStore) -> None:
    program.run("protect", FIRST)

    done = program.json("prune", "--keep-last", "1", "--yes")

    assert [one["mark"] for one in done] == ["keep", "protected"]
    assert len(small.digests()) == 3


def test_stats_of_a_store_and_of_one_snapshot(program: Program, small: SmallStore) -> None:
    whole = program.json("stats")
    one = program.json("stats", FIRST)

    stored = sum(path.stat().st_size for path in small.chunk_files())
    assert (whole["snapshots"], whole["groups"], whole["chunks"]) == (2, 1, 3)
    assert whole["logical_bytes"] == 2 * len(A) + len(B) + len(C)
    assert whole["stored_bytes"] == whole["exclusive_bytes"] == stored
    assert one["exclusive_bytes"] == small.path(small.put(B)).stat().st_size
    assert sum(each["chunks"] for each in whole["histogram"]) == 3
    assert "deduplication" in program.run("stats").text


def test_affected_names_snapshots_and_ranges(program: Program, small: SmallStore) -> None:
    digest = small.put(B).hex()

    found = program.json("affected", digest)

    assert [(one["snapshot"], one["archive"], one["ranges"]) for one in found] == [
        (FIRST, "x.raw", [[len(A), len(A) + len(B)]])
    ]
    assert program.json("affected", "0" * 64, code=15) == []
    program.run("affected", "zz", code=2)


def test_a_namespace_limits_what_is_done(program: Program, small: SmallStore) -> None:
    small.snapshot(FIRST, {"x.raw.didx": [A]}, ns="a/b")

    assert len(program.json("verify")["snapshots"]) == 3
    assert len(program.json("verify", "--ns", "a")["snapshots"]) == 1
    assert program.json("stats", "--ns", "a/b")["snapshots"] == 1
    assert len(program.json("prune", "--keep-last", "1", "-n", "--ns", "a")) == 1


def test_long_commands_leave_a_task_in_the_journal(program: Program, small: SmallStore) -> None:
    program.run("verify")
    program.run("gc")

    kinds = {task["kind"] for task in program.json("task", "list")}

    assert {"verify", "garbage_collection"} <= kinds
    status = (small.base / ".gc-status").read_text()
    assert any(
        task["upid"] in status
        for task in program.json("task", "list")
        if task["kind"] == "garbage_collection"
    )


def test_the_clock_of_the_store_may_be_a_day_ahead(program: Program, small: SmallStore) -> None:
    """A store copied from a machine whose clock was wrong keeps its garbage, nothing else."""
    orphan = small.put(b"from tomorrow" * 100)
    ahead = time.time() + 86_400
    os.utime(small.path(orphan), (ahead, ahead))

    done = program.json("gc", "--cutoff", "0")

    assert done["removed_chunks"] == 0
    assert Path(small.path(orphan)).exists()


def test_encrypted_chunks_are_verified_in_full_with_the_key(
    program: Program, small: SmallStore
) -> None:
    program.run("key", "create", "--kdf", "none", "k.json")
    key = key_files.load(str(program.home / "k.json")).unlock(None)
    name = "vm/7/2026-01-01T00:00:00Z"
    small.snapshot(name, {"d.raw.didx": [A, C]}, key=key)
    small.flip(small.put(A, key=key), 12)  # the IV, which the checksum leaves out

    blind = program.json("verify", name)
    keyed = program.json("verify", name, "--keyfile", "k.json", code=20)

    assert blind["checksum_only_chunks"] == 2
    assert keyed["checksum_only_chunks"] == 0
    assert len(keyed["corrupt_chunks"]) == 1
    program.run("verify", name, "--keyfile", "gone.json", code=10)


def test_a_configured_key_that_stays_locked_does_not_stop_verify(
    program: Program, small: SmallStore
) -> None:
    program.run("key", "create", "k.json", env={"HOLDFAST_PASSWORD": "correct horse"})
    del program.environment["HOLDFAST_STORE"]
    (program.home / "config.toml").write_text(
        f'[stores.s]\npath = "{small.base}"\nkeyfile = "{program.home}/k.json"\n'
    )

    done = program.run("verify")

    assert "2 ok" in done.text
    assert "without the configured key" in done.err


@pytest.mark.usefixtures("small")
def test_several_are_verified_and_forgotten_at_once(program: Program) -> None:
    checked = program.json("verify", FIRST, SECOND, FIRST)
    assert sorted(one["snapshot"] for one in checked["snapshots"]) == sorted([FIRST, SECOND])

    program.run("protect", SECOND)
    assert "protected" in program.run("forget", FIRST, SECOND, "--yes", code=13).err
    assert len(program.json("snapshots")) == 2  # all or nothing
    program.run("unprotect", SECOND)
    found = program.json("forget", FIRST, SECOND, "--yes")

    assert found["snapshots"] == [FIRST, SECOND]
    assert program.json("snapshots") == []


@pytest.mark.usefixtures("small")
def test_usage_is_measured_and_remembered(program: Program) -> None:
    program.run("usage", "--cached", code=10)
    program.run("usage", "--read-only")
    program.run("usage", "--cached", code=10)

    found = program.json("usage")

    assert program.json("usage", "--cached") == found
    assert {one["snapshot"] for one in found["snapshots"]} == {FIRST, SECOND}
    assert "one group refers to" in program.run("usage", "--cached").text
