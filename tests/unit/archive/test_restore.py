import os
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.harness.tree_compare import snapshot_of
from tests.harness.tree_streams import MemoryStream, restore, restore_streams, write_split
from tests.harness.vectors import load

from holdfast.archive.patterns import Match, parse_arguments
from holdfast.archive.restore_rules import Overwrite, RestoreRules
from holdfast.archive.restore_without import Without
from holdfast.errors import DamagedData
from holdfast.host import gate

HOSTILE = {case["name"]: case for case in load("pxar", "malicious")["cases"]}
INVALID = {case["name"]: case for case in load("pxar", "invalid")["cases"]}


def fill(root: Path) -> None:
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a").write_bytes(b"first")
    (root / "sub" / "b").write_bytes(os.urandom(10_000))
    (root / "sub" / "deep" / "c").write_bytes(b"")
    (root / "link").symlink_to("../outside")
    os.link(root / "a", root / "sub" / "a-again")
    os.mkfifo(root / "pipe", 0o640)
    (root / "a").chmod(0o4711)
    os.utime(root / "a", ns=(10**18, 123_456_789_123_456_789))
    os.utime(root / "sub", ns=(10**18, -1))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    fill(root)
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def test_restored_tree_equals_the_original(tree: Path, target: Path) -> None:
    outcome = restore(write_split(str(tree)), str(target))

    assert snapshot_of(target) == snapshot_of(tree)
    assert outcome.warnings == []
    assert (outcome.files, outcome.others) == (4, 2)
    assert (target / "a").stat().st_ino == (target / "sub" / "a-again").stat().st_ino


def test_acls_xattrs_capabilities_and_devices_come_back(tmp_path: Path, target: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "f").write_bytes(b"x")
    os.setxattr(tree / "f", "user.note", b"with\0nul")
    os.setxattr(tree / "f", "trusted.other", b"")
    entries = [(1, 6, -1), (2, 4, 1000), (4, 0, -1), (8, 5, 2000), (16, 5, -1), (32, 4, -1)]
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, uid & 0xFFFFFFFF) for tag, bits, uid in entries
    )
    os.setxattr(tree / "f", "system.posix_acl_access", acl)
    os.setxattr(tree / "d", "system.posix_acl_default", acl)
    (tree / "capable").write_bytes(b"program")
    os.setxattr(
        tree / "capable", "security.capability", bytes.fromhex("0100000200040000" + "00" * 12)
    )
    os.mknod(tree / "null", 0o660 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(tree / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 250))
    for name in (b"\xff\xfe", b"new\nline", b"spa ce", b"x" * 255):
        (Path(os.fsdecode(os.fsencode(tree) + b"/" + name))).write_bytes(name)

    outcome = restore(write_split(str(tree)), str(target))

    assert outcome.warnings == []
    assert snapshot_of(target) == snapshot_of(tree)


def test_what_is_left_out_is_left_out_and_restoring_again_finds_it_so(
    tmp_path: Path, target: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d").chmod(0o2775)
    for name in ("suid", "listed"):
        (tree / name).write_bytes(b"x")
        os.chown(tree / name, 12, 13)
    (tree / "suid").chmod(0o6755)
    os.link(tree / "suid", tree / "suid-again")
    (tree / "link").symlink_to("suid")
    os.chown(tree / "link", 12, 13, follow_symlinks=False)
    os.setxattr(tree / "suid", "user.note", b"x")
    os.setxattr(tree / "listed", "security.capability", bytes.fromhex("01000002" + "00" * 16))
    # owner rw-, group r--, user 1000 rwx, mask rwx: the mode's group bits are the mask
    listed = [(1, 6, -1), (2, 7, 1000), (4, 4, -1), (16, 7, -1), (32, 0, -1)]
    os.setxattr(
        tree / "listed",
        "system.posix_acl_access",
        struct.pack("<I", 2)
        + b"".join(struct.pack("<HHI", tag, bits, uid & 0xFFFFFFFF) for tag, bits, uid in listed),
    )
    os.mknod(tree / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 250))
    archive = write_split(str(tree))
    rules = RestoreRules(without=~Without.NOTHING)

    outcome = restore(archive, str(target), rules)

    assert sorted(os.listdir(target)) == ["d", "link", "listed", "suid", "suid-again"]
    assert outcome.skipped == ["disk"]
    assert outcome.warnings == []
    for name in ("suid", "listed", "link", "d"):
        info = (target / name).lstat()
        assert (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid()), name
        assert os.listxattr(target / name, follow_symlinks=False) == [], name
    assert stat.S_IMODE((target / "suid").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "listed").stat().st_mode) == 0o640
    again = restore(archive, str(target), replace(rules, overwrite=Overwrite.NEVER))
    assert (again.files, again.identical, again.conflicts) == (0, 4, [])


