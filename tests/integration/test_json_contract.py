"""Scripts rely on these keys and codes: every command once, in the order a person would use them."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.sessions import small_store

from holdfast.cli import commands, main

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
FIRST, SECOND = "host/web1/2026-01-01T06:00:00Z", "host/web1/2026-01-02T06:00:00Z"
EXIT_CODES = {0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 20, 75}


def _keys(value: Any) -> set[str]:  # any JSON object
    assert isinstance(value, dict), value
    return set(value)


@pytest.fixture(scope="module")
def used() -> Iterator[Program]:
    """A store with two snapshots of a small tree, an image and a blob; the second one changed.

    The tests share it in any order, so they read it and leave it as it is.
    """
    with quick_directory() as home:
        program = Program(home)
        source = home / "source"
        (source / "below").mkdir(parents=True)
        (source / "same.txt").write_text("the same in both\n" * 50)
        (source / "below" / "changed.txt").write_text("before\n")
        (source / "removed.txt").write_text("only in the first\n")
        image = home / "disk.raw"
        with image.open("wb") as out:
            out.truncate(12 << 20)
            out.seek(4 << 20)
            out.write(b"data" * 1000)
        small_store(home / "store")
        program.run("init", home / "store", "--name", "local", "--adopt")
        _back_up(program, FIRST)
        (source / "below" / "changed.txt").write_text("afterwards\n")
        (source / "removed.txt").unlink()
        (source / "added.txt").write_text("only in the second\n")
        _back_up(program, SECOND)
        yield program


def _back_up(program: Program, name: str) -> None:
    kind, ident, time_name = name.split("/")
    specs = [f"tree.pxar:{program.home}/source", f"disk.img:{program.home}/disk.raw"]
    specs.append(f"fstab.conf:{program.home}/source/same.txt")
    made = program.json("backup", *specs, "--type", kind, "--id", ident, "--time", time_name)
    assert _keys(made) >= {"snapshot", "archives", "duration_s", "warnings"}
    assert made["snapshot"] == name
    assert [archive["name"] for archive in made["archives"]] == [
        "tree.pxar",
        "disk.img",
        "fstab.conf",
    ]
    wanted = {"name", "size", "chunks", "new_chunks", "new_bytes", "stored_bytes", "reused_bytes"}
    for archive in made["archives"]:
        assert _keys(archive) >= wanted | {"files", "changed_files"}


def test_snapshots_name_archives_as_a_person_does(used: Program) -> None:
    found = used.json("snapshots")

    assert [item["snapshot"] for item in found] == [FIRST, SECOND]
    assert [entry["name"] for entry in found[0]["files"]] == ["tree.pxar", "disk.img", "fstab.conf"]
    assert all(_keys(entry) >= {"name", "size", "crypt_mode"} for entry in found[0]["files"])
    assert found[0]["files"][1]["size"] == 12 << 20
    assert _keys(used.json("show", SECOND)) >= _keys(found[1])


def test_ls_and_cat_look_inside(used: Program) -> None:
    wanted = {"path", "kind", "size", "mtime", "mode", "uid", "gid"}
    entries = used.json("ls", "host/web1", "tree.pxar", "/", "-R")

    assert all(_keys(entry) >= wanted for entry in entries)
    paths = {entry["path"].strip("/") for entry in entries}
    assert paths >= {"added.txt", "below", "below/changed.txt", "same.txt"}
    assert all(TIME.fullmatch(entry["mtime"]) for entry in entries)
    assert used.run("cat", FIRST, "tree.pxar", "below/changed.txt").out == b"before\n"


def test_find_tells_versions_apart(used: Program) -> None:
    found = used.json("find", "changed.txt")

    assert len(found) == 1
    assert found[0]["path"].endswith("below/changed.txt")
    versions = found[0]["versions"]
    assert all(_keys(one) >= {"snapshot", "size", "mtime", "digest"} for one in versions)
    assert [one["size"] for one in sorted(versions, key=lambda one: one["mtime"])] == [7, 11]
    used.run("find", "no such file", code=15)


def test_diff_names_every_kind_of_change(used: Program) -> None:
    found = used.json("diff", FIRST, SECOND, "tree.pxar")

    assert all(_keys(one) >= {"path", "change", "size_a", "size_b"} for one in found)
    changes = {one["path"].strip("/"): one["change"] for one in found}
    assert changes["added.txt"] == "added"
    assert changes["removed.txt"] == "removed"
    assert changes["below/changed.txt"] == "modified"
    assert "same.txt" not in changes


def test_restore_brings_back_and_never_overwrites(used: Program, tmp_path: Path) -> None:
    target = tmp_path / "back"
    words = ("restore", FIRST, target, "--archive", "tree.pxar")

    planned = used.json(*words, "-n")
    assert not target.exists()
    done = used.json(*words)

    assert _keys(done) >= {"files", "bytes", "skipped", "conflicts", "duration_s"}
    assert done["files"] == planned["files"]
    assert (target / "below" / "changed.txt").read_text() == "before\n"
    (target / "below" / "changed.txt").write_text("mine")
    again = used.run("restore", SECOND, target, "--archive", "tree.pxar", "--json", code=None)
    assert again.code in EXIT_CODES - {0, 1}
    assert (target / "below" / "changed.txt").read_text() == "mine"


def test_backup_says_whether_it_was_verified_only_when_it_was() -> None:
    with quick_directory() as home:
        program = Program(home)
        small_store(home / "store")
        program.run("init", home / "store", "--adopt")
        source = home / "disk.raw"
        source.write_bytes(b"data" * 1000)

        assert program.json("backup", f"d.img:{source}")["verified"] is None
        assert program.json("backup", f"d.img:{source}", "--verify")["verified"] is True


def test_an_image_comes_back_bit_for_bit(used: Program, tmp_path: Path) -> None:
    used.run("restore", FIRST, tmp_path / "disk", "--archive", "disk.img")

    assert (tmp_path / "disk").read_bytes() == (used.home / "disk.raw").read_bytes()


def test_export_writes_an_archive_other_programs_read(used: Program, tmp_path: Path) -> None:
    import tarfile

    used.run("export", FIRST, "tree.pxar", "--format", "tar", "-o", tmp_path / "t.tar")

    with tarfile.open(tmp_path / "t.tar") as tar:
        assert {name.strip("./") for name in tar.getnames()} >= {"same.txt", "below/changed.txt"}


def test_verify_prune_gc_and_stats_have_their_keys(used: Program) -> None:
    verified = used.json("verify")
    assert _keys(verified) >= {
        *("snapshots", "corrupt_chunks", "missing_chunks", "bytes_read", "duration_s"),
    }
    assert [one["state"] for one in verified["snapshots"]] == ["ok", "ok"]
    pruned = used.json("prune", "--keep-last", "1", "-n")
    assert all(_keys(one) >= {"snapshot", "keep", "reason", "freed_bytes"} for one in pruned)
    assert {one["snapshot"]: one["keep"] for one in pruned} == {FIRST: False, SECOND: True}
    collected = used.json("gc", "-n")
    assert _keys(collected) >= {
        *("index_files", "referenced_chunks", "referenced_bytes", "stored_bytes"),
        *("removed_chunks", "removed_bytes", "pending_chunks", "pending_bytes"),
        *("bad_chunks", "missing_chunks", "duration_s"),
    }
    assert collected["removed_chunks"] == 0
    stats = used.json("stats")
    assert _keys(stats) >= {
        *("snapshots", "groups", "logical_bytes", "stored_bytes", "chunks", "dedup_factor"),
        *("compression_ratio", "exclusive_bytes", "histogram"),
    }
    assert (stats["snapshots"], stats["groups"]) == (2, 1)
    assert all(_keys(one) >= {"upto", "chunks", "bytes"} for one in stats["histogram"])


def test_affected_names_the_files_of_a_chunk(used: Program) -> None:
    chunks = [path.name for path in (used.home / "store" / ".chunks").glob("????/*")]
    found = [one for digest in sorted(chunks) for one in used.json("affected", digest)]

    assert all(_keys(one) >= {"snapshot", "archive", "paths", "ranges"} for one in found)
    paths = {path.strip("/") for one in found for path in one["paths"]}
    assert paths >= {"same.txt", "below/changed.txt"}
    used.run("affected", "0" * 64, code=None)
    used.run("affected", "nonsense", code=2)


def test_tasks_are_in_the_journal(used: Program) -> None:
    tasks = used.json("task", "list")

    assert {task["kind"] for task in tasks} >= {"backup"}
    wanted = {"upid", "kind", "target", "state", "start", "end", "progress", "message"}
    assert all(_keys(task) >= wanted for task in tasks)
    assert {task["state"] for task in tasks} <= {"ok", "warning", "failed"}


STRANGE: tuple[list[str], ...] = (
    [],
    ["\x1b[2J"],
    ["host/nobody"],
    ["host/web1/2026-13-45T99:99:99Z", "x", "y"],
    ["../../../etc/passwd", "tree.pxar", "/"],
    ["host/web1", "no-such-archive.pxar", "x"],
    ["host/web1", "\udcff.pxar", "\udcff"],
    ["host/web1", "tree.pxar", "../../etc/passwd"],
    ["--store", "/dev/null"],
    ["--store", "/proc"],
    ["--ns", "a/b/c/d/e/f/g/h/i", "host/web1"],
    ["--config", "/dev/null", "host/web1"],
    ["--config", "/", "host/web1"],
    ["--keyfile", "/dev/null", "host/web1", "tree.pxar", "same.txt"],
    ["--no-such-option"],
    ["--", "-x", "-y"],
)
# start services, need a terminal, or make data of their own
LEFT_OUT = {"scheduler", "tui", "demo", "init", "backup"}


@pytest.mark.parametrize(
    "name", [command.name for command in commands.built() if command.name not in LEFT_OUT]
)
def test_strange_words_end_with_a_code_and_one_error(
    used: Program,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process, since a start of the program per case would take minutes."""
    monkeypatch.setattr("holdfast.cli.signals.install", lambda: None)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.chdir(used.home)
    for variable, value in used.environment.items():
        if variable.startswith("HOLDFAST_"):
            monkeypatch.setenv(variable, value)
    for words in STRANGE:
        code = main.main(["--json", "--read-only", name, *words])

        out, err = capfd.readouterr()
        assert code in EXIT_CODES, (words, err)
        assert "\x1b" not in err
        assert "Traceback" not in err
        assert "unexpected:" not in err, (words, err)
        if code not in (0, 3) and not out:
            error = json.loads(err.strip().splitlines()[-1])["error"]
            assert set(error) == {"code", "kind", "message", "hint"}
            assert error["code"] == code
