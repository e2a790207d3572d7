"""Long commands as tasks: entered into the journal, limited, detached on request.

Every command named in WORKER_TYPES runs through `run`: it gets a UPID, a log, live progress and an
end in the archive list, without knowing of it. Nothing is entered for a dry run, nor with
--read-only, which promises that nothing is written anywhere.
"""

import os
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from io import TextIOBase
from typing import TYPE_CHECKING, Final, TextIO, cast

from holdfast.errors import (
    EXIT_OK,
    EXIT_WARNINGS,
    BadRequest,
    HoldfastError,
    Stopped,
)

if TYPE_CHECKING:
    from holdfast.cli.commands import CommandModule
    from holdfast.cli.console import Console
    from holdfast.config.settings import Settings
    from holdfast.jobs.journal import RunningTask
    from holdfast.jobs.task_progress import TaskProgress

WORKER_TYPES: Final = {
    "backup": "backup",
    "restore": "reader",
    "verify": "verify",
    "gc": "garbage_collection",
    "prune": "prune",
    "sync": "sync",
    "usage": "usage",
    "vm backup": "backup",
    "vm restore": "reader",
    "pg backup": "backup",
    "pg restore": "reader",
    "pg combine": "backup",
    "pg drill": "verify",
}
_WITHOUT_KEY: Final = frozenset({"gc", "prune", "usage"})
_TARGETS: Final = ("snapshot", "group", "target_name", "selection", "what")
_ENDS: Final = {20: "damaged data was found", 15: "nothing matched", 11: "a lock is held"}


def full_name(command_name: str, args: Namespace) -> str:
    """The command with its verb, such as `vm backup`."""
    verb = getattr(args, "verb", None)
    return f"{command_name} {verb}" if verb else command_name


def is_long(name: str) -> bool:
    """Whether a command's work belongs into the journal."""
    return name in WORKER_TYPES


def add_arguments(parser: ArgumentParser, command_name: str) -> None:
    """Options of a long command, or of those of its verbs that are long."""
    if is_long(command_name):
        _add_options(parser)
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to its verbs
        if isinstance(action, _SubParsersAction):
            for verb, verb_parser in action.choices.items():
                if is_long(f"{command_name} {verb}"):
                    _add_options(verb_parser)


def _add_options(parser: ArgumentParser) -> None:
    """Options of every long command."""
    from holdfast.host.priority import IoClass

    group = parser.add_argument_group("running")
    group.add_argument(
        "--detach",
        action="store_true",
        help="go on in the background, print the task's name (UPID) and return",
    )
    group.add_argument(
        "--nice", type=int, choices=range(20), metavar="0..19", help="leave the processor to others"
    )
    group.add_argument(
        "--io-class",
        choices=[io_class.value for io_class in IoClass],
        help="how the disks serve this work",
    )
    group.add_argument("--read-limit", metavar="SIZE", help="read at most SIZE per second")
    group.add_argument("--write-limit", metavar="SIZE", help="write at most SIZE per second")


def run(
    name: str, module: "CommandModule", args: Namespace, console: "Console", words: Sequence[str]
) -> int:
    """Run a long command as a task; its exit code.

    Args:
        name: of the command.
        module: what to run.
        args: the parsed command line.
        console: of this run.
        words: the command line, to start again in the background.
    """
    is_entered = not (
        getattr(args, "dry_run", False)
        or getattr(args, "cached", False)
        or args.read_only
        or console.task is not None
    )
    if is_entered and args.detach:
        return detach(args, console, words, keyfile=_key_path(name, args))
    with prepared(module, args):
        if is_entered:
            return _run_in_journal(name, module, args, console)
        return module.run(args, console)


def prepared(module: "CommandModule", args: Namespace) -> AbstractContextManager[None]:
    """What a command begins before its task does; a context manager."""
    begin: Callable[[Namespace], AbstractContextManager[None]] | None
    begin = getattr(module, "prepared", None)
    return nullcontext() if begin is None else begin(args)


