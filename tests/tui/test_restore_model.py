"""Marks, tables of files, search and command lines: the values behind the restore view."""

import random
import shlex
import subprocess

import pytest

from holdfast.archive.patterns import Match, PatternList, parse_arguments
from holdfast.archive.pxar.format import Kind
from holdfast.archive.restore_rules import Overwrite
from holdfast.ids import Namespace, SnapshotId
from holdfast_tui.model.files import FileTable
from holdfast_tui.model.marks import Marked, PathMarks
from holdfast_tui.model.restore_plan import (
    Selection,
    include_words,
    is_system_path,
    literal,
    paths_file,
)
from holdfast_tui.model.search import search
from holdfast_tui.options import Options

HOSTILE = (
    b"*",
    b"a?b",
    b"[x]",
    b"back\\slash",
    b"\\",
    b"!bang",
    b"new\nline",
    b"\xff\xfe",
    b" ",
    b"x/",
)


def table(*names: bytes, prefix: bytes = b"") -> FileTable:
    made = FileTable(prefix)
    for name in names:
        made.add(name, Kind.FILE, len(name), 0o644, 5, -1)
    return made


def test_a_directory_s_mark_holds_for_all_below_until_something_is_taken_out() -> None:
    marks = PathMarks()
    marks.set(b"etc", marked=True)
    marks.set(b"etc/ssl/key", marked=False)

    assert marks.state(b"etc") is Marked.SOME
    assert marks.state(b"etc/ssl") is Marked.SOME
    assert marks.state(b"etc/ssl/key") is Marked.NONE
    assert marks.state(b"etc/ssl/cert") is Marked.ALL
    assert marks.state(b"") is Marked.SOME
    assert marks.decisions == {b"etc": True, b"etc/ssl/key": False}


def test_marking_a_directory_again_forgets_what_was_decided_below() -> None:
    marks = PathMarks()
    marks.set(b"a/b", marked=True)
    marks.toggle(b"a")
    assert marks.decisions == {b"a": True}
    marks.toggle(b"a")
    assert not marks
    assert marks.state(b"") is Marked.NONE


def test_marks_agree_with_a_simple_model() -> None:
    rng = random.Random(11)
    leaves = [f"{a}/{b}/{c}".encode() for a in "xy" for b in "xy" for c in "xy"]
    places = sorted({b"", *leaves, *(p.rpartition(b"/")[0] for p in leaves), b"x", b"y"})
    for _round in range(200):
        marks = PathMarks()
        model = dict.fromkeys(leaves, False)
        for _step in range(rng.randrange(1, 8)):
            place, wanted = rng.choice(places), rng.random() < 0.6
            marks.set(place, marked=wanted)
            for leaf in leaves:
                if leaf == place or leaf.startswith(place + b"/") or not place:
                    model[leaf] = wanted
        assert {leaf: marks.is_marked(leaf) for leaf in leaves} == model


def test_a_table_finds_its_rows_again() -> None:
    files = table(*(f"file-{n}".encode() for n in range(1000)), prefix=b"var/")

    assert files[7].path == b"var/file-7"
    assert files.number_of(b"var/file-999") == 999
    assert files.number_of(b"var/file") is None
    assert files.number_of(b"etc/file-7") is None
    assert [files.name(at) for at in files.matching([b"-99"])][:2] == [b"file-99", b"file-990"]
    assert len(files.matching([b"9"], [b"1"])) == sum(
        "9" in str(n) and "1" not in str(n) for n in range(1000)
    )


def test_search_is_literal_first_and_loose_when_there_are_few_hits() -> None:
    files = table(b"etc/nginx/nginx.conf", b"etc/ssl/web3.key", b"var/log/Key.txt", b"bin/ls")

    found = search(files, "KEY", lambda: True)
    assert [row.path for row in found.rows] == [b"etc/ssl/web3.key", b"var/log/Key.txt"]
    assert (found.literal, found.loose) == (2, 0)
    assert [row.path for row in search(files, "ngcf", lambda: True).rows] == [
        b"etc/nginx/nginx.conf"
    ]
    assert [row.path for row in search(files, "etc key", lambda: True).rows] == [
        b"etc/ssl/web3.key"
    ]
    assert not search(files, "zzz", lambda: True).rows


@pytest.mark.parametrize("name", HOSTILE)
def test_include_patterns_mean_exactly_their_path(name: bytes) -> None:
    path = b"top/" + name.rstrip(b"/")
    patterns = PatternList(parse_arguments([literal(path)], default=Match.INCLUDE))

    assert patterns.match(b"/" + path, is_dir=False) is Match.INCLUDE
    for other in (b"/x/" + path, b"/" + path + b"x", b"/top/a.b", b"/top/x", b"/top/"):
        assert other == b"/" + path or patterns.match(other, is_dir=False) is None


def test_many_or_all_paths_have_their_own_words() -> None:
    assert include_words({b"": True}) == []
    assert include_words({b"": True, b"a": False}) is None
    assert include_words({f"f{n}".encode(): True for n in range(100)}) is None
    assert paths_file({b"b": True, b"a\n": False}) == b"!/a\n\0/b\0"


def test_a_selection_survives_being_kept_as_text() -> None:
    snapshot = SnapshotId.parse("host/web1/2026-01-02T06:00:00Z", Namespace(("prod",)))
    kept = Selection(
        store="main",
        snapshot=snapshot,
        archive="etc.pxar",
        target="/x y",
        decisions={b"\xff": True, b"\xff/a\n": False},
        policy=Overwrite.IF_NEWER,
    )

    assert Selection.from_text(kept.to_text()) == kept
    assert Selection.from_text("{}") is None
    assert "--ns" in kept.words(Overwrite.FRESH)


def test_places_of_the_running_system_are_known() -> None:
    assert is_system_path("/")
    assert is_system_path("/etc")
    assert is_system_path("/usr/lib")
    assert not is_system_path("/srv/restore/web1-0112")
    assert not is_system_path("/mnt")


def test_the_shown_command_line_is_plain_text_that_a_shell_reads_back() -> None:
    options = Options(config="c", state_dir="s", default_config="c", default_state_dir="s")
    name = b"/a b\n\xff\x1b'q"

    shown = options.twin("main", ["restore", name.decode("utf-8", "surrogateescape")])

    assert shown.isprintable()
    assert shown.encode()  # no lone surrogates: it can be copied
    echoed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {shown}"], capture_output=True, check=True
    ).stdout.split(b"\0")
    assert echoed[-2] == name
    assert shlex.split(options.twin("main", ["ls", "x y"]))[-1] == "x y"
