"""ls, cat, find, diff and export as a person runs them."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.small_store import SmallStore
from tests.harness.trees import File, Link, Tree, split_archive, unified_archive

A = "host/web1/2026-01-01T06:00:00Z"
B = "host/web1/2026-01-02T06:00:00Z"
ODD = "evil\x1b[31m\nname\u202e\udcff"
FIRST: Tree = {
    "bin": {"tool": File(b"#!\n" * 9000, mode=0o100755), "zz": Link("bin/tool")},
    "etc": {"app.conf": File(b"one\n"), "gone": File(b"g")},
    "link": "etc/app.conf",
}
SECOND: Tree = {
    "bin": {"tool": File(b"#!\n" * 9000, mode=0o100700), "zz": Link("bin/tool")},
    "etc": {"app.conf": File(b"two!\n", 1_700_000_100)},
    "link": "etc/app.conf",
    ODD: File(b"odd"),
}


@pytest.fixture
def program() -> Iterator[Program]:
    with quick_directory() as home:
        store = SmallStore(home / "store")
        image = [b"\1" * 65536, b"\2" * 5]
        store.snapshot(
            A, {**split_archive("root", FIRST), "d.img.fidx": image, "a.conf.blob": b"x"}
        )
        store.snapshot(B, {**split_archive("root", SECOND), **unified_archive("old", FIRST)})
        yield Program(home, {"HOLDFAST_STORE": str(home / "store")})


def test_ls_lists_the_only_archive_or_the_chosen_one(program: Program) -> None:
    top = program.json("ls", A)
    assert [(one["path"], one["kind"]) for one in top] == [
        ("bin", "dir"),
        ("etc", "dir"),
        ("link", "symlink"),
    ]
    (conf,) = program.json("ls", "host/web1", "root.pxar", "/etc/app.conf")
    assert conf == {
        "path": "etc/app.conf",
        "kind": "file",
        "size": 5,
        "mtime": "2023-11-14T22:15:00Z",
        "mode": 0o644,
        "uid": 1000,
        "gid": 100,
    }
    everything = program.json("ls", A, "root.pxar", "-R")
    assert [one["path"] for one in everything] == [
        *("bin", "bin/tool", "bin/zz", "etc", "etc/app.conf", "etc/gone", "link"),
    ]
    assert everything[2] == {
        **everything[1],
        "path": "bin/zz",
        "kind": "hardlink",
        "target": "bin/tool",
    }


def test_ls_lists_archives_when_there_are_several(program: Program) -> None:
    found = program.json("ls", B)

    assert sorted(one["path"] for one in found) == ["old.pxar", "root.pxar"]
    deep = {one["path"] for one in program.json("ls", B, "-R")}
    assert {"old.pxar/etc/gone", "root.pxar/etc/app.conf"} < deep


def test_names_that_would_act_on_a_terminal_are_escaped(program: Program) -> None:
    result = program.run("ls", B, "root.pxar")

    assert r"evil\x1b[31m\nname\u202e\xff" in result.text
    assert "\x1b" not in result.text
    (odd,) = (one for one in program.json("ls", B, "root.pxar") if "evil" in one["path"])
    assert bytes.fromhex(odd["path_hex"]) == ODD.encode("utf-8", "surrogateescape")


def test_cat_prints_the_bytes_as_they_are(program: Program) -> None:
    assert program.run("cat", A, "root.pxar", "etc/app.conf").out == b"one\n"
    assert program.run("cat", A, "root.pxar", "bin/zz").out == b"#!\n" * 9000
    assert program.run("cat", B, "old.pxar", "etc/gone").out == b"g"
    assert program.run("cat", A, "d.img").out == b"\1" * 65536 + b"\2" * 5
    assert program.run("cat", A, "a.conf").out == b"x"
    assert "symbolic link" in program.run("cat", A, "root.pxar", "link", code=2).err
    assert program.run("cat", A, "root.pxar", "no", "--json", code=10).error["kind"] == "not-found"


def test_find_tells_the_versions_of_a_path(program: Program) -> None:
    (root,) = [
        one for one in program.json("find", "/etc/app.conf") if one["archive"] == "root.pxar"
    ]

    assert root["path"] == "etc/app.conf"
    assert [(v["snapshot"], v["size"]) for v in root["versions"]] == [(A, 4), (B, 5)]
    assert all(len(version["digest"]) == 64 for version in root["versions"])
    tools = program.json("find", "bin/tool", "--group", "host/web1")
    assert [len(one["versions"]) for one in tools if one["archive"] == "root.pxar"] == [1]
    nothing = program.run("find", "no such thing", "--json", code=15)
    assert nothing.document == []
    assert nothing.error["kind"] == "no-match"


def test_diff_tells_what_changed(program: Program) -> None:
    found = program.json("diff", A, B, "root.pxar")

    assert [(one["change"], one["path"], one["size_a"], one["size_b"]) for one in found[:3]] == [
        ("metadata", "bin/tool", 27000, 27000),
        ("metadata", "bin/zz", 0, 0),
        ("modified", "etc/app.conf", 4, 5),
    ]
    assert {one["change"] for one in found[3:]} == {"removed", "added"}
    everything = program.run("diff", A, B).text
    assert "removed   d.img" in everything
    assert "added     old.pxar" in everything
    assert program.json("diff", A, A) == []


def test_exported_tar_is_read_by_the_system_tar(program: Program, tmp_path: Path) -> None:
    tar = program.run("export", A, "root.pxar", "--format", "tar").out
    listed = subprocess.run(["tar", "-tf", "-"], input=tar, capture_output=True, check=True)
    assert listed.stdout.decode().split() == [
        *("./", "bin/", "bin/tool", "bin/zz", "etc/", "etc/app.conf", "etc/gone", "link"),
    ]
    subprocess.run(["tar", "-xf", "-", "-C", str(tmp_path)], input=tar, check=True)
    assert (tmp_path / "link").read_bytes() == b"one\n"
    assert (tmp_path / "bin/zz").stat().st_ino == (tmp_path / "bin/tool").stat().st_ino
    assert (tmp_path / "bin/tool").stat().st_mtime == 1_700_000_000


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_exported_zip_is_read_by_the_system_unzip(program: Program, tmp_path: Path) -> None:
    target = tmp_path / "x.zip"
    told = program.json("export", A, "root.pxar", "--format", "zip", "-o", target)

    assert told == {"output": str(target), "entries": 7, "bytes": target.stat().st_size}
    subprocess.run(["unzip", "-q", str(target), "-d", str(tmp_path)], check=True)
    assert (tmp_path / "link").readlink() == Path("etc/app.conf")
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755


def test_export_writes_only_what_is_complete_and_new(program: Program) -> None:
    target = program.home / "out.tar"
    program.run("export", A, "root.pxar", "etc", "--format", "tar", "-o", target)

    with tarfile.open(target) as tar:
        assert tar.getnames() == ["etc", "etc/app.conf", "etc/gone"]
    program.run("export", A, "root.pxar", "--format", "tar", "-o", target, code=13)
    program.run("export", A, "d.img", "--format", "zip", "-o", program.home / "no", code=2)
    assert not (program.home / "no").exists()
    raw = program.run("export", A, "d.img", "--format", "raw").out
    assert raw == b"\1" * 65536 + b"\2" * 5


def test_what_has_no_place_in_the_format_warns(program: Program) -> None:
    result = program.run("export", B, "root.pxar", "--format", "zip", code=3)

    assert "no UTF-8" in result.err
    assert r"\x1b" in result.err
    assert io.BytesIO(result.out).read(2) == b"PK"


def test_a_reader_that_has_enough_ends_the_listing_quietly(program: Program) -> None:
    shell = " ".join(["exec", *program.command, "ls", A, "-R", "| head -n 1"])
    done = subprocess.run(
        ["sh", "-c", shell], env=program.environment, capture_output=True, check=False, timeout=60
    )

    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1