def _run_in_journal(name: str, module: "CommandModule", args: Namespace, console: "Console") -> int:
    from holdfast.config.settings import Settings

    settings = Settings.read(args.config)
    try:
        store_name = settings.store(args.store).name
    except HoldfastError:
        return module.run(args, console)  # which says what is wrong with the store
    with in_journal(args, console, *task_name(name, args, store_name)) as task:
        with limited(args, settings, store_name, console):
            code = module.run(args, console)
        if task is not None:
            _finish(task, code, console)
    return code


def _key_path(name: str, args: Namespace) -> str | None:
    from holdfast.cli import key_source

    try:
        return None if name in _WITHOUT_KEY else key_source.key_path(args)
    except HoldfastError:
        return None  # the worker says what is wrong with the store


def detach(
    args: Namespace, console: "Console", words: Sequence[str], *, keyfile: str | None
) -> int:
    """Start the same command again in its own session and print its UPID.

    Args:
        args: the parsed command line.
        console: of this run.
        words: the command line.
        keyfile: the key whose passphrase may have to be asked for while there is a terminal.
    """
    from holdfast.cli import key_source
    from holdfast.jobs import worker

    secrets = key_source.asked_ahead(keyfile)
    started = worker.start_detached([word for word in words if word != "--detach"], secrets)
    if started.remark:
        console.remark(started.remark)
    if started.upid is None:
        sys.stderr.write(started.said)
        return started.exit_code or HoldfastError.exit_code
    if args.json:
        console.document({"upid": str(started.upid)})
    else:
        console.data(str(started.upid))
    return EXIT_OK


@contextmanager
def in_journal(
    args: Namespace, console: "Console", worker_type: str, target: str
) -> "Iterator[RunningTask | None]":
    """Enter a task and let the console write into its log; None when the journal is not writable."""
    from holdfast.jobs import worker
    from holdfast.jobs.journal import Journal
    from holdfast.jobs.task_progress import TaskProgress

    try:
        task = Journal(args.state_dir).start(worker_type, target)
    except HoldfastError as error:
        if worker.is_detached_child():
            raise
        console.remark(f"not in the task journal: {error}")
        yield None
        return
    detached = worker.announce(task.upid, task.log_fd) or console.is_redirected
    try:
        with task:
            progress = TaskProgress(task)
            console.join_task(task, progress)
            if detached:
                console.redirect(cast(TextIO, _LogStream(task)), open(os.devnull, "w"))  # noqa: SIM115
            try:
                yield task
            except KeyboardInterrupt as stop:
                raise Stopped(getattr(stop, "number", 2)) from stop
            finally:
                console.leave_task()
                progress.close()
    finally:
        if detached:
            worker.leave_log()


@contextmanager
def limited(
    args: Namespace, settings: "Settings", store_name: str, console: "Console"
) -> Iterator[None]:
    """Take a slot of the store and one of the host, queueing for them, and heed the limits."""
    if console.task is None or console.task_progress is None:
        yield
        return
    from holdfast.config.workers import parse_size
    from holdfast.host.priority import IoClass, be_nice, set_io_class
    from holdfast.jobs.budget import SharedBudget
    from holdfast.jobs.slots import Slot

    workers = settings.workers
    beside = getattr(args, "beside", ())
    be_nice(args.nice if args.nice is not None else workers.nice, beside)
    io_class = IoClass(args.io_class) if args.io_class else workers.io_class
    if not set_io_class(io_class, beside):
        console.remark("the kernel does not allow another class of disk priority")
    read = parse_size(args.read_limit) if args.read_limit else workers.read_bytes_per_second
    write = parse_size(args.write_limit) if args.write_limit else workers.write_bytes_per_second
    progress = console.task_progress
    with ExitStack() as held:
        wanted = ((f"store-{store_name}", workers.per_store), ("host", workers.per_host))
        for name, count in wanted:
            slot = held.enter_context(Slot(os.path.join(args.state_dir, "slots"), name))
            slot.take(count, partial(_say_waiting, console, progress, count))
        progress.waiting("")
        budgets = [
            held.enter_context(SharedBudget(os.path.join(args.state_dir, f"{name}-budget"), rate))
            if rate
            else None
            for name, rate in (("read", read), ("write", write))
        ]
        progress.throttle(reading=budgets[0], writing=budgets[1])
        try:
            yield
        finally:
            progress.throttle(reading=None, writing=None)


