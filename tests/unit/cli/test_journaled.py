"""Long commands as tasks: names, ends, warnings, and what is not entered."""

import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.cli import journaled
from holdfast.cli.console import Console
from holdfast.cli.signals import StopSignal
from holdfast.errors import Busy, Stopped
from holdfast.jobs.journal import Journal
from holdfast.jobs.task_end import TaskState


class Command:
    """A command whose work is given by the test."""

    def __init__(self, work: Callable[[Console], int]) -> None:
        self.work = work

    def add_arguments(self, parser: ArgumentParser) -> None:
        pass

    def run(self, args: Namespace, console: Console) -> int:
        del args
        return self.work(console)


@pytest.fixture
def args(tmp_path: Path) -> Namespace:
    (tmp_path / "store1").mkdir()
    return Namespace(
        json=False,
        quiet=True,
        verbose=0,
        no_color=True,
        read_only=False,
        dry_run=False,
        detach=False,
        nice=0,
        io_class=None,
        read_limit=None,
        write_limit=None,
        store=str(tmp_path / "store1"),
        ns=None,
        config=str(tmp_path / "config.toml"),
        state_dir=str(tmp_path / "state"),
    )


def run(args: Namespace, work: Callable[[Console], int], name: str = "gc") -> int:
    return journaled.run(name, Command(work), args, Console(args), ["gc"])


def only_task(args: Namespace) -> tuple[TaskState, str, str]:
    (view,) = Journal(args.state_dir).tasks()
    log = Path(Journal(args.state_dir).log_path(view.upid)).read_text()
    return view.state, view.message, log


def test_a_command_that_does_its_work_is_a_task_that_ended_well(args: Namespace) -> None:
    def work(console: Console) -> int:
        with console.progress() as progress:
            progress.phase("mark")
            progress.advance(items=3, bytes=2048)
        console.remark("nothing to remove")
        (view,) = Journal(args.state_dir).running()
        assert view.progress is not None
        assert view.progress.phase == "mark"
        return 0

    assert run(args, work) == 0

    state, _message, log = only_task(args)
    assert state is TaskState.OK
    assert ": mark: 3 items, 2.0 KiB in " in log
    assert ": nothing to remove\n" in log


def test_warnings_make_the_task_end_with_their_number(args: Namespace) -> None:
    def work(console: Console) -> int:
        with console.progress() as progress:
            progress.warn("cannot read a")
            progress.warn("cannot read b")
        return 0

    run(args, work)

    state, message, log = only_task(args)
    assert (state, message) == (TaskState.WARNING, "2 warnings")
    assert log.endswith("TASK WARNINGS: 2\n")
    assert log.count("WARN: cannot read") == 2


def test_an_error_or_a_bad_exit_code_ends_the_task_as_failed(args: Namespace) -> None:
    def fail(_console: Console) -> int:
        raise Busy("somebody else works on it")

    with pytest.raises(Busy):
        run(args, fail)
    assert run(args, lambda _console: 20) == 20

    messages = {view.message for view in Journal(args.state_dir).tasks()}
    assert messages == {"somebody else works on it", "damaged data was found"}


def test_a_signal_ends_the_task_as_stopped_with_its_exit_code(args: Namespace) -> None:
    def stop(_console: Console) -> int:
        raise StopSignal(signal.SIGTERM)

    with pytest.raises(Stopped) as caught:
        run(args, stop)

    assert caught.value.exit_code == 143
    assert only_task(args)[0] is TaskState.STOPPED


@pytest.mark.parametrize("option", ["read_only", "dry_run"])
def test_what_promises_to_write_nothing_leaves_no_task(args: Namespace, option: str) -> None:
    setattr(args, option, True)

    assert run(args, lambda _console: 0) == 0

    assert not Path(args.state_dir).exists()


def test_a_journal_that_cannot_be_written_does_not_stop_the_work(args: Namespace) -> None:
    Path(args.state_dir).write_text("a file where the directory should be")

    assert run(args, lambda _console: 0) == 0


def test_a_command_inside_a_task_belongs_to_that_task(args: Namespace) -> None:
    def outer(console: Console) -> int:
        return journaled.run("prune", Command(lambda _console: 0), args, console, ["prune"])

    run(args, outer)

    assert len(Journal(args.state_dir).tasks()) == 1


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("gc", {}, ("garbage_collection", "s1")),
        ("backup", {"type": "host", "id": "web1"}, ("backup", "s1:host/web1")),
        ("verify", {}, ("verify", "s1")),
        ("verify", {"snapshot": "vm/100"}, ("verify_group", "s1:ns/a/ns/b/vm/100")),
        (
            "verify",
            {"snapshot": "vm/100/2026-11-21T06:00:00Z"},
            ("verify_snapshot", "s1:ns/a/ns/b/vm/100/6B013360"),
        ),
        ("vm backup", {"name": "db"}, ("backup", "s1:vm/db")),
        ("prune", {}, ("prunejob", "s1")),
        ("prune", {"group": "host/a"}, ("prune", "s1:a/b:host/a")),
        ("restore", {"snapshot": "host/a/latest"}, ("reader", "s1:host/a/latest")),
    ],
)
def test_tasks_are_named_in_the_manner_of_proxmox(
    name: str, words: dict[str, str], expected: tuple[str, str]
) -> None:
    assert journaled.task_name(name, Namespace(ns="a/b", **words), "s1") == expected
