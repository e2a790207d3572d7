"""The process behind `wal push`: one background sync, entered into the task journal.

Run as `python -m holdfast.cli.wal_worker STAGE FD`, where FD is the stage's request file, open and
with the locks of a worker. What it says goes to the stage's log and into the task's.
"""

import os
import signal
import sys
import time
from argparse import Namespace
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdfast.errors import EXIT_OK, HoldfastError
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.operations.wal_carry import Carried, CarryTarget, carry
from holdfast.operations.wal_sync import Sync, run_base_command
from holdfast.postgres.base_record import BaseRecord
from holdfast.postgres.wal_stage import LOG_NAME, StageSettings, WalStage

if TYPE_CHECKING:
    from holdfast.cli.console import Console

TASK_TYPE: Final = "walsync"
_LOG_BYTES_MAX: Final = 4 << 20


def fill_in(args: Namespace, settings: StageSettings) -> None:
    """What the command line did not say, the stage says."""
    args.store = getattr(args, "store", None) or settings.store or None
    args.ns = getattr(args, "ns", None) or settings.ns or None
    args.keyfile = getattr(args, "keyfile", None) or settings.keyfile or None


def arguments_of(settings: StageSettings) -> Namespace:
    """Global options as a command line with the stage's settings would have them."""
    from holdfast.cli import arguments

    args = Namespace()
    for name in ("store", "ns", "config", "state_dir", "keyfile"):
        if value := getattr(settings, name):
            setattr(args, name, value)
    args.read_only = False
    arguments.complete(args)
    return args


class StoreWork:
    """What a sync does with the store; see operations.wal_sync.Work."""

    def __init__(self, stage: WalStage, args: Namespace) -> None:
        self._stage = stage
        self._args = args

    def carry(self) -> Carried:
        from holdfast.cli import key_source, selection
        from holdfast.datastore.manifest import CryptMode
        from holdfast.datastore.session import SessionSettings
        from holdfast.postgres.wal_catalogue import wal_group

        store = selection.open_to_write(self._args)
        key = key_source.load_key(self._args)
        target = CarryTarget(
            store=store,
            group=wal_group(self._stage.settings.cluster, selection.namespace(self._args)),
            settings=SessionSettings(
                key=key,
                crypt_mode=CryptMode.NONE if key is None else CryptMode.ENCRYPT,
                wrapped_key=key_source.wrapped_key(self._args, key),
            ),
        )
        return carry(self._stage, target)

    def take_base(self) -> BaseRecord:
        settings = self._stage.settings
        words = list(settings.base_command)
        if not words:
            words = [sys.executable, "-m", "holdfast", "--json"]
            for option, value in (
                ("--config", settings.config),
                ("--state-dir", settings.state_dir),
                ("--store", settings.store),
                ("--ns", settings.ns),
                ("--keyfile", settings.keyfile),
            ):
                words += [option, value] if value else []
            words += ["pg", "backup", "--stage", self._stage.path, "--full"]
        return run_base_command(words, cwd=self._stage.path)


def sync_in_foreground(stage: WalStage, args: Namespace, flags: int, console: "Console") -> bool:
    """Be the worker for `flags`; False when another one was told instead (HoldfastError)."""
    own = arguments_of(stage.settings)
    for name in ("store", "ns", "keyfile"):
        if value := getattr(args, name, None):
            setattr(own, name, value)
    sync = Sync(stage, StoreWork(stage, own), say=console.remark)
    return sync.serve(flags)


def main(words: list[str]) -> int:
    """Take over the locks that were inherited, and work."""
    stage_path, fd = words[0], int(words[1])
    os.set_inheritable(fd, False)  # noqa: FBT003
    os.chdir(stage_path)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _shorten_log(stage_path)
    with WalStage.open(stage_path, requests_fd=fd) as stage:
        args = arguments_of(stage.settings)
        with suppress(KeyboardInterrupt):
            _run(stage, args)
    return EXIT_OK


def _run(stage: WalStage, args: Namespace) -> None:
    from holdfast.jobs.journal import Journal
    from holdfast.jobs.task_end import TaskEnd

    try:
        task = Journal(args.state_dir).start(TASK_TYPE, stage.settings.cluster)
    except HoldfastError as error:
        _log(f"not in the task journal: {error.message}")
        Sync(stage, StoreWork(stage, args), say=_log).take_over()
        return

    def say(text: str) -> None:
        _log(text)
        task.say(text)

    with task:
        Sync(stage, StoreWork(stage, args), say=say).take_over()
        task.finish(TaskEnd.ok(int(SYSTEM_CLOCK.now_s()), warnings=0))


def _log(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{now} {text}\n")
    sys.stderr.flush()


def _shorten_log(stage_path: str) -> None:
    path = os.path.join(stage_path, LOG_NAME)
    with suppress(OSError):
        if os.stat(path).st_size > _LOG_BYTES_MAX:
            os.truncate(path, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