def _say_waiting(console: "Console", progress: "TaskProgress", count: int) -> None:
    reason = f"waiting: {count} tasks run already"
    console.remark(reason)
    progress.waiting(reason)


def _finish(task: "RunningTask", code: int, console: "Console") -> None:
    """End the task by the command's exit code."""
    from holdfast.jobs.task_end import TaskEnd

    if console.task_progress is not None:
        console.task_progress.close()
        if code in (EXIT_OK, EXIT_WARNINGS):
            console.task_progress.remember()
    now_s = int(task.journal.clock.now_s())
    warnings = max(task.warnings, console.warning_count)
    if code in (EXIT_OK, EXIT_WARNINGS):
        task.finish(TaskEnd.ok(now_s, warnings=max(warnings, int(code == EXIT_WARNINGS))))
    else:
        task.finish(TaskEnd.failed(now_s, _ENDS.get(code, f"exit code {code}")))


def task_name(name: str, args: Namespace, store_name: str) -> tuple[str, str]:
    """Worker type and id in the manner of Proxmox: what kind of work, on what.

    `backup` STORE:TYPE/ID, `reader` STORE:TYPE/ID/TIME, `verify` STORE, `verify_group`
    STORE:NS/TYPE/ID, `verify_snapshot` STORE:NS/TYPE/ID/TIME, `garbage_collection` STORE, `prune`
    STORE:NS:TYPE/ID, `prunejob` STORE; TIME is 8 upper-case hex digits, NS like ns/a/ns/b.
    """
    from holdfast.host import process

    worker_type = WORKER_TYPES[name]
    namespace = args.ns or ""
    named = next((text for key in _TARGETS if (text := getattr(args, key, None))), None)
    if isinstance(named, list):  # several have no common name: the task is of their store
        named = named[0] if len(named) == 1 else None
    target = _with_hex_time(named) if isinstance(named, str) else None
    if name == "backup":
        backup_type = getattr(args, "type", None) or "host"
        backup_id = getattr(args, "id", None) or process.node_name()
        return worker_type, f"{store_name}:{backup_type}/{backup_id}"
    if name in ("vm backup", "pg backup"):
        group = f"vm/{args.name}" if name == "vm backup" else f"host/{_cluster(args)}"
        return worker_type, f"{store_name}:{group}"
    if target is None:
        return ("prunejob" if name == "prune" else worker_type), store_name
    if name == "verify":
        below = "".join(f"ns/{part}/" for part in namespace.split("/") if part)
        whole = target.count("/") == 1
        return f"verify_{'group' if whole else 'snapshot'}", f"{store_name}:{below}{target}"
    if name == "prune":
        return worker_type, f"{store_name}:{namespace}:{target}"
    return worker_type, f"{store_name}:{target}"


def _cluster(args: Namespace) -> str:
    return str(args.cluster or os.path.basename(os.path.abspath(args.stage)))


def _with_hex_time(text: str) -> str:
    from holdfast.ids import name_to_epoch

    group, _slash, time_name = text.rpartition("/")
    try:
        return f"{group}/{name_to_epoch(time_name):08X}"
    except BadRequest:
        return text


class _LogStream(TextIOBase):
    """stdout of a detached worker: whole lines go into the task's log."""

    def __init__(self, task: "RunningTask") -> None:
        self._task = task
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._task.say(line)
        return len(text)

    def isatty(self) -> bool:
        return False
