"""The journal: tasks begin, end, vanish, and are read by those who may only read."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import BadRequest, NoSpace, NotFound
from holdfast.jobs.journal import Journal, follow_log
from holdfast.jobs.task_end import TaskEnd, TaskState
from holdfast.jobs.task_lists import Ended, TaskLists
from holdfast.upid import Upid

CORE = str(Path(__file__).resolve().parents[3] / "core")
VANISHING = """
import sys, os, signal
from holdfast.jobs.journal import Journal
task = Journal(sys.argv[1]).start("backup", "store1:host/web1")
task.say("half way")
print(task.upid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "state"))


def start_other(journal: Journal) -> tuple["subprocess.Popen[str]", Upid]:
    child = subprocess.Popen(
        [sys.executable, "-c", VANISHING, journal.state_directory],
        env={"PYTHONPATH": CORE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, Upid.parse(child.stdout.readline().strip())


def kill(child: "subprocess.Popen[str]") -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


def files_below(directory: str) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in Path(directory).rglob("*")
    }


def test_a_task_is_running_until_it_ends_and_then_stands_in_the_archive(journal: Journal) -> None:
    with journal.start("garbage_collection", "store1") as task:
        task.say("mark")
        assert [view.state for view in journal.tasks()] == [TaskState.RUNNING]

    view = journal.find(str(task.upid))
    assert view.state is TaskState.OK
    lines = Path(journal.log_path(task.upid)).read_text().splitlines()
    assert lines[0].endswith(": mark")
    assert lines[-1].endswith(": TASK OK")
    assert view.end is not None
    archive = Path(journal.state_directory, "tasks", "archive").read_text()
    assert archive == f"{task.upid} {view.end.end_s:08X} OK\n"
    assert Path(journal.state_directory, "tasks", "active").read_text() == ""


def test_warnings_errors_and_signals_end_a_task_with_their_word(journal: Journal) -> None:
    with journal.start("backup", "a") as warned:
        warned.warn("unreadable")
    with pytest.raises(NoSpace), journal.start("backup", "b") as failed:
        raise NoSpace("the disk\nis full")
    with pytest.raises(KeyboardInterrupt), journal.start("backup", "c") as stopped:
        raise KeyboardInterrupt

    states = {view.upid.worker_id: (view.state, view.message) for view in journal.tasks()}
    assert states["a"] == (TaskState.WARNING, "1 warning")
    assert states["b"] == (TaskState.FAILED, "the disk is full")
    assert states["c"][0] is TaskState.STOPPED
    assert Path(journal.log_path(warned.upid)).read_text().endswith(": TASK WARNINGS: 1\n")
    assert (
        Path(journal.log_path(failed.upid)).read_text().endswith("TASK ERROR: the disk is full\n")
    )
    assert journal.find(str(stopped.upid)).state is TaskState.STOPPED


def test_a_message_cannot_pass_for_the_end_of_its_task(journal: Journal) -> None:
    task = journal.start("backup", "x")
    task.say("file\n2026-01-01T00:00:00+00:00: TASK OK")

    assert journal.find(str(task.upid)).state is TaskState.RUNNING
    task.finish(TaskEnd.failed(1_800_000_000, "no"))
    assert journal.find(str(task.upid)).state is TaskState.FAILED


def test_a_killed_task_is_shown_as_unknown_by_readers_who_write_nothing(journal: Journal) -> None:
    child, upid = start_other(journal)
    assert journal.find(str(upid)).state is TaskState.RUNNING
    kill(child)
    before = files_below(journal.state_directory)

    view = journal.find(str(upid))

    assert view.state is TaskState.UNKNOWN
    assert view.message == "its process ended without a word"
    assert [task.state for task in journal.tasks()] == [TaskState.UNKNOWN]
    assert files_below(journal.state_directory) == before


def test_a_killed_task_is_closed_by_the_next_writer(journal: Journal) -> None:
    child, upid = start_other(journal)
    kill(child)

    with journal.start("verify", "store1"):
        active = Path(journal.state_directory, "tasks", "active").read_text()

    assert str(upid) not in active
    archive = Path(journal.state_directory, "tasks", "archive").read_text().splitlines()
    assert [line.split()[-1] for line in archive if line.startswith(str(upid))] == ["unknown"]


def test_a_process_number_that_is_used_again_does_not_keep_a_task_alive(journal: Journal) -> None:
    task = journal.start("backup", "x")
    other = Upid(
        node=task.upid.node,
        pid=os.getpid(),
        pstart=task.upid.pstart - 1,
        task_id=0,
        start_s=1_700_000_000,
        worker_type="backup",
        worker_id="old",
        auth_id="root@pam",
    )
    active = Path(journal.state_directory, "tasks", "active")
    active.write_text(active.read_text() + f"{other}\n")

    assert journal.find(str(other)).state is TaskState.UNKNOWN
    assert journal.find(str(task.upid)).state is TaskState.RUNNING


def test_many_processes_may_write_at_once(journal: Journal) -> None:
    code = (
        "import sys\nfrom holdfast.jobs.journal import Journal\n"
        "for n in range(15):\n  with Journal(sys.argv[1]).start('backup', f'n{n}') as t: t.say('x')"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, journal.state_directory], env={"PYTHONPATH": CORE}
        )
        for _ in range(4)
    ]
    assert [child.wait() for child in children] == [0] * 4

    assert [view.state for view in journal.tasks()] == [TaskState.OK] * 60
    assert Path(journal.state_directory, "tasks", "active").read_text() == ""


