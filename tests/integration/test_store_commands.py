"""init, snapshots, show, protect, comment, forget and doctor as a person runs them."""

import os
import resource
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.sessions import small_store
from tests.harness.written_snapshots import NEWEST, OLDEST, UNFINISHED, fill

SNAPSHOT_KEYS = {
    *("snapshot", "ns", "type", "id", "time", "size", "files", "protected", "verify_state"),
    *("owner", "comment", "unfinished"),
}


@pytest.fixture
def program() -> Iterator[Program]:
    with quick_directory() as home:
        yield Program(home)


@pytest.fixture
def filled(program: Program) -> Program:
    """A program whose only store has three snapshots of host/web1."""
    small_store(program.home / "store")
    program.run("init", program.home / "store", "--adopt")
    fill(program.home / "store")
    return program


def test_init_makes_a_store_and_remembers_it(program: Program) -> None:
    made = program.json("init", "store", "--name", "local", "--keep-daily", "7", "--verify-new")

    assert made["store"] == "local"
    assert made["path"] == str(program.home / "store")
    assert len(os.listdir(program.home / "store" / ".chunks")) == 65_536
    config = tomllib.loads((program.home / "config.toml").read_text())
    assert config == {
        "stores": {"local": {"path": made["path"], "verify-new": True, "keep-daily": 7}}
    }
    assert program.json("snapshots") == []


def test_a_store_that_verifies_new_backups_does(program: Program) -> None:
    program.run("init", "store", "--verify-new")
    (program.home / "source").mkdir()
    (program.home / "source" / "file").write_text("data")

    program.run("backup", program.home / "source")

    (found,) = program.json("snapshots")
    assert found["verify_state"]["state"] == "ok"


def test_init_refuses_a_place_that_is_taken(program: Program) -> None:
    program.run("init", "store")

    assert program.run("init", "store", code=None).code in (2, 13)
    assert program.run("init", "store", "--name", "other", code=2).err.count("\n") <= 2
    (program.home / "full").mkdir()
    (program.home / "full" / "file").write_text("mine")
    program.run("init", "full", code=13)
    assert (program.home / "full" / "file").read_text() == "mine"


def test_a_mistake_in_the_options_leaves_nothing_behind(program: Program) -> None:
    program.run("init", "store", "--keep-last", "0", code=2)
    program.run("init", "store", "--name", "a b", code=2)

    assert not (program.home / "store").exists()
    assert not (program.home / "config.toml").exists()


def test_a_store_that_exists_can_be_adopted(filled: Program) -> None:
    (filled.home / "config.toml").unlink()

    filled.run("init", "store", "--adopt")

    assert len(filled.json("snapshots")) == 3
    filled.run("init", "nowhere", "--adopt", code=10)


def test_snapshots_are_listed_newest_last_in_the_stable_shape(filled: Program) -> None:
    found = filled.json("snapshots")

    assert [item["snapshot"] for item in found] == [OLDEST, UNFINISHED, NEWEST]
    assert all(set(item) >= SNAPSHOT_KEYS for item in found)
    newest = found[-1]
    assert (newest["type"], newest["id"], newest["ns"]) == ("host", "web1", "")
    assert newest["time"] == "2026-03-01T06:00:00Z"
    assert newest["files"][0]["name"] == "etc.pxar"
    assert newest["files"][0]["size"] == newest["size"] - newest["files"][1]["size"]
    assert newest["files"][1]["name"] == "fstab.conf"
    assert newest["verify_state"]["state"] == "failed"
    assert newest["verify_state"]["time"] == "2026-03-02T00:00:00Z"
    assert newest["owner"] == "root@pam"
    assert [item["unfinished"] for item in found] == [False, True, False]
    assert filled.json("list", "host/web1") == found


def test_the_plain_list_says_what_failed(filled: Program) -> None:
    lines = filled.run("snapshots").text.splitlines()

    assert lines[0].split() == ["SNAPSHOT", "SIZE", "VERIFIED", "KEPT", "ARCHIVES", "COMMENT"]
    assert "unfinished" in lines[2]
    assert "FAILED" in lines[3]


@pytest.mark.parametrize("name", [NEWEST, "host/web1", "host/web1/latest", "host/web1/"])
def test_show_knows_the_newest_snapshot_by_its_group(filled: Program, name: str) -> None:
    shown = filled.json("show", name)

    assert shown["snapshot"] == NEWEST
    assert set(shown) >= SNAPSHOT_KEYS
    assert [entry["filename"] for entry in shown["manifest"]] == [
        "etc.pxar.didx",
        "fstab.conf.blob",
    ]
    assert NEWEST in filled.run("show", name).text


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["show", "host/nobody"], 10, "not-found"),
        (["show", "host/web1/2020-01-01T00:00:00Z"], 10, "not-found"),
        (["show", UNFINISHED[:-1]], 2, "usage"),
        (["show", "web1"], 2, "usage"),
        (["show", "../../etc/passwd"], 2, "usage"),
        (["show", "host/../../x"], 2, "usage"),
        (["snapshots", "host/nobody"], 10, "not-found"),
        (["snapshots", "--ns", "no/where"], 10, "not-found"),
        (["snapshots", "--ns", "../x"], 2, "usage"),
        (["snapshots", "--store", "nowhere"], 10, "not-found"),
        (["snapshots", "--store", "/nowhere"], 10, "not-found"),
        (["show"], 2, "usage"),
        (["show", "\udcff/\x1b[2J"], 2, "usage"),
        (["forget", NEWEST], 2, "usage"),
        (["protect", "--read-only", NEWEST], 13, "read-only"),
        (["init", "--read-only", "new"], 13, "read-only"),
        (["completion", "tcsh"], 2, "usage"),
        (["--frobnicate"], 2, "usage"),
        (["frobnicate"], 2, "usage"),
    ],
)
def test_bad_input_gets_one_error_document(
    filled: Program, words: list[str], code: int, kind: str
) -> None:
    result = filled.run(*words, "--json", code=code)

    assert result.out == b""
    assert (result.error["code"], result.error["kind"]) == (code, kind)
    assert "\x1b" not in result.err
    assert len(result.error["message"]) > 5


