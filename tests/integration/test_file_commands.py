"""backup and restore as a person runs them."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.sessions import small_store
from tests.harness.tree_compare import snapshot_of

from holdfast.datastore.store import Access, Datastore
from holdfast.ids import GroupId


@pytest.fixture
def program() -> Iterator[Program]:
    with quick_directory() as home:
        small_store(home / "store")
        yield Program(home, {"HOLDFAST_STORE": str(home / "store")})


@pytest.fixture
def tree(program: Program) -> Path:
    root = program.home / "tree"
    (root / "sub").mkdir(parents=True)
    for number in range(30):
        (root / "sub" / f"file-{number}").write_text(f"content {number}\n" * number)
    (root / "link").symlink_to("sub")
    return root


def test_backup_and_restore_say_what_they_did(program: Program, tree: Path) -> None:
    taken = program.json("backup", "tree", "--id", "one", "--comment", "first")
    restored = program.json("restore", "host/one", "back")

    assert taken["snapshot"].startswith("host/one/")
    (archive,) = taken["archives"]
    assert archive["name"] == "tree.pxar"
    assert (archive["files"], archive["changed_files"]) == (30, 30)
    assert taken["warnings"] == []
    assert (restored["files"], restored["conflicts"], restored["skipped"]) == (30, [], [])
    assert snapshot_of(program.home / "back") == snapshot_of(tree)


def test_restore_into_a_full_directory_wants_a_rule(program: Program, tree: Path) -> None:
    program.run("backup", "tree", "--id", "one")
    (tree / "sub" / "file-3").write_text("mine")

    refused = program.run("restore", "host/one", "tree", code=13)
    kept = program.json("restore", "host/one", "tree", "--overwrite", "never")

    assert "--overwrite" in refused.err
    assert kept["conflicts"] == ["sub/file-3"]
    assert (tree / "sub" / "file-3").read_text() == "mine"


def test_a_stranger_s_tree_comes_back_without_privileges(program: Program, tree: Path) -> None:
    (tree / "tool").write_text("x")
    (tree / "tool").chmod(0o4755)
    program.run("backup", "tree", "--id", "one")

    program.run("restore", "host/one", "plain")
    program.run("restore", "host/one", "reduced", "--no-setid", "--no-devices", "--no-owner")

    assert (program.home / "plain" / "tool").stat().st_mode & 0o7777 == 0o4755
    assert (program.home / "reduced" / "tool").stat().st_mode & 0o7777 == 0o755


def test_a_dry_run_leaves_everything_as_it_is(program: Program, tree: Path) -> None:
    program.run("backup", "tree", "--id", "one")
    (tree / "sub" / "file-3").write_text("changed")
    before = snapshot_of(program.home / "store")

    would = program.json("backup", "tree", "--id", "one", "-n")
    program.json("restore", "host/one", "back", "-n")

    assert would["archives"][0]["changed_files"] == 1
    assert not (program.home / "back").exists()
    assert snapshot_of(program.home / "store") == before


def test_mistakes_are_told_by_exit_code(program: Program, tree: Path) -> None:
    program.run("backup", str(tree), "--id", "one")

    program.run("backup", "nowhere.pxar:/does/not/exist", code=10)
    program.run("backup", "kernel.pxar:/proc", code=13)
    program.run("backup", "tree", "--chunk-size", "100", code=2)
    program.run("restore", "host/none", "back", code=10)
    program.run("restore", "host/one", "back", "--archive", "none.pxar", code=10)
    program.run("restore", "host/one", "back", "--include", "no-such-name", code=15)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="root without the right to read everything",
)
def test_what_cannot_be_read_is_a_warning_and_exit_code_three(tree: Path, program: Program) -> None:
    (tree / "sub" / "file-7").chmod(0)
    (tree / "closed").mkdir(mode=0)

    run = subprocess.run(
        [
            *("setpriv", "--bounding-set", "-dac_override,-dac_read_search"),
            *(sys.executable, "-m", "holdfast", "backup", str(tree), "--id", "one"),
        ],
        env=program.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 3, run.stderr
    assert "sub/file-7: cannot be read: Permission denied; left out" in run.stderr
    assert "closed: cannot be read: Permission denied; left out" in run.stderr
    restored = program.json("restore", "host/one", "back")
    assert restored["files"] == 29


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the system calls")
def test_second_backup_reads_no_content(program: Program, tree: Path) -> None:
    program.run("backup", "tree", "--id", "one")
    log = program.home / "calls"

    words = [sys.executable, "-m", "holdfast", "backup", str(tree), "--id", "one", "--time"]
    subprocess.run(
        [
            *("strace", "-f", "-y", "-o", str(log)),
            *("-e", "trace=openat,read,readv,pread64,preadv,mmap"),
            *words,
            "2100-01-01T00:00:00Z",
        ],
        env=program.environment,
        cwd=program.home,
        capture_output=True,
        check=True,
    )

    calls = log.read_text(errors="replace").splitlines()
    opened = [line for line in calls if "openat(" in line and "file-" in line]
    reading = re.compile(r"(read|readv|pread64|preadv|mmap)\(.*<" + re.escape(str(tree)))
    read = [line for line in calls if reading.search(line)]
    assert len(opened) >= 30  # described, by the process that walks
    assert read == []


def test_a_list_of_exact_paths_is_restored_as_it_says(program: Program) -> None:
    root = program.home / "odd"
    names = [b"plain", b"st*r", b"[x]", b"new\nline", b"!bang", b"\xff\xfe", b"with blank"]
    for name in names:
        path = os.path.join(os.fsencode(root), b"dir", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(name)
    program.run("backup", "odd", "--id", "odd")
    wanted = [b"/dir/st*r", b"/dir/new\nline", b"dir/\xff\xfe", b"/dir/!bang", b"/nothing"]
    listed = program.home / "list"
    listed.write_bytes(b"\0".join(wanted))

    planned = program.json("restore", "host/odd", "a", "--include-from0", listed, "--dry-run")
    program.run("restore", "host/odd", "a", "--include-from0", listed)
    everything = b"/dir\0!/dir/plain\0"
    program.run("restore", "host/odd", "b", "--include-from0", "-", stdin=everything)

    assert planned["files"] == 4
    some, rest = (set(os.listdir(os.fsencode(program.home / one / "dir"))) for one in "ab")
    assert some == {b"st*r", b"new\nline", b"\xff\xfe", b"!bang"}
    assert rest == set(names) - {b"plain"}


@pytest.mark.usefixtures("tree")
def test_a_list_of_paths_that_names_none_is_refused(program: Program) -> None:
    program.run("backup", "tree", "--id", "one")
    empty = program.home / "empty"
    for content in (b"", b"\0", b"!/sub\0", b"/../etc\0"):
        empty.write_bytes(content)
        program.run("restore", "host/one", "back", "--include-from0", empty, code=2)
    empty.write_bytes(b"/absent\0")
    program.run("restore", "host/one", "back", "--include-from0", empty, code=15)
    program.run("restore", "host/one", "back", "--include-from0", "missing", code=1)


def test_a_dry_run_tells_new_from_replaced(program: Program, tree: Path) -> None:
    program.run("backup", "tree", "--id", "one")
    (tree / "sub" / "file-3").write_text("mine")
    (tree / "sub" / "file-4").unlink()

    planned = program.json("restore", "host/one", "tree", "--overwrite", "always", "--dry-run")
    done = program.json("restore", "host/one", "tree", "--overwrite", "always")

    assert (planned["files"], planned["replaced"]) == (2, 1)
    assert (done["files"], done["replaced"]) == (2, 1)


def test_what_is_left_comes_back_when_the_first_contents_are_lost(program: Program) -> None:
    root = program.home / "big"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_bytes(random.Random(name).randbytes(9 << 20))
    program.run("backup", "big", "--id", "big")
    store = Datastore.open(str(program.home / "store"), Access.READ_ONLY)
    (snapshot,) = store.snapshots(GroupId.parse("host/big"))
    digest = store.open_index(snapshot, "big.ppxar.didx").digest_at(0).hex()
    (program.home / "store" / ".chunks" / digest[:4] / digest).unlink()

    restored = program.run("--json", "restore", "host/big", "back", code=20).document

    assert restored["damaged"] == ["a"]
    assert (program.home / "back" / "c").read_bytes() == (root / "c").read_bytes()
    assert not (program.home / "back" / "a").exists()
