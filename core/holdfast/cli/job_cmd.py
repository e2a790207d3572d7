"""`holdfast job`: configured jobs, run by hand, by cron or by the scheduler."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from holdfast.cli import arguments, commands, journaled, plain_text
from holdfast.cli.console import Console
from holdfast.config import edit
from holdfast.config.jobs import JobKind, JobSettings, VerifyPolicy
from holdfast.config.settings import Settings
from holdfast.config.stores import KEEP_NAMES
from holdfast.errors import (
    EXIT_OK,
    EXIT_WARNINGS,
    BadRequest,
    Busy,
    HoldfastError,
    ReadOnlyViolation,
)
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.ids import epoch_to_name
from holdfast.jobs import job_state
from holdfast.jobs.request_flags import RequestFlags
from holdfast.jobs.schedule import next_run_s
from holdfast.jobs.task_end import TaskState
from holdfast.operations.job_plan import plan_of
from holdfast.operations.job_run import JobRun, TaskWriter
from holdfast.operations.job_steps import steps_of

_EXIT_CODES: Final = {TaskState.OK.value: EXIT_OK, TaskState.WARNING.value: EXIT_WARNINGS}


def add_arguments(parser: ArgumentParser) -> None:
    """One verb each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", help="configured jobs, their last end and next start")
    for name, about in (
        ("show", "one job with the commands it runs"),
        ("run", "run a job now; a job that runs already is asked to run once more"),
        ("enable", "let the scheduler start a job again"),
        ("disable", "keep the scheduler from starting a job"),
        ("wait", "return when no run of a job is under way"),
    ):
        verb = verbs.add_parser(name, help=about)
        verb.add_argument("name", metavar="NAME")
        if name == "run":
            verb.add_argument(
                "--wait", action="store_true", help="also for a run of another process"
            )
            verb.add_argument(
                "--detach", action="store_true", help="in the background; prints the UPID"
            )
        if name == "wait":
            verb.add_argument("timeout", nargs="?", type=float, metavar="SECONDS")
    _add_options(verbs.add_parser("add", help="put a new job into the configuration"))


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--kind", choices=[kind.value for kind in JobKind if kind is not JobKind.COMMAND]
    )
    parser.add_argument(
        "--source", action="append", default=[], metavar="SPEC", help="as `backup` takes it"
    )
    parser.add_argument(
        "--schedule", action="append", default=[], metavar="EVENT", help="such as `21:00`"
    )
    parser.add_argument(
        "--verify", choices=[policy.value for policy in VerifyPolicy], help="after each backup"
    )
    for name in KEEP_NAMES:
        parser.add_argument(
            f"--keep-{name}", type=int, metavar="N", help=f"keep N {name} snapshots"
        )


def run(args: Namespace, console: Console) -> int:
    """Do the verb."""
    settings = Settings.read(args.config)
    if args.verb == "list":
        return _list(args, console, settings)
    if args.verb == "add":
        return _add(args, console, settings)
    job = settings.job(args.name)
    if args.verb == "show":
        return _show(args, console, job)
    if args.verb == "wait":
        return _wait(args, console)
    if args.read_only:
        raise ReadOnlyViolation("a job cannot be run or changed with --read-only")
    if args.verb == "run":
        return _run(args, console, settings, job)
    edit.set_value(args.config, ("jobs", job.name, "enabled"), value=args.verb == "enable")
    console.remark(f"job {job.name} is {args.verb}d")
    return EXIT_OK


def _add(args: Namespace, console: Console, settings: Settings) -> int:
    if args.read_only:
        raise ReadOnlyViolation("a job cannot be added with --read-only")
    options: dict[str, str | int | bool | Sequence[str]] = {
        "kind": args.kind or JobKind.BACKUP.value,
        "store": settings.store(args.store).name,
    }
    if args.source:
        options["sources"] = args.source
    if args.schedule:
        options["schedule"] = args.schedule
    if args.verify:
        options["verify"] = args.verify
    for name in KEEP_NAMES:
        if (count := getattr(args, f"keep_{name}")) is not None:
            options[f"keep-{name}"] = count
    edit.add_job(args.config, args.name, options)
    console.remark(f"job {args.name} is in {args.config}")
    return EXIT_OK


# Looking -----------------------------------------------------------------------------------------


def document_of(job: JobSettings, state_directory: str) -> dict[str, Any]:
    """The JSON form of a job and what is remembered of it."""
    state = job_state.read(state_directory, job.name)
    upcoming = next_run_s(plan_of(job), state, SYSTEM_CLOCK.now_s()) if job.enabled else None
    owed, is_running = _flags(state_directory, job.name)
    return {
        "name": job.name,
        "kind": job.kind.value,
        "store": job.store,
        "ns": job.ns or "",
        "enabled": job.enabled,
        "schedule": [event.text for event in job.schedule],
        "next": _time(upcoming or 0),
        "running": is_running,
        "owed": owed,
        "last": {
            "state": state.state or None,
            "start": _time(state.started),
            "end": _time(state.finished),
            "ended_well": _time(state.ended_well),
            "verified": _time(state.verified),
            "duration_s": state.duration_s,
            "upid": state.upid or None,
            "message": state.message,
            "failures": state.failures,
        },
    }


