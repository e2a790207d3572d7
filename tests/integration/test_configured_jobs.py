"""Two jobs that exist only in a configuration file, run end to end against a real store."""

import json
from pathlib import Path

from tests.harness.http_recorder import recording
from tests.harness.program import Program
from tests.harness.sessions import small_store


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_two_configured_jobs_run_with_hooks_retention_verify_and_a_webhook(
    quick_path: Path,
) -> None:
    program = Program(quick_path / "p")
    home = program.home
    source = home / "source"
    source.mkdir()
    (source / "a.txt").write_text("first")
    (source / "skip.tmp").write_text("left out")
    stage = home / "stage"
    stage.mkdir()
    small_store(home / "store")
    program.run("init", home / "store", "--adopt")
    before = script(home / "before", f"date > {source}/dump.sql; echo dumped")
    carry = script(home / "carry", f'echo "$PWD $1 $2" >> {home}/carried')
    with recording() as server:
        config = home / "config.toml"
        config.write_text(
            config.read_text()
            + f"""
[jobs.files]
kind = "backup"
store = "store"
id = "web1"
sources = ["files.pxar:{source}"]
exclude = ["*.tmp"]
keep-last = 2
verify = "last"
notify = ["hook"]
[jobs.files.hooks]
before = "{before}"
backup = "{carry}"
directory = "{stage}"

[jobs.clean]
kind = "gc"
store = "store"
after = ["files"]
notify = ["hook"]

[notifications.hook]
kind = "webhook"
url = "{server.url}/hook"
on = "always"
template = '{{"who": "$job", "what": "$state"}}'
"""
        )
        assert program.run("--json", "scheduler", "--once").document == {"started": []}
        for number in range(3):
            (source / "a.txt").write_text(f"version {number}")
            program.run("job", "run", "files")
        assert program.run("--json", "scheduler", "--once").document == {"started": ["clean"]}
        program.run("job", "wait", "clean", "200")

        told = [json.loads(body) for _path, _headers, body in server.requests]

    assert told == [{"who": "files", "what": "ok"}] * 3 + [{"who": "clean", "what": "ok"}]
    snapshots = program.run("--json", "snapshots").document
    assert len(snapshots) == 2
    assert all(one["verify_state"]["state"] == "ok" for one in snapshots)
    listing = program.run("--json", "ls", "host/web1", "files.pxar", "-R").document
    names = {Path(entry["path"]).name for entry in listing}
    assert {"a.txt", "dump.sql"} <= names
    assert "skip.tmp" not in names
    log = program.run("task", "log", "last").text
    assert "TASK OK" in log
    carried = (home / "carried").read_text().splitlines()
    assert len(carried) == 3
    assert carried[0].startswith(f"{stage} stage 1")
    jobs = {job["name"]: job for job in program.run("--json", "job", "list").document}
    assert jobs["files"]["last"]["verified"] is not None
    assert jobs["clean"]["last"]["state"] == "ok"