def test_a_comment_is_written_and_removed(filled: Program) -> None:
    filled.run("comment", "host/web1", "before the upgrade\nsecond line")
    assert filled.json("show", NEWEST)["comment"] == "before the upgrade\nsecond line"
    assert filled.json("show", NEWEST)["verify_state"]["state"] == "failed"

    filled.run("comment", "host/web1", "")
    assert filled.json("show", NEWEST)["comment"] == ""


def test_a_protected_snapshot_is_not_forgotten(filled: Program) -> None:
    filled.run("protect", OLDEST)
    assert filled.json("show", OLDEST)["protected"]
    filled.run("forget", OLDEST, "--yes", code=13)

    filled.run("unprotect", OLDEST)
    filled.run("forget", OLDEST, "--yes")

    assert OLDEST not in [item["snapshot"] for item in filled.json("snapshots")]


def test_forget_previews_exactly_what_it_then_frees(filled: Program) -> None:
    preview = filled.json("forget", NEWEST, "-n")
    assert NEWEST in [item["snapshot"] for item in filled.json("snapshots")]

    done = filled.json("forget", NEWEST, "--yes")

    assert preview == {**done, "dry_run": True}
    assert preview["freed_chunks"] == 1  # the other one is shared with the oldest
    assert [item["snapshot"] for item in filled.json("snapshots")] == [OLDEST, UNFINISHED]


def test_a_damaged_manifest_is_told_and_does_not_hide_the_others(filled: Program) -> None:
    path = filled.home / "store" / NEWEST / "index.json.blob"
    raw = bytearray(path.read_bytes())
    raw[20] ^= 1
    path.write_bytes(raw)

    result = filled.run("snapshots", "--json", code=3)

    assert [bool(item["damage"]) for item in result.document] == [False, False, True]
    filled.run("show", NEWEST, code=20)
    report = filled.json("doctor", code=20)
    assert report["damage_count"] == 1


def test_doctor_names_the_failed_snapshot_and_what_to_do(filled: Program) -> None:
    report = filled.json("doctor", code=20)

    damage = [item for item in report["findings"] if item["level"] == "damage"]
    assert [NEWEST in item["message"] for item in damage] == [True]
    assert "affected" in damage[0]["advice"]


def test_doctor_reports_a_broken_configuration_with_its_line(program: Program) -> None:
    (program.home / "config.toml").write_text('[stores.a]\npath = "/a"\nverfy-new = true\n')

    result = program.run("doctor", "--json", code=1)

    assert any(
        "line 3" in item["message"] and "verify-new" in item["advice"]
        for item in result.document["findings"]
    )
    assert program.run("snapshots", "--json", code=2).error["hint"] == "did you mean 'verify-new'?"


def test_doctor_finds_lost_chunk_directories(program: Program) -> None:
    program.run("init", program.home / "store")
    for name in ("0000", "beef"):
        (program.home / "store" / ".chunks" / name).rmdir()

    findings = program.json("doctor", code=1)["findings"]

    assert any("2 of the 65,536" in item["message"] for item in findings)


def test_a_read_only_run_leaves_every_byte_and_time_alone(filled: Program) -> None:
    def state() -> list[tuple[str, os.stat_result]]:
        found = []
        for directory, _names, names in os.walk(filled.home / "store"):
            if ".chunks" not in directory:
                paths = [directory, *(os.path.join(directory, name) for name in names)]
                found += [(path, os.lstat(path)) for path in paths]
        return found

    before = state()
    for words in (["snapshots"], ["show", NEWEST], ["forget", NEWEST, "-n"], ["doctor"]):
        filled.run("--read-only", *words, code=None)

    assert state() == before
    assert not (filled.home / "state").exists()


def test_output_into_a_closed_pipe_is_no_complaint(filled: Program) -> None:
    process = subprocess.Popen(
        [*filled.command, "completion", "bash"],
        env=filled.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        restore_signals=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert process.wait() == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_signal_ends_a_question_with_its_code(filled: Program) -> None:
    """On a terminal `forget` asks; SIGTERM while it waits for the answer is exit code 143."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*filled.command, "forget", NEWEST],
        env=filled.environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    said = b""
    while b"to go on:" not in said:
        said += os.read(master, 4096)
    process.send_signal(signal.SIGTERM)

    assert process.wait() == 143
    os.close(master)
    assert b"bytes" in said
    assert (filled.home / "store" / NEWEST).exists()


def test_typing_the_id_on_a_terminal_forgets(filled: Program) -> None:
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*filled.command, "forget", NEWEST],
        env=filled.environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    os.write(master, b"web1\n")

    assert process.wait() == 0
    os.close(master)
    assert not (filled.home / "store" / NEWEST).exists()


def test_the_version_answers_at_once(program: Program) -> None:
    """150 ms is the promise: of processor time, since other work on the machine adds to the rest."""
    spans = []
    for _number in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "holdfast", "version"],
            env=program.environment,
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spans.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(spans) < 0.15


def test_the_module_and_its_version_agree(program: Program) -> None:
    import holdfast

    assert program.run("--version").text == f"holdfast {holdfast.__version__}\n"


def test_a_configuration_given_by_option_wins(program: Program, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    program.run("init", "store", "--config", other)

    assert program.run("snapshots", code=2).err.startswith("error: no store is configured")
    assert program.json("snapshots", "--config", other) == []