def _flags(state_directory: str, name: str) -> tuple[bool, bool]:
    """Whether a run is owed, and whether one is under way; looking needs no write access."""
    try:
        with RequestFlags.open_to_watch(job_state.flags_path(state_directory, name)) as flags:
            return flags.flags().owed != 0, flags.is_worker_alive()
    except OSError:
        return False, False


def _time(moment_s: int) -> str | None:
    return epoch_to_name(moment_s) if moment_s else None


def _list(args: Namespace, console: Console, settings: Settings) -> int:
    documents = [document_of(job, args.state_dir) for job in settings.jobs.values()]
    if args.json:
        console.document(documents)
        return EXIT_OK
    rows = [["NAME", "KIND", "STORE", "SCHEDULE", "LAST", "STATE", "NEXT"]] if documents else []
    for document in documents:
        last = document["last"]
        state = "running" if document["running"] else last["state"] or "never ran"
        if document["owed"] and not document["running"]:
            state += ", owed"
        rows.append(
            [
                document["name"],
                document["kind"],
                document["store"] or "",
                ", ".join(document["schedule"]),
                last["end"] or "",
                state,
                (document["next"] or "") if document["enabled"] else "disabled",
            ]
        )
    console.lines(rows)
    return EXIT_OK


def _show(args: Namespace, console: Console, job: JobSettings) -> int:
    document = document_of(job, args.state_dir)
    document["commands"] = [list(step.words) for step in steps_of(job)]
    if args.json:
        console.document(document)
        return EXIT_OK
    last = document.pop("last")
    rows = [[key, _shown(value)] for key, value in document.items() if key != "commands"]
    rows += [[f"last {key}", _shown(value)] for key, value in last.items()]
    rows += [["runs", f"holdfast {' '.join(words)}"] for words in document["commands"]]
    console.lines(rows)
    return EXIT_OK


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _wait(args: Namespace, console: Console) -> int:
    try:
        with RequestFlags.open_to_watch(job_state.flags_path(args.state_dir, args.name)) as flags:
            if not flags.wait(args.timeout):
                raise Busy(f"job {args.name} still runs after {args.timeout:g} s")
    except FileNotFoundError:
        console.detail("it never ran")
    return EXIT_OK


# Running -----------------------------------------------------------------------------------------


def _run(args: Namespace, console: Console, settings: Settings, job: JobSettings) -> int:
    if args.detach:
        words = ["--config", args.config, "--state-dir", args.state_dir, "job", "run", job.name]
        return journaled.detach(args, console, words, keyfile=_key_path(settings, job))

    @contextmanager
    def open_task() -> Iterator[tuple[TaskWriter, str]]:
        target = f"{job.store}:{job.name}" if job.store else job.name
        with journaled.in_journal(args, console, f"{job.kind.value}job", target) as task:
            if task is None:
                raise HoldfastError(f"the journal in {args.state_dir} cannot be written")
            yield task, str(task.upid)
            if console.task_progress is not None:
                console.task_progress.close()
                console.task_progress.remember()

    def run_command(words: Sequence[str]) -> int:
        return _run_inside(words, args, console)

    job_run = JobRun(
        job=job,
        notifiers=settings.notifiers,
        state_directory=args.state_dir,
        run_command=run_command,
        open_task=open_task,
    )
    worked = job_run.run()
    if not worked:
        console.remark(f"job {job.name} runs already; it will run once more after that")
        if not args.wait:
            return EXIT_OK
        with RequestFlags.open_to_watch(job_state.flags_path(args.state_dir, job.name)) as flags:
            flags.wait()
    state = job_state.read(args.state_dir, job.name)
    if args.json:
        console.document(document_of(job, args.state_dir))
    else:
        span = plain_text.span_text(state.duration_s)
        console.remark(f"job {job.name}: {state.state or 'done'} in {span}")
    return _EXIT_CODES.get(state.state, HoldfastError.exit_code)


def _key_path(settings: Settings, job: JobSettings) -> str | None:
    """The key that the job's commands will use."""
    if job.kind not in (JobKind.BACKUP, JobKind.VERIFY):
        return None
    return job.keyfile or settings.store(job.store).keyfile


def _run_inside(words: Sequence[str], args: Namespace, console: Console) -> int:
    """Run one command of a job in this process, inside its task."""
    before, name, rest = arguments.split_command(words)
    command = commands.find(name or "")
    if command is None:
        raise BadRequest(f"there is no command {name!r}")
    inner = arguments.parse(arguments.parser_of(command), [*before, *rest])
    inner.config, inner.state_dir, inner.json = args.config, args.state_dir, False
    inner_console = console.derived(inner)
    full_name = journaled.full_name(command.name, inner)
    module = command.load()
    with ExitStack() as held:
        held.enter_context(journaled.prepared(module, inner))
        if journaled.is_long(full_name):
            settings = Settings.read(args.config)
            store_name = settings.store(inner.store).name
            held.enter_context(journaled.limited(inner, settings, store_name, inner_console))
        code = module.run(inner, inner_console)
    inner_console.flush()
    return EXIT_WARNINGS if code == EXIT_OK and inner_console.warning_count else code
