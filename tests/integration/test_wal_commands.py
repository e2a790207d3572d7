"""The `wal` commands as a server and a person call them: exit codes above all."""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness import vectors
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.wal_files import segment_bytes

from holdfast.units import MIB

CONTROL = vectors.load("postgres/control", "pg_control")[0]
SIZE = 16 * MIB
IDENTIFIER = int(CONTROL["system_identifier"])
FIRST = "000000010000000000000001"
TAKE_BASE = """#!/bin/sh
echo "$@" >>{home}/bases
[ -e {home}/no-bases ] && exit 1
exec {python} -m holdfast --json backup --id {name} note.conf:{home}/config.toml
"""


@dataclass(slots=True)
class Shop:
    """A data directory, its stage, and the program."""

    program: Program
    stage: Path
    name: str

    def segment(self, number: int = 1, *, seed: int = 0) -> Path:
        name = f"0000000100000000000000{number:02X}"
        path = self.program.home / "main" / "pg_wal" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(segment_bytes(number, seed=seed, cluster=IDENTIFIER, size=SIZE))
        return path

    def idle(self) -> None:
        self.program.run("wal", "wait", "60", "--stage", self.stage)


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """One for all tests: each has 65,536 directories."""
    with quick_directory() as place:
        Program(place / "home").run("init", place / "store")
        yield place / "store"


@pytest.fixture
def shop(store: Path) -> Iterator[Shop]:
    with quick_directory() as home:
        program = Program(home)
        name = home.name[-8:].strip("_-")  # a cluster of its own in the shared store
        control = home / "main" / "global" / "pg_control"
        control.parent.mkdir(parents=True)
        control.write_bytes(bytes.fromhex(CONTROL["used_hex"]).ljust(CONTROL["file_size"], b"\0"))
        (home / "config.toml").write_text(f'[stores.main]\npath = "{store}"\n')
        stage = home / "stage"
        document = program.json("wal", "init", name, "--data", home / "main", "--stage", stage)
        assert document["archive_command"] == f"holdfast wal push --stage {stage} %p"
        base = home / "take-base"
        base.write_text(TAKE_BASE.format(home=home, python=program.command[0], name=name))
        base.chmod(0o755)
        settings = json.loads((stage / "archive.json").read_text())
        settings.update(base_command=[str(base)], pause_s_first=0.05, pause_s_max=0.2)
        (stage / "archive.json").write_text(json.dumps(settings))
        program.environment["HOLDFAST_WAL_STAGE"] = str(stage)
        made = Shop(program, stage, name)
        yield made
        (home / "no-bases").unlink(missing_ok=True)
        program.run("wal", "wait", "60", code=None)


def test_push_sync_and_get_work_together(shop: Shop) -> None:
    run = shop.program.run
    path = shop.segment(1)

    run("wal", "push", path)
    run("wal", "push", path)
    shop.idle()
    run("wal", "get", FIRST, "got")

    assert (shop.program.home / "got").read_bytes() == path.read_bytes()
    assert stat.S_IMODE(os.stat(shop.program.home / "got").st_mode) == 0o600
    groups = {one["snapshot"].rpartition("/")[0] for one in shop.program.json("snapshots")}
    assert {f"host/{shop.name}", f"host/{shop.name}.wal"} <= groups
    kinds = [task["kind"] for task in shop.program.json("task", "list")]
    assert "walsync" in kinds
    assert (shop.program.home / "bases").read_text().count("\n") == 1


def test_push_ends_with_0_or_1_and_one_line(shop: Shop) -> None:
    run = shop.program.run
    foreign = shop.segment(2)
    foreign.write_bytes(segment_bytes(2, cluster=5, size=SIZE))
    for words in (
        ("wal", "push", shop.program.home / "not-there" / FIRST),
        ("wal", "push", foreign),
        ("wal", "push", shop.program.home / "main" / "pg_wal" / "no-name"),
        ("wal", "push", "--stage", shop.program.home, shop.segment(1)),
        ("wal", "push"),
        ("wal", "push", "--no-such-option", "x"),
        ("--config", "/dev/null/x", "wal", "push", "x"),
    ):
        result = run(*words, code=1)
        assert result.err.count("\n") <= 2, result.err
        assert result.err
    assert not list(shop.stage.glob("[0-9]*/pg_wal/*"))


