"""`holdfast job` and `holdfast task` as programs: run, detach, watch, stop, take up again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.harness.http_recorder import recording

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 100.0


class Host:
    """One configuration and state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config.toml"
        self.state = directory / "state"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "core"),
            "HOLDFAST_CONFIG": str(self.config),
            "HOLDFAST_STATE_DIR": str(self.state),
            "HOME": str(directory),
        }

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "holdfast", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        child = self.start(*words)
        out, err = child.communicate(timeout=120)
        assert child.returncode == code, (words, child.returncode, out, err)
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self.run("--json", *words))

    def script(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        os.sched_yield()


def wait_for_end(host: Host, upid: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        task: dict[str, Any] = host.json("task", "show", upid)
        if task["state"] != "running":
            return task
    raise AssertionError(f"{upid} did not end")


def test_a_job_runs_with_its_hooks_pings_and_messages(host: Host) -> None:
    with recording() as server:
        before = host.script("before", "echo dumping $HOLDFAST_JOB")
        host.config.write_text(
            f'[jobs.report]\nkind = "command"\ncommand = ["version"]\nnotify = ["hook"]\n'
            f'ping = "{server.url}/ping"\n'
            f'[jobs.report.hooks]\nbefore = "{before}"\n'
            f'[notifications.hook]\nkind = "webhook"\nurl = "{server.url}/hook"\non = "always"\n'
        )

        host.run("job", "run", "report")

        assert server.paths == ["/ping/start", "/ping", "/hook"]
        assert json.loads(server.requests[2][2])["state"] == "ok"
    (job,) = host.json("job", "list")
    assert job["last"]["state"] == "ok"
    log = host.run("task", "log", job["last"]["upid"])
    assert "  dumping report\n" in log
    assert "holdfast version\n" in log
    assert log.endswith("TASK OK\n")


def test_a_failing_before_stops_the_job_and_is_told(host: Host) -> None:
    with recording() as server:
        before = host.script("before", "exit 9")
        failure = host.script("failure", f'echo "$HOLDFAST_ERROR" > {host.directory}/said')
        host.config.write_text(
            f'[jobs.j]\nkind = "command"\ncommand = ["version"]\nnotify = ["hook"]\n'
            f'[jobs.j.hooks]\nbefore = "{before}"\nfailure = "{failure}"\n'
            f'[notifications.hook]\nkind = "webhook"\nurl = "{server.url}/hook"\n'
        )

        host.run("job", "run", "j", code=1)

        assert "exit code 9" in json.loads(server.requests[0][2])["text"]
    assert "exit code 9" in (host.directory / "said").read_text()
    job = host.json("job", "show", "j")
    assert (job["last"]["state"], job["last"]["failures"], job["owed"]) == ("failed", 1, False)
    assert "holdfast version" not in host.run("task", "log", "last")


def gated_job(host: Host, name: str = "slow") -> Path:
    """A job whose first run waits until the returned file exists; each run adds to `runs`."""
    gate = host.directory / "gate"
    hook = host.script(
        "hook",
        f"echo x >> {host.directory}/runs; touch {host.directory}/begun\n"
        f"while [ ! -e {gate} ]; do sleep 0.05; done",
    )
    host.config.write_text(
        f'[jobs.{name}]\nkind = "command"\ncommand = ["version"]\n'
        f'[jobs.{name}.hooks]\nbefore = "{hook}"\n'
    )
    return gate


def test_a_detached_job_goes_on_alone_and_can_be_watched_and_stopped(host: Host) -> None:
    gated_job(host)
    upid = host.run("job", "run", "slow", "--detach").strip()
    wait_for(host.directory / "begun")
    task = host.json("task", "show", upid)
    assert (task["state"], task["kind"]) == ("running", "commandjob")
    assert os.getsid(task["pid"]) == task["pid"]  # no terminal's session
    assert [item["upid"] for item in host.json("task", "list", "--running")] == [upid]

    host.run("task", "stop", upid)

    assert wait_for_end(host, upid)["state"] == "stopped"
    assert "TASK ERROR: stopped on request" in host.run("task", "log", upid)
    job = host.json("job", "show", "slow")
    assert (job["last"]["state"], job["owed"]) == ("stopped", True)
    assert "stopped, owed" in host.run("job", "list")
    assert host.json("scheduler", "--once") == {"started": []}


def test_asking_for_a_running_job_adds_exactly_one_more_run(host: Host) -> None:
    gate = gated_job(host)
    host.run("job", "run", "slow", "--detach")
    wait_for(host.directory / "begun")
    host.run("job", "wait", "slow", "0", code=11)
    for _ in range(3):
        host.run("job", "run", "slow")
    gate.touch()

    host.run("job", "wait", "slow", "100")
    assert (host.directory / "runs").read_text() == "x\n" * 2


def test_a_killed_job_is_owed_and_the_next_look_of_the_scheduler_takes_it_up(host: Host) -> None:
    gate = gated_job(host)
    upid = host.run("job", "run", "slow", "--detach").strip()
    wait_for(host.directory / "begun")
    pid = host.json("task", "show", upid)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(host, upid)["state"] == "unknown"
    assert host.json("job", "show", "slow")["owed"] is True
    gate.touch()

    assert host.json("scheduler", "--once") == {"started": ["slow"]}

    host.run("job", "wait", "slow", "100")
    job = host.json("job", "show", "slow")
    assert (job["owed"], job["last"]["state"]) == (False, "ok")
    states = {task["upid"]: task["state"] for task in host.json("task", "list")}
    assert states[upid] == "unknown"
    assert sorted(states.values()) == ["ok", "unknown"]


def test_a_paused_task_sleeps_is_shown_so_and_goes_on(host: Host) -> None:
    gate = gated_job(host)
    upid = host.run("job", "run", "slow", "--detach").strip()
    wait_for(host.directory / "begun")
    host.run("task", "pause", upid)
    gate.touch()
    assert host.json("task", "show", upid)["paused"] is True

    host.run("task", "resume", upid)

    assert wait_for_end(host, upid)["state"] == "ok"


def test_disabling_a_job_changes_one_word_of_the_file(host: Host) -> None:
    gated_job(host)
    text = f"# mine\n{host.config.read_text()}".replace(
        "[jobs.slow]\n", "[jobs.slow]\nenabled = true  # for now\n"
    )
    host.config.write_text(text)

    host.run("job", "disable", "slow")

    assert host.config.read_text() == text.replace("true", "false")
    assert host.json("job", "show", "slow")["enabled"] is False
    host.run("job", "enable", "slow")
    assert host.config.read_text() == text


def test_read_only_looks_work_without_a_state_directory_and_write_nothing(host: Host) -> None:
    gated_job(host)
    assert host.json("--read-only", "task", "list") == []
    assert host.json("--read-only", "job", "list")[0]["name"] == "slow"
    host.run("--read-only", "job", "run", "slow", code=13)
    assert not host.state.exists()


def test_unit_files_are_written_where_asked(host: Host) -> None:
    gated_job(host)
    out = host.run("systemd", "install", "--directory", str(host.directory / "units"))

    (path,) = out.split()
    assert f"--config {host.config}" in Path(path).read_text()


def test_a_job_is_added_with_its_schedule_and_only_once(tmp_path: Path) -> None:
    host = Host(tmp_path)
    store = tmp_path / "store"
    (store / ".chunks").mkdir(parents=True)
    host.config.write_text(f'# mine\n[stores.main]\npath = "{store}"\n')
    words = ["job", "add", "nightly", "--source", "etc.pxar:/etc", "--schedule", "21:00"]

    def code(*typed: str) -> int:
        started = host.start(*typed)
        started.communicate()
        return started.returncode

    assert code(*words, "--keep-daily", "7", "--verify", "last") == 0
    assert code(*words) == 2
    assert code("job", "add", "other", "--schedule", "25:61") == 2
    assert code("--read-only", "job", "add", "third", "--kind", "gc") == 13

    text = host.config.read_text()
    assert text.startswith("# mine\n")
    assert "[jobs.nightly]" in text
    assert 'sources = ["etc.pxar:/etc"]' in text
    assert "keep-daily = 7" in text
    assert "other" not in text
    assert "third" not in text
