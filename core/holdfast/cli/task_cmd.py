"""`holdfast task`: what runs and what ran; watching needs read access to the journal only."""

import signal
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from holdfast.cli import plain_text
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK, EXIT_WARNINGS, HoldfastError, NotFound, ReadOnlyViolation
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.ids import epoch_to_name
from holdfast.jobs import worker
from holdfast.jobs.journal import Journal, TaskView, follow_log
from holdfast.jobs.progress_record import ProgressRecord
from holdfast.jobs.task_end import TaskState

_LIMIT: Final = 50
_STOP_WAIT_S: Final = 30.0
_LOOK_S: Final = 0.2
_STYLES: Final = {
    TaskState.OK: "good",
    TaskState.WARNING: "warning",
    TaskState.FAILED: "bad",
    TaskState.UNKNOWN: "bad",
    TaskState.STOPPED: "warning",
    TaskState.RUNNING: "title",
}
_EXIT_CODES: Final = {TaskState.OK: EXIT_OK, TaskState.WARNING: EXIT_WARNINGS}


def add_arguments(parser: ArgumentParser) -> None:
    """One verb each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="tasks, newest first")
    listing.add_argument("--running", action="store_true", help="only those that run")
    listing.add_argument("--limit", type=int, default=_LIMIT, metavar="N", help="ended tasks shown")
    for name, about in (
        ("show", "one task with its progress"),
        ("log", "the log of a task"),
        ("attach", "watch a task until it ends; leaving (Ctrl-C) does not stop it"),
        ("stop", "end a task cleanly; a second time, at once"),
        ("pause", "let a task sleep where it is"),
        ("resume", "let a paused task go on"),
    ):
        verb = verbs.add_parser(name, help=about)
        verb.add_argument("upid", metavar="UPID", help="the task, the start of its UPID, or `last`")
        if name == "log":
            verb.add_argument(
                "-f", "--follow", action="store_true", help="go on until the task ends"
            )
        if name == "stop":
            verb.add_argument("--now", action="store_true", help="at once, without clearing up")
            verb.add_argument(
                "--wait",
                type=float,
                default=_STOP_WAIT_S,
                metavar="SECONDS",
                help="how long to wait for its end (default 30)",
            )


def run(args: Namespace, console: Console) -> int:
    """Do the verb."""
    journal = Journal(args.state_dir)
    if args.verb == "list":
        return _list(args, console, journal)
    view = journal.find(args.upid)
    if args.verb == "show":
        return _show(view, console)
    if args.verb == "log":
        return _log(args, console, journal, view)
    if args.verb == "attach":
        return _attach(console, journal, view)
    if args.read_only:
        raise ReadOnlyViolation("a task cannot be changed with --read-only")
    if args.verb == "stop":
        return _stop(args, console, journal, view)
    return _pause_or_resume(args, console, view)


# Showing -----------------------------------------------------------------------------------------


def document_of(view: TaskView) -> dict[str, Any]:
    """The JSON form of a task."""
    upid, progress = view.upid, view.progress
    return {
        "upid": str(upid),
        "kind": upid.worker_type,
        "target": upid.worker_id,
        "state": view.state.value,
        "start": epoch_to_name(upid.start_s),
        "end": None if view.end is None else epoch_to_name(view.end.end_s),
        "progress": None if progress is None else _progress_document(progress),
        "message": view.message,
        "user": upid.auth_id,
        "pid": upid.pid,
        "paused": view.is_paused,
        "queued": bool(progress and progress.waiting_for),
    }


def _progress_document(progress: ProgressRecord) -> dict[str, Any]:
    return {
        "done": progress.done,
        "total": progress.total,
        "unit": progress.unit,
        "rate": progress.rate,
        "eta_s": progress.eta_s,
        "phase": progress.phase,
        "item": progress.item,
        "done_items": progress.done_items,
        "total_items": progress.total_items,
        "expected_items": progress.expected_items,
        "fraction": progress.fraction,
        "new_bytes": progress.new_bytes,
        "warnings": progress.warnings,
    }


def progress_text(progress: ProgressRecord | None) -> str:
    """`files  41 %  2.1 GiB of 5.0 GiB  380 MiB/s  8 s left`, as far as it is known."""
    if progress is None:
        return ""
    if progress.waiting_for:
        return progress.waiting_for
    parts = [progress.phase] if progress.phase else []
    if progress.fraction is not None:
        parts.append(f"{int(100 * progress.fraction)} %")
    counts_bytes = progress.unit == "bytes"
    amount = plain_text.size_text if counts_bytes else _count
    if progress.done or progress.total:
        total = f" of {amount(progress.total)}" if progress.total else ""
        parts.append(f"{amount(progress.done)}{total}")
    if progress.rate:
        parts.append(f"{amount(progress.rate)}/s")
    if progress.total or progress.expected_items:
        left = progress.eta_s
        parts.append("time left unknown" if left is None else f"{plain_text.span_text(left)} left")
    return "  ".join(parts)


def _count(amount: float) -> str:
    return f"{amount:,.0f}"


def _list(args: Namespace, console: Console, journal: Journal) -> int:
    views = journal.tasks(limit=max(0, args.limit))
    if args.running:
        views = [view for view in views if view.state is TaskState.RUNNING]
    if args.json:
        console.document([document_of(view) for view in views])
        return EXIT_OK
    rows = [["START", "STATE", "KIND", "TARGET", "", "UPID"]] if views else []
    rows += [_row(view) for view in views]
    console.lines(rows)
    return EXIT_OK


def _row(view: TaskView) -> list[str]:
    state = "paused" if view.is_paused else view.state.value
    about = progress_text(view.progress) if view.end is None else view.message
    return [
        epoch_to_name(view.upid.start_s),
        state,
        view.upid.worker_type,
        view.upid.worker_id,
        about[:60],
        str(view.upid),
    ]


def _show(view: TaskView, console: Console) -> int:
    if console.wants_json:
        console.document(document_of(view))
        return EXIT_OK
    upid = view.upid
    rows = [
        ["task", str(upid)],
        ["kind", upid.worker_type],
        ["target", upid.worker_id],
        ["user", upid.auth_id],
        ["process", str(upid.pid)],
        ["state", "paused" if view.is_paused else view.state.value],
        ["started", epoch_to_name(upid.start_s)],
    ]
    if view.end is not None:
        rows.append(["ended", epoch_to_name(view.end.end_s)])
    if view.message:
        rows.append(["message", view.message])
    if view.progress is not None:
        rows.append(["progress", progress_text(view.progress)])
        rows.append(["item", view.progress.item])
    console.lines(rows)
    return EXIT_OK


def _log(args: Namespace, console: Console, journal: Journal, view: TaskView) -> int:
    if args.follow:
        for data in follow_log(journal, view.upid):
            console.data_bytes(_harmless(data))
            console.flush()
        return EXIT_OK
    try:
        with open(journal.log_path(view.upid), "rb") as file:
            while data := file.read(1 << 16):
                console.data_bytes(_harmless(data))
    except FileNotFoundError:
        raise NotFound("the log of this task is gone") from None
    return EXIT_OK


def _harmless(data: bytes) -> bytes:
    """A log may quote names: no control bytes but line ends and tabs reach the terminal."""
    return data.translate(None, bytes(range(9)) + bytes(range(11, 32)) + b"\x7f")


def _attach(console: Console, journal: Journal, view: TaskView) -> int:
    try:
        with console.progress():
            while view.end is None:
                if console.has_status_line:
                    console.status_line(_attached_line(view))
                SYSTEM_CLOCK.wait(_LOOK_S)
                view = journal.view(view.upid)
    except KeyboardInterrupt:
        console.remark(f"the task goes on: {view.upid}")
        return EXIT_OK
    if console.wants_json:
        console.document(document_of(view))
    else:
        state = console.styled(view.state.value, _STYLES[view.state])
        console.data(f"{state}  {plain_text.harmless(view.message)}".rstrip())
    return _EXIT_CODES.get(view.state, HoldfastError.exit_code)


def _attached_line(view: TaskView) -> str:
    state = "paused  " if view.is_paused else ""
    item = plain_text.harmless(view.progress.item) if view.progress else ""
    return f"{state}{plain_text.harmless(progress_text(view.progress))}  {item}"[:150]


# Changing ----------------------------------------------------------------------------------------


def _stop(args: Namespace, console: Console, journal: Journal, view: TaskView) -> int:
    if view.end is not None:
        console.remark(f"the task has ended already: {view.state.value}")
        return EXIT_OK
    if args.now:
        worker.send(view.upid, signal.SIGKILL)
    else:
        worker.stop(view.upid)
    deadline = SYSTEM_CLOCK.monotonic_s() + max(0.0, args.wait)
    while SYSTEM_CLOCK.monotonic_s() < deadline:
        view = journal.view(view.upid)
        if view.end is not None:
            break
        SYSTEM_CLOCK.wait(_LOOK_S / 4)
    if view.state is TaskState.UNKNOWN:
        journal.end_stopped_at_once(view.upid)
        view = journal.view(view.upid)
    if view.end is None:
        console.remark(
            "it was asked to stop and is still clearing up; stop it again to end it at once"
        )
    elif console.wants_json:
        console.document(document_of(view))
    else:
        console.data(f"{view.state.value}: {plain_text.harmless(view.message)}")
    return EXIT_OK


def _pause_or_resume(args: Namespace, console: Console, view: TaskView) -> int:
    if view.end is not None:
        raise NotFound("the task has ended already")
    if args.verb == "pause":
        worker.send(view.upid, signal.SIGSTOP)
        console.remark("paused; it keeps its locks until it goes on with `holdfast task resume`")
    else:
        worker.send(view.upid, signal.SIGCONT)
    return EXIT_OK
