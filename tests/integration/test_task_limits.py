"""Limits on real backups: a queue that is shown, and bytes per second that hold."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from tests.harness.program import Program
from tests.harness.sessions import small_store

from holdfast.jobs.slots import Slot


def prepared(quick_path: Path, size: int) -> tuple[Program, Path]:
    program = Program(quick_path / "p")
    source = program.home / "source"
    source.mkdir()
    (source / "data").write_bytes(os.urandom(size))
    small_store(program.home / "store")
    program.run("init", program.home / "store", "--adopt")
    return program, source


def begun(program: Program, source: Path, *more: str) -> str:
    """The UPID of a slow backup that has read something."""
    words = ["backup", f"s.pxar:{source}", "--read-limit", "200 KiB", "--detach", *more]
    upid = program.run(*words).text.strip()
    while not shown(program, upid)["progress"]["done"]:
        pass
    return upid


@contextmanager
def queued(program: Program, *words: str) -> Iterator[dict[str, Any]]:
    """A detached task that waits for the only slot of the store until the context ends."""
    with Slot(str(program.home / "state" / "slots"), "store-store") as held:
        assert held.try_take(1)
        upid = program.run(*words, "--detach").text.strip()
        while not (task := shown(program, upid))["queued"]:
            pass
        yield task


def configure(program: Program, text: str) -> None:
    config = program.home / "config.toml"
    config.write_text(config.read_text() + text)


def shown(program: Program, upid: str) -> Any:  # JSON
    """A task that is to be running."""
    task = program.run("--json", "task", "show", upid).document
    assert task["state"] == "running"
    return task


def test_a_second_task_waits_its_turn_and_says_so(quick_path: Path) -> None:
    program, source = prepared(quick_path, 1000)
    configure(program, "\n[workers]\nper-store = 1\n")
    with queued(program, "backup", f"s.pxar:{source}") as task:
        assert task["message"] == "waiting: 1 tasks run already"
        assert program.run("--json", "snapshots").document == []

    program.run("task", "attach", task["upid"])

    assert len(program.run("--json", "snapshots").document) == 1
    assert "waiting: 1 tasks run already" in program.run("task", "log", task["upid"]).text


def test_the_commands_of_a_job_keep_to_the_limits_too(quick_path: Path) -> None:
    program, source = prepared(quick_path, 3 << 20)
    configure(
        program,
        "\n[workers]\nper-store = 1\nnice = 4\nread-bytes-per-second = '1 MiB'\n"
        f'[jobs.j]\nkind = "backup"\nstore = "store"\nsources = ["s.pxar:{source}"]\n'
        "keep-last = 2\n",
    )
    with queued(program, "job", "run", "j") as task:
        pass
    began = time.monotonic()
    program.run("task", "attach", task["upid"])

    assert time.monotonic() - began > 1.5
    assert program.run("--json", "task", "show", task["upid"]).document["state"] == "ok"


def test_a_job_has_limits_of_its_own_among_its_options(quick_path: Path) -> None:
    program, source = prepared(quick_path, 3 << 20)
    configure(
        program,
        f'\n[jobs.j]\nkind = "backup"\nstore = "store"\nsources = ["s.pxar:{source}"]\n'
        "options = ['--read-limit', '1 MiB']\n",
    )
    began = time.monotonic()
    program.run("job", "run", "j")

    assert time.monotonic() - began > 1.5
    assert len(program.json("snapshots")) == 1


def test_a_limit_on_reading_holds_for_the_whole_backup(quick_path: Path) -> None:
    size = 3 << 20
    program, source = prepared(quick_path, size)
    began = time.monotonic()
    program.run("backup", f"s.pxar:{source}", "--read-limit", "1 MiB", "--nice", "5")

    assert time.monotonic() - began > 2.0
    task = program.run("--json", "task", "list").document[0]
    assert task["state"] == "ok"
    assert "3.0 MiB, 3.0 MiB new in" in program.run("task", "log", task["upid"]).text


def test_a_stopped_backup_leaves_nothing_half_written_and_ends_soon(quick_path: Path) -> None:
    program, source = prepared(quick_path, 8 << 20)
    upid = begun(program, source, "--id", "h")
    began = time.monotonic()

    program.run("task", "stop", upid)

    assert time.monotonic() - began < 20
    assert program.run("--json", "task", "show", upid).document["state"] == "stopped"
    assert program.run("--json", "snapshots").document == []
    assert not list((program.home / "store" / "host").rglob("*.tmp*"))
    program.run("backup", f"s.pxar:{source}", "--id", "h")  # and the way is free
    program.run("verify")


def test_the_process_that_walks_is_as_nice_as_the_backup(quick_path: Path) -> None:
    program, source = prepared(quick_path, 8 << 20)
    upid = begun(program, source, "--nice", "7")

    worker = int(upid.split(":")[2], 16)
    (walker,) = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    assert os.getpriority(os.PRIO_PROCESS, int(walker)) >= 7  # it may be done: then it is a zombie

    program.run("task", "stop", upid)


def test_who_waited_in_the_queue_stores_what_is_there_afterwards(quick_path: Path) -> None:
    program, source = prepared(quick_path, 1000)
    configure(program, "\n[workers]\nper-store = 1\n")
    with queued(program, "backup", f"s.pxar:{source}", "--id", "h") as task:
        Event().wait(2.5)  # longer than what was seen before the queue counts as fresh
        (source / "data").write_bytes(b"written while the backup waited")

    program.run("task", "attach", task["upid"])

    assert program.run("cat", "host/h", "s.pxar", "data").out == b"written while the backup waited"
