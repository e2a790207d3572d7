"""The scheduler as a service: it tells its manager, watches sources, serves figures, survives."""

import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.program import Program

WAIT_S_MAX = 100.0


class Service:
    """A running `holdfast scheduler` and the socket of its service manager."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(program.home / "notify")
        self.socket.bind(path)
        self.socket.settimeout(WAIT_S_MAX)
        self.child = subprocess.Popen(
            [*program.command, "scheduler"],
            env=program.environment | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_to_hear(self, text: str) -> str:
        while True:
            heard = self.socket.recv(4096).decode()
            if text in heard:
                return heard

    def line(self, pattern: str) -> re.Match[str]:
        """The next line of its log that matches."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"the scheduler ended without saying {pattern}")

    def close(self) -> None:
        self.child.kill()
        self.child.communicate()
        self.socket.close()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "p")


@pytest.fixture
def start() -> Iterator["list[Service]"]:
    services: list[Service] = []
    yield services
    for service in services:
        service.close()


def configure(program: Program, text: str) -> None:
    (program.home / "config.toml").write_text(text)


@pytest.mark.timeout(120)
def test_a_change_of_a_source_starts_its_job_and_figures_tell_of_it(
    program: Program, start: list[Service]
) -> None:
    watched = program.home / "watched"
    watched.mkdir()
    configure(
        program,
        f'[jobs.look]\nkind = "command"\ncommand = ["version"]\nsources = ["x.pxar:{watched}"]\n'
        'on-change = true\nquiet = "1s"\ndistance = 0\n'
        f'[metrics]\nlisten = "127.0.0.1:0"\nfile = "{program.home}/figures.prom"\n',
    )
    service = Service(program)
    start.append(service)
    address = service.line(r"figures on (http\S+)")[1]
    service.wait_to_hear("READY=1")
    assert service.wait_to_hear("WATCHDOG=1").endswith("s")
    started = None
    for number in range(20):  # the watch begins a moment after READY
        (watched / f"file{number}").write_text("new")
        for _ in range(3):
            service.wait_to_hear("WATCHDOG=1")
        job = program.run("--json", "job", "show", "look").document
        if started := job["last"]["start"]:
            break
    assert started is not None
    service.line("starting job look: its sources have changed")
    program.run("job", "wait", "look", "30")
    with urllib.request.urlopen(address, timeout=60) as page:
        assert b'holdfast_job_ok{job="look"} 1\n' in page.read()
    service.wait_to_hear("WATCHDOG=1")
    assert "holdfast_tasks_running" in (program.home / "figures.prom").read_text()


def test_ending_the_scheduler_is_clean_and_leaves_running_jobs_alone(
    program: Program, start: list[Service]
) -> None:
    begun, gate = program.home / "begun", program.home / "gate"
    hook = program.home / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {begun}\nwhile [ ! -e {gate} ]; do sleep 0.05; done\n")
    hook.chmod(0o755)
    configure(
        program,
        '[jobs.slow]\nkind = "command"\ncommand = ["version"]\nschedule = "*:*:*"\n'
        f'[jobs.slow.hooks]\nbefore = "{hook}"\n',
    )
    service = Service(program)
    start.append(service)
    service.line("starting job slow")
    while not begun.exists():
        os.sched_yield()
    service.child.send_signal(signal.SIGTERM)
    service.wait_to_hear("STOPPING=1")
    assert service.child.wait(WAIT_S_MAX) == 143
    (task,) = program.run("--json", "task", "list", "--running").document
    gate.touch()

    program.run("job", "wait", "slow", "30")

    assert program.run("--json", "task", "show", task["upid"]).document["state"] == "ok"