def test_a_task_is_found_by_its_beginning_its_process_and_last(journal: Journal) -> None:
    task = journal.start("backup", "x")
    assert journal.find("last").upid == task.upid
    assert journal.find(str(os.getpid())).upid == task.upid
    assert journal.find(str(task.upid)[:40]).upid == task.upid
    with pytest.raises(NotFound):
        journal.find("UPID:elsewhere")
    journal.start("verify", "y")
    with pytest.raises(BadRequest):
        journal.find("UPID:")


def test_a_followed_log_ends_with_the_task(journal: Journal) -> None:
    task = journal.start("backup", "x")
    task.say("one")
    pieces = follow_log(journal, task.upid)
    assert next(pieces).endswith(b": one\n")
    task.say("two")
    task.finish(TaskEnd.ok(1_800_000_000))

    rest = b"".join(pieces)

    assert b": two\n" in rest
    assert rest.endswith(b": TASK OK\n")


def test_lists_rotate_and_forget_the_oldest(tmp_path: Path) -> None:
    lists = TaskLists(str(tmp_path), rotate_bytes=200)
    forgotten: list[Upid] = []
    names = [
        Upid(
            node="n",
            pid=number,
            pstart=1,
            task_id=0,
            start_s=1_700_000_000 + number,
            worker_type="backup",
            worker_id="s",
            auth_id="root@pam",
        )
        for number in range(80)
    ]
    for upid in names:
        with lists.locked():
            forgotten += lists.append_ended([Ended(upid, TaskEnd.ok(upid.start_s))])

    kept = [entry.upid for entry in lists.ended()]

    assert kept == sorted(kept, key=lambda upid: -upid.start_s)
    assert kept + forgotten[::-1] == names[::-1]
    assert (tmp_path / "archive.20.zst").exists()
    assert not (tmp_path / "archive.21.zst").exists()


def test_a_line_torn_by_a_crash_costs_only_itself(journal: Journal) -> None:
    with journal.start("backup", "x") as first:
        pass
    archive = Path(journal.state_directory, "tasks", "archive")
    archive.write_text(archive.read_text() + "UPID:n:0000")
    with journal.start("backup", "y") as second:
        pass

    assert {view.upid for view in journal.tasks()} == {first.upid, second.upid}


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("OK", TaskState.OK),
        ("WARNINGS: 3", TaskState.WARNING),
        ("unknown", TaskState.UNKNOWN),
        ("no space left", TaskState.FAILED),
        ("ERROR: no space left", TaskState.FAILED),
        ("WARNINGS: many", TaskState.FAILED),
        ("stopped on request; what was finished before stays", TaskState.STOPPED),
    ],
)
def test_end_states_survive_the_archive_line(text: str, state: TaskState) -> None:
    end = TaskEnd.parse(7, text)

    assert end.state is state
    assert TaskEnd.parse(7, end.archive_text) == end
    assert TaskEnd.parse(7, end.log_text.removeprefix("TASK ")) == end
