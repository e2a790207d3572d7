"""Files that another process makes come out like files that are made one after the other."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.tree_compare import snapshot_of
from tests.harness.tree_streams import restore, write_split

from holdfast.archive.pxar.format import Kind, Metadata, Stat
from holdfast.archive.pxar.items import Entry
from holdfast.archive.restore_levels import OPEN_LEVELS_MAX, Level
from holdfast.archive.restore_process import FileProcess
from holdfast.archive.restore_rules import Overwrite, RestoreRules
from holdfast.errors import HoldfastError, NoSpace


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as path:
        yield path


def fill(root: Path) -> None:
    """Many small files below directories that nobody may write to and that are old."""
    for number in range(1500):
        directory = root / f"d{number % 40:02}" / f"e{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(b"%d" % number * (number % 300))
    os.link(root / "d00/e0/f0", root / "d39/again")
    for number, path in enumerate(sorted(root.rglob("d*/**/"), reverse=True)):
        os.utime(path, ns=(0, number * 1_000_000_007))
        path.chmod(0o555)


def test_directories_keep_mode_and_time_whoever_finishes_them(place: Path) -> None:
    tree, target = place / "tree", place / "target"
    tree.mkdir()
    target.mkdir()
    fill(tree)

    outcome = restore(write_split(str(tree)), str(target))

    assert snapshot_of(target) == snapshot_of(tree)
    assert outcome.files == 1501
    assert outcome.warnings == []


def test_directories_nested_deeper_than_may_be_open_at_once(place: Path) -> None:
    tree, target = place / "tree", place / "target"
    target.mkdir()
    here = tree
    for _level in range(OPEN_LEVELS_MAX + 40):
        here /= "d"
    here.mkdir(parents=True)
    while here != place:
        (here / "small").write_bytes(b"x" * len(str(here)))
        (here / "other").write_bytes(b"y")
        os.utime(here, ns=(0, len(str(here)) * 10**9))
        here = here.parent

    outcome = restore(write_split(str(tree)), str(target))

    assert snapshot_of(target) == snapshot_of(tree)
    assert outcome.files == 2 * (OPEN_LEVELS_MAX + 41)


def test_names_that_are_taken_are_told_like_those_met_in_order(place: Path) -> None:
    tree, target = place / "tree", place / "target"
    tree.mkdir()
    target.mkdir()
    for number in range(900):
        (tree / f"f{number:03}").write_bytes(b"new")
    for number in range(0, 900, 3):
        (target / f"f{number:03}").write_bytes(b"mine")

    outcome = restore(write_split(str(tree)), str(target), RestoreRules(overwrite=Overwrite.NEVER))

    assert outcome.files == 600
    assert sorted(outcome.conflicts) == [f"f{number:03}" for number in range(0, 900, 3)]
    assert (target / "f003").read_bytes() == b"mine"


def test_a_hard_link_follows_a_first_name_that_was_restored_beside_another(place: Path) -> None:
    tree, target = place / "tree", place / "target"
    tree.mkdir()
    target.mkdir()
    for number in range(600):
        (tree / f"f{number:03}").write_bytes(b"archived")
    os.link(tree / "f500", tree / "g")
    (target / "f500").write_bytes(b"mine")

    restore(write_split(str(tree)), str(target), RestoreRules(overwrite=Overwrite.KEEP_BOTH))

    assert (target / "f500").read_bytes() == b"mine"
    assert (target / "f500.restored").read_bytes() == b"archived"
    assert (target / "g").samefile(target / "f500.restored")


def test_a_process_that_is_killed_ends_the_restore_with_a_sentence(place: Path) -> None:
    plain = Metadata(Stat(stat.S_IFREG | 0o644))
    level = Level(None, Entry(b"", Kind.DIRECTORY, None, 0, 0, -1), b"", is_wanted=True)
    level.opened(os.open(place, os.O_RDONLY | os.O_DIRECTORY))
    process = FileProcess(RestoreRules(), finish=Level.leave, warn=print, elsewhere={})
    os.kill(process.pid, signal.SIGKILL)

    process.put(Entry(b"f", Kind.FILE, plain, 0, 0, -1, 1), level, memoryview(b"x"))
    with pytest.raises(HoldfastError, match="the process that makes files ended early"):
        process.drain()
    process.stop()
    level.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system wants root")
def test_a_full_disk_ends_the_restore_from_either_process(place: Path) -> None:
    tree, target = place / "tree", place / "target"
    tree.mkdir()
    target.mkdir()
    for number in range(900):
        (tree / f"f{number}").write_bytes(os.urandom(3000))
    archive = write_split(str(tree))
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(target)], check=True, timeout=30
    )
    try:
        with pytest.raises(NoSpace, match="no space left while restoring f"):
            restore(archive, str(target))
        whole = [path for path in target.iterdir() if path.stat().st_size]
        assert all(path.read_bytes() == (tree / path.name).read_bytes() for path in whole)
    finally:
        subprocess.run(["umount", str(target)], check=True, timeout=30)


def test_processes_and_descriptors_are_gone_afterwards(place: Path) -> None:
    program = """
import os, sys, threading
from pathlib import Path
from tests.harness.tree_streams import restore, write_split
before = len(os.listdir("/proc/self/fd"))
restore(write_split(sys.argv[1]), sys.argv[2])
assert threading.active_count() == 1, threading.enumerate()
try:
    os.waitpid(-1, os.WNOHANG)
    raise AssertionError("a process is left")
except ChildProcessError:
    pass
assert len(os.listdir("/proc/self/fd")) == before
"""
    tree, target = place / "tree", place / "target"
    tree.mkdir()
    target.mkdir()
    fill(tree)

    done = subprocess.run(
        [sys.executable, "-c", program, str(tree), str(target)],
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
    )

    assert done.returncode == 0, done.stderr.decode()