@pytest.mark.parametrize(
    ("without", "mode", "has_capability"),
    [(Without.SETID, 0o755, False), (Without.OWNER, 0o755, True), (Without.XATTRS, 0o4755, False)],
)
def test_each_thing_is_left_out_alone(
    without: Without, mode: int, has_capability: bool, tmp_path: Path, target: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "f").write_bytes(b"x")
    os.chown(tree / "f", 12, 13)
    (tree / "f").chmod(0o4755)
    os.setxattr(tree / "f", "security.capability", bytes.fromhex("01000002" + "00" * 16))

    restore(write_split(str(tree)), str(target), RestoreRules(without=without))

    info = (target / "f").stat()
    assert stat.S_IMODE(info.st_mode) == mode
    assert (info.st_uid == 12) is (without is not Without.OWNER)
    assert ("security.capability" in os.listxattr(target / "f")) is has_capability


def test_zero_blocks_become_holes(tmp_path: Path, target: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    content = b"a" * 5000 + bytes(100_000) + b"b" * 10 + bytes(50_000)
    (tree / "f").write_bytes(content)

    restore(write_split(str(tree)), str(target))

    assert (target / "f").read_bytes() == content
    assert (target / "f").stat().st_blocks * 512 < len(content) // 2


def test_unchanged_files_are_not_written_again(tree: Path, target: Path) -> None:
    archive = write_split(str(tree))
    restore(archive, str(target))
    written: list[object] = []

    def watch(call: str, path: object) -> None:
        if call in ("open", "rename", "unlink", "link", "symlink", "mknod"):
            written.append(path)

    with gate.installed(watch):
        again = restore(archive, str(target), RestoreRules(overwrite=Overwrite.NEVER))

    assert [name for name in written if name != b"a-again"] == [
        b"a",
        b"link",
        b"pipe",
        b"b",
        b"c",
    ]  # attempts to make them, refused since they exist
    assert (again.files, again.others, again.identical) == (0, 0, 6)
    assert again.conflicts == []


@pytest.mark.parametrize("rule", list(Overwrite))
def test_what_differs_is_treated_as_the_rule_says(
    tree: Path, target: Path, rule: Overwrite
) -> None:
    archive = write_split(str(tree))
    (target / "a").write_bytes(b"newer than the backup")
    (target / "sub").mkdir()
    (target / "sub" / "b").write_bytes(b"older")
    os.utime(target / "sub" / "b", ns=(0, 0))

    outcome = restore(archive, str(target), RestoreRules(overwrite=rule))

    newer, older = (target / "a").read_bytes(), (target / "sub" / "b").read_bytes()
    original = (tree / "sub" / "b").read_bytes()
    expected = {
        Overwrite.FRESH: (b"newer than the backup", b"older"),
        Overwrite.NEVER: (b"newer than the backup", b"older"),
        Overwrite.IF_NEWER: (b"newer than the backup", original),
        Overwrite.KEEP_BOTH: (b"newer than the backup", b"older"),
        Overwrite.ALWAYS: (b"first", original),
    }
    assert (newer, older) == expected[rule]
    if rule is Overwrite.KEEP_BOTH:
        assert (target / "a.restored").read_bytes() == b"first"
        assert outcome.conflicts == ["a", "sub/b"]
    if rule is Overwrite.NEVER:
        assert outcome.conflicts == ["a", "sub/b"]
    if rule is Overwrite.IF_NEWER:
        assert outcome.skipped == ["a"]
    assert (target / "sub" / "a-again").read_bytes() == b"first"


def test_overwritten_file_keeps_its_old_content_until_the_new_one_is_complete(
    tree: Path, target: Path
) -> None:
    archive = write_split(str(tree))
    (target / "sub").mkdir()
    (target / "sub" / "b").write_bytes(b"old content")

    def full_disk(call: str, path: object) -> None:
        if call == "write" and path == b"sub/b":
            raise OSError(5, "Input/output error")

    with gate.installed(full_disk):
        outcome = restore(archive, str(target), RestoreRules(overwrite=Overwrite.ALWAYS))

    assert (target / "sub" / "b").read_bytes() == b"old content"
    assert outcome.skipped == ["sub/b"]
    assert sorted(os.listdir(target / "sub")) == ["a-again", "b", "deep"]


def test_interrupted_restore_goes_on_where_it_stopped(tree: Path, target: Path) -> None:
    class PowerLoss(BaseException):
        pass

    archive = write_split(str(tree))
    for stop in range(1, 60):
        calls = 0

        def lose_power(_call: str, _path: object, stop: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls >= stop:  # and every later one: nothing is cleaned up
                raise PowerLoss

        try:
            with gate.installed(lose_power):
                restore(archive, str(target), RestoreRules(overwrite=Overwrite.NEVER))
        except PowerLoss:
            restore(archive, str(target), RestoreRules(overwrite=Overwrite.NEVER))
            assert snapshot_of(target) == snapshot_of(tree)
            for path in sorted(target.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        else:
            assert stop > 10
            return
    pytest.fail("never completed")


def test_only_what_the_patterns_take_in_is_restored(tree: Path, target: Path) -> None:
    patterns = tuple(parse_arguments([b"sub/deep/", b"a-again"], default=Match.INCLUDE))

    restore(write_split(str(tree)), str(target), RestoreRules(patterns=patterns))

    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        "sub",
        "sub/a-again",
        "sub/deep",
        "sub/deep/c",
    ]
    assert (target / "sub" / "a-again").read_bytes() == b"first"  # its first name is left out


def test_dry_run_changes_nothing_and_tells_the_same(tree: Path, target: Path) -> None:
    archive = write_split(str(tree))
    (target / "a").write_bytes(b"other")
    before = snapshot_of(target)

    def refuse(call: str, path: object) -> None:
        raise AssertionError((call, path))

    rules = RestoreRules(overwrite=Overwrite.NEVER, dry_run=True)
    with gate.installed(refuse):
        told = restore(archive, str(target), rules)

    assert snapshot_of(target) == before
    done = restore(archive, str(target), RestoreRules(overwrite=Overwrite.NEVER))
    assert (told.files, told.conflicts, told.others) == (done.files, done.conflicts, done.others)


def test_a_directory_never_goes_through_a_symbolic_link(tree: Path, target: Path) -> None:
    outside = target.parent / "outside"
    outside.mkdir()
    for rule in Overwrite:
        there = target / rule.value
        there.mkdir()
        (there / "sub").symlink_to(outside)

        restore(write_split(str(tree)), str(there), RestoreRules(overwrite=rule))

        assert os.listdir(outside) == []


def test_deep_trees_come_back(tmp_path: Path, target: Path) -> None:
    depth = 200
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _level in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        os.close(os.open("z", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)

    restore(write_split(str(tree)), str(target))

    assert (target / ("d/" * depth) / "z").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_writes_nothing_outside_of_the_target(name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    data = bytes.fromhex(HOSTILE[name]["pxar_hex"])
    for rule in Overwrite:
        target = tmp_path / rule.value
        target.mkdir()
        outside.mkdir(exist_ok=True)
        before = snapshot_of(outside)
        passwd = Path("/etc/passwd").stat()

        try:
            outcome = restore_streams(
                MemoryStream(data), None, str(target), RestoreRules(overwrite=rule)
            )
        except DamagedData:
            pass
        else:
            check_hostile(name, target, outcome)

        assert snapshot_of(outside) == before
        now = Path("/etc/passwd").stat()
        assert (now.st_nlink, now.st_mtime_ns) == (passwd.st_nlink, passwd.st_mtime_ns)


def check_hostile(name: str, target: Path, outcome: Any) -> None:
    if name.startswith("hardlink"):
        assert outcome.skipped or outcome.damaged
    if name == "xattr-namespaces":
        for path in target.rglob("*"):
            assert set(os.listxattr(path)) <= {"user.ok", "trusted.ok", "security.NTACL"}
        assert outcome.warnings
    if name == "symlink-odd-target":
        assert len(outcome.skipped) == 2
    if name == "deep-nesting":
        assert outcome.directories == 300


@pytest.mark.parametrize("name", INVALID)
def test_invalid_archive_is_refused_or_restored_without_its_bad_part(
    name: str, target: Path
) -> None:
    case = INVALID[name]
    payload = None if case["payload_hex"] is None else bytes.fromhex(case["payload_hex"])
    meta = MemoryStream(bytes.fromhex(case["archive_hex"]))

    try:
        outcome = restore_streams(
            meta, None if payload is None else MemoryStream(payload), str(target)
        )
    except DamagedData:
        return
    assert outcome.damaged or outcome.skipped or name == "ref-duplicate"
