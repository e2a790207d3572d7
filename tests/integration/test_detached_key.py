"""A passphrase is asked for while there is a terminal, and reaches the detached worker unseen."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
from tests.harness.program import Program
from tests.harness.sessions import small_store

PASSWORD = "correct horse"


@pytest.fixture
def program() -> Iterator[Program]:
    """A store, a key with a passphrase, and something to back up."""
    with quick_directory() as home:
        small_store(home / "store")
        program = Program(home, {"HOLDFAST_STORE": str(home / "store")})
        program.run("key", "create", "k", env={"HOLDFAST_PASSWORD": PASSWORD})
        (home / "source").mkdir()
        (home / "source" / "file").write_text("content")
        yield program


def on_a_terminal(program: Program, typed: str, *words: str | Path) -> tuple[int, bytes, str]:
    """Run `holdfast WORDS` with a terminal as stdin; its exit code, stdout and stderr."""
    master, slave = os.openpty()
    child = subprocess.Popen(
        [*program.command, *map(str, words)],
        env=program.environment,
        cwd=program.home,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that /dev/tty is not that of whoever runs the tests
    )
    os.close(slave)
    assert child.stderr is not None
    said = b""
    while b"passphrase of" not in said and (more := os.read(child.stderr.fileno(), 4096)):
        said += more  # what is typed before the question is thrown away
    os.write(master, f"{typed}\n".encode())
    out, err = child.communicate(timeout=100)
    os.close(master)
    return child.returncode, out, (said + err).decode()


def test_a_detached_backup_gets_the_passphrase_that_was_typed(program: Program) -> None:
    code, out, err = on_a_terminal(
        program, PASSWORD, "--keyfile", "k", "backup", "s.pxar:source", "--id", "one", "--detach"
    )
    assert code == 0, err
    upid = out.decode().strip()
    assert program.run("task", "attach", upid).code == 0

    assert program.json("task", "show", upid)["state"] == "ok"
    (found,) = program.json("snapshots")
    assert found["files"][0]["crypt_mode"] == "encrypt"
    for path in program.home.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_a_wrong_passphrase_starts_nothing(program: Program) -> None:
    code, _out, err = on_a_terminal(
        program, "battery staple", "--keyfile", "k", "backup", "s.pxar:source", "--detach", "--json"
    )

    assert code == 12
    assert json.loads(err.strip().splitlines()[-1])["error"]["code"] == 12
    assert program.json("task", "list") == []


def test_a_configured_job_in_the_background_gets_it_too(program: Program) -> None:
    (program.home / "config.toml").write_text(
        f"""
[stores.local]
path = "{program.home}/store"
keyfile = "{program.home}/k"

[jobs.nightly]
kind = "backup"
store = "local"
sources = ["{program.home}/source"]
id = "one"
verify = "last"

[jobs.nightly.hooks]
after = ["{program.home}/after"]
"""
    )
    after = program.home / "after"
    after.write_text(f"#!/bin/sh\nenv > {program.home}/environ\n")
    after.chmod(0o755)

    code, out, err = on_a_terminal(program, PASSWORD, "job", "run", "nightly", "--detach")

    assert code == 0, err
    program.run("task", "attach", out.decode().strip())
    assert program.json("job", "show", "nightly")["last"]["state"] == "ok"
    assert program.json("snapshots")[0]["verify_state"]["state"] == "ok"
    assert PASSWORD not in (program.home / "environ").read_text()


def test_work_without_a_key_asks_for_nothing(program: Program) -> None:
    (program.home / "config.toml").write_text(
        f'[stores.local]\npath = "{program.home}/store"\nkeyfile = "{program.home}/k"\n'
    )
    program.environment["HOLDFAST_STORE"] = "local"

    code, out, err = on_a_terminal(program, "", "gc", "--detach")

    assert code == 0, err
    assert "passphrase" not in err
    program.run("task", "attach", out.decode().strip())
