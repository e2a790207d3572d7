"""`holdfast scheduler`: a service in the foreground that starts configured jobs when due."""

import time
from argparse import ArgumentParser, Namespace
from typing import NoReturn

from holdfast.cli.console import Console
from holdfast.config.settings import Settings
from holdfast.errors import EXIT_OK, HoldfastError, ReadOnlyViolation
from holdfast.host import service
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.jobs import worker
from holdfast.operations import metrics
from holdfast.operations.change_watch import ChangeWatch
from holdfast.operations.metrics import MetricsServer, MetricsSettings
from holdfast.operations.scheduler import Scheduler


def add_arguments(parser: ArgumentParser) -> None:
    """One look, or for ever."""
    parser.add_argument(
        "--once", action="store_true", help="start what is due and return; for cron or a timer"
    )


def run(args: Namespace, console: Console) -> int:
    """Run until a signal comes."""
    if args.read_only:
        raise ReadOnlyViolation("the scheduler cannot work with --read-only")

    def start(name: str) -> None:
        words = ["--config", args.config, "--state-dir", args.state_dir, "job", "run", name]
        started = worker.start_detached(words)
        if started.upid is None and started.exit_code:
            raise HoldfastError(started.said.strip() or f"exit code {started.exit_code}")

    watch = ChangeWatch(console.remark)
    scheduler = Scheduler(
        config_path=args.config,
        state_directory=args.state_dir,
        start=start,
        say=console.remark,
        changes=None if args.once else watch,
    )
    if args.once:
        started = scheduler.tick()
        if args.json:
            console.document({"started": started})
        return EXIT_OK
    server = _serve_metrics(args, console)
    try:
        _loop(args, scheduler)
    finally:
        service.notify("STOPPING=1")
        watch.close()
        if server is not None:
            server.close()


def _loop(args: Namespace, scheduler: Scheduler) -> NoReturn:
    scheduler.tick()
    service.notify("READY=1")
    beat_s = service.watchdog_s()
    while True:
        _export(args, scheduler)
        wake_s = scheduler.wake_s()
        service.notify(
            f"WATCHDOG=1\nSTATUS={len(_jobs(scheduler))} jobs, next look in {wake_s:.0f} s"
        )
        SYSTEM_CLOCK.wait(min(wake_s, beat_s) if beat_s else wake_s)
        scheduler.tick()
        worker.reap()


def _jobs(scheduler: Scheduler) -> list[str]:
    return list(scheduler.settings.jobs) if scheduler.settings else []


def _export(args: Namespace, scheduler: Scheduler) -> None:
    settings = scheduler.settings
    if settings is None:
        return
    path = MetricsSettings.parse(settings.source.root.table("metrics")).file
    if path:
        try:
            metrics.write_file(path, metrics.text_of(settings, args.state_dir, time.time()))
        except HoldfastError as error:
            scheduler.say(str(error))


def _serve_metrics(args: Namespace, console: Console) -> MetricsServer | None:
    settings = Settings.read(args.config)
    wanted = MetricsSettings.parse(settings.source.root.table("metrics"))
    if not wanted.host:
        return None

    def text() -> str:
        return metrics.text_of(Settings.read(args.config), args.state_dir, time.time())

    try:
        server = MetricsServer(wanted.host, wanted.port, text)
    except OSError as error:
        raise HoldfastError(
            f"cannot listen on {wanted.host}:{wanted.port}: {error.strerror}"
        ) from error
    console.remark(f"figures on http://{wanted.host}:{server.port}/metrics")
    return server