def test_get_ends_with_1_only_when_a_file_is_certainly_not_there(shop: Shop) -> None:
    run = shop.program.run
    run("wal", "push", shop.segment(1))
    shop.idle()

    run("wal", "get", "000000010000000000000005", "got", code=1)
    run("wal", "get", "00000002.history", "got", code=1)
    for words in (
        ("wal", "get", "no-name", "got"),
        ("wal", "get", FIRST),
        ("wal", "get", FIRST, "no-directory/got"),
        ("wal", "get", "000000010000000000000005", "got", "--stage", "nowhere"),
        ("wal", "get", "000000010000000000000005", "got", "--generation", "x"),
        ("--store", "/nowhere", "wal", "get", "000000010000000000000005", "got"),
    ):
        assert run(*words, code=255).err
    config = shop.program.home / "config.toml"
    config.write_text("[stores.main]\npath = 5\n")
    run("wal", "get", "000000010000000000000005", "got", code=255)


def test_ready_files_go_along_and_are_found_there_later(shop: Shop) -> None:
    status = shop.program.home / "main" / "pg_wal" / "archive_status"
    for number in range(1, 6):
        path = shop.segment(number)
        status.mkdir(exist_ok=True)
        (status / f"{path.name}.ready").touch()
    (shop.program.home / "no-bases").touch()

    shop.program.run("wal", "push", "--ready", shop.segment(1))

    (generation,) = shop.stage.glob("[0-9]*")
    assert len(list(generation.glob("pg_wal/*.zst"))) == 5
    shop.program.run("wal", "push", "--ready", shop.segment(2))
    assert list(shop.stage.glob("[0-9]*")) == [generation]
    (shop.program.home / "no-bases").unlink()


def test_wait_tells_whether_a_sync_runs(shop: Shop) -> None:
    shop.program.run("wal", "wait", "0")
    (shop.program.home / "no-bases").touch()
    shop.program.run("wal", "push", shop.segment(1))

    assert "a sync runs" in shop.program.run("wal", "wait", "0", code=11).err
    shop.program.run("wal", "wait", "0.2", code=11)
    (shop.program.home / "no-bases").unlink()
    shop.program.run("wal", "wait")
    assert "trying again" in (shop.stage / "sync.log").read_text()


def test_full_sync_takes_another_base_and_the_script_is_told_the_times(shop: Shop) -> None:
    script = shop.stage / "scripts" / "backup"
    calls = shop.program.home / "calls"
    script.write_text(f'#!/bin/sh\necho "$1 $2 $(ls pg_wal)" >>{calls}\n')
    script.chmod(0o755)
    shop.program.run("wal", "push", shop.segment(1))
    shop.idle()

    shop.program.run("wal", "sync")
    assert calls.read_text().count("\n") == 1, "nothing was owed"
    shop.program.run("wal", "force-sync")
    assert calls.read_text().count("\n") == 2
    shop.program.run("wal", "full-sync")

    lines = [line.split() for line in calls.read_text().splitlines()]
    assert lines[0][2:] == [f"{FIRST}.zst"], "the script sees each file before it leaves"
    assert int(lines[0][0]) <= int(lines[0][1])
    assert int(lines[-1][0]) > int(lines[0][0]), "a newer base"
    assert (shop.program.home / "bases").read_text().count("\n") == 2


def test_another_cluster_does_not_get_the_stage(shop: Shop) -> None:
    other = vectors.load("postgres/control", "pg_control")[1]
    control = shop.program.home / "main" / "global" / "pg_control"
    control.write_bytes(bytes.fromhex(other["used_hex"]).ljust(other["file_size"], b"\0"))

    result = shop.program.run("wal", "init", shop.name, "--data", "main", code=13)

    assert "stage of the cluster" in result.err
