"""`holdfast systemd install`: unit files for the scheduler or for timers."""

import os
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from holdfast.cli.console import Console
from holdfast.config.settings import Settings
from holdfast.errors import EXIT_OK, ReadOnlyViolation
from holdfast.host import files
from holdfast.jobs.journal import make_directories
from holdfast.operations.service_units import Unit, scheduler_units, timer_units

_SYSTEM: Final = "/etc/systemd/system"


def add_arguments(parser: ArgumentParser) -> None:
    """One verb."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    install = verbs.add_parser("install", help="write unit files")
    install.add_argument(
        "--timers", action="store_true", help="a timer per job instead of the scheduler"
    )
    install.add_argument("--user", action="store_true", help="for this user's own service manager")
    install.add_argument("--directory", metavar="DIR", help="write the files there")
    install.add_argument(
        "-n", "--dry-run", action="store_true", help="print the files, write nothing"
    )


def run(args: Namespace, console: Console) -> int:
    """Write or print the units."""
    for_user = args.user or (os.geteuid() != 0 and not args.directory)
    command = [*_program(), "--config", args.config, "--state-dir", args.state_dir]
    if args.timers:
        jobs = list(Settings.read(args.config).jobs.values())
        units = list(timer_units(command, jobs, for_user=for_user))
    else:
        units = scheduler_units(command, for_user=for_user)
    directory = os.path.abspath(args.directory or _directory(for_user=for_user))
    if args.dry_run:
        _print(units, directory, console)
        return EXIT_OK
    if args.read_only:
        raise ReadOnlyViolation("unit files cannot be written with --read-only")
    with files.explained(f"writing unit files to {directory}"):
        make_directories(directory)
        for unit in units:
            files.replace_file(os.path.join(directory, unit.name), [unit.text.encode()], sync=True)
    if args.json:
        console.document({"directory": directory, "units": [unit.name for unit in units]})
        return EXIT_OK
    for unit in units:
        console.data(os.path.join(directory, unit.name))
    control = "systemctl --user" if for_user else "systemctl"
    names = " ".join(unit.name for unit in units if "@" not in unit.name)
    console.remark(f"now run: {control} daemon-reload && {control} enable --now {names}")
    return EXIT_OK


def _print(units: list[Unit], directory: str, console: Console) -> None:
    if console.wants_json:
        console.document({os.path.join(directory, unit.name): unit.text for unit in units})
        return
    for unit in units:
        console.data(f"# {os.path.join(directory, unit.name)}")
        console.data(unit.text)


def _directory(*, for_user: bool) -> str:
    if not for_user:
        return _SYSTEM
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "systemd", "user")


def _program() -> list[str]:
    program = os.path.realpath(sys.argv[0])
    if os.path.basename(program) == "holdfast" and os.access(program, os.X_OK):
        return [program]
    return [sys.executable, "-m", "holdfast"]
