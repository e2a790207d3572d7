"""The background sync of a cluster: one worker that carries WAL, runs the script, takes bases.

It holds BACKUP and WAIT of the stage's request file for its whole life. Each round publishes what
it works on, works with STATE free, and collects what was asked for meanwhile; the last look and the
release of the locks are one step, so no request is lost and nobody waits for ever. A round that
fails is repeated after a growing pause, for ever. What a killed worker had published is taken up by
the next one.

The user's script inherits a lock (`script.lock`): when a worker is killed, the next one waits until
what is left of the script has ended, so two never run at once.
"""

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from holdfast.errors import EXIT_OK, EXIT_WARNINGS, BadRequest, Busy, HoldfastError
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode, try_flock
from holdfast.ids import SnapshotId
from holdfast.operations.wal_carry import Carried, leave_stage
from holdfast.operations.wal_tidy import tidy_stage
from holdfast.postgres import sync_steps
from holdfast.postgres.base_record import BaseRecord
from holdfast.postgres.sync_steps import Action, Step
from holdfast.postgres.wal_stage import ARCHIVE, Generation, WalStage

SCRIPT_NAME: Final = "scripts/backup"
SCRIPT_LOCK_NAME: Final = "script.lock"
_PR_SET_PDEATHSIG: Final = 1
_OUTPUT_BYTES_MAX: Final = 1 << 20

Say = Callable[[str], None]


class Work(Protocol):
    """What a sync needs others for."""

    def carry(self) -> Carried:
        """Bring WAL into the store (HoldfastError)."""
        ...

    def take_base(self) -> BaseRecord:
        """Take a full base backup (HoldfastError)."""
        ...


@dataclass(slots=True)
class _Life:
    """What one worker remembers between rounds."""

    pause_s: float
    moment_s: int = 0
    wants_moment: bool = True
    took_base: bool = False


class Sync:
    """One worker's life; see the module."""

    def __init__(
        self, stage: WalStage, work: Work, *, say: Say, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._stage = stage
        self._work = work
        self._say = say
        self._clock = clock
        self._life = _Life(pause_s=stage.settings.pause_s_first)

    def serve(self, flags: int) -> bool:
        """Ask for `flags` and be the worker until nothing is owed; False when another is one.

        Raises:
            HoldfastError: the request file cannot be used; what was owed stays so.
        """
        owed = self._stage.requests.begin(flags)
        if owed is None:
            return False
        if owed:
            self._run(owed)
        return True

    def take_over(self) -> None:
        """Be the worker whose locks were inherited and whose flags were published."""
        requests = self._stage.requests
        running = requests.flags().running
        self._run(running | requests.collect())

    def _run(self, owed: int) -> None:
        """Work until nothing is owed; STATE is held at the beginning of every round."""
        requests = self._stage.requests
        life = self._life
        while owed:
            try:
                step = sync_steps.choose(owed, has_base=self._base() is not None)
                if step.action is Action.ARCHIVE and life.wants_moment:
                    life.moment_s, life.wants_moment = int(self._clock.now_s()), False
            except BaseException:
                requests.abandon(owed)
                raise
            requests.publish(step.owed)
            try:
                is_done = self._do(step)
                left = sync_steps.owed_after(
                    step,
                    is_done=is_done,
                    is_base_due=step.action is Action.ARCHIVE and self._is_base_due(),
                    took_base=life.took_base,
                )
                self._after(step, is_done=is_done)
            except BaseException:
                requests.collect()
                requests.abandon(step.owed)
                raise
            arrived = requests.collect()
            life.wants_moment = life.wants_moment or bool(arrived & ARCHIVE)
            owed = left | arrived
        requests.finish()

    def _do(self, step: Step) -> bool:
        """One step; False when it failed."""
        try:
            if step.action is Action.ARCHIVE:
                self._archive()
            else:
                self._take_base()
        except HoldfastError as error:
            self._say(f"{step.action.value}: {error.message}")
            return False
        except Exception as error:  # noqa: BLE001  # the worker's edge: it goes on for ever
            self._say(f"{step.action.value}: unexpected {type(error).__name__}: {error}")
            return False
        return True

    def _after(self, step: Step, *, is_done: bool) -> None:
        life = self._life
        settings = self._stage.settings
        if not is_done:
            self._say(f"trying again in {life.pause_s:.3g} s")
            self._clock.wait(life.pause_s)
            life.pause_s = sync_steps.next_pause(life.pause_s, pause_s_max=settings.pause_s_max)
            return
        life.pause_s = settings.pause_s_first
        if step.action is Action.SNAPSHOT:
            life.took_base = life.wants_moment = True

    # Steps ----------------------------------------------------------------------------------------

    def _archive(self) -> None:
        generation = self._stage.current()
        base = self._base()
        if generation is None or base is None:
            raise Busy("the history changed just now")
        carried = self._work.carry()
        if carried.file_count:
            self._say(f"{carried.file_count} WAL files are in the store")
            base = base.grown(segments=carried.segments, wal_bytes=carried.staged_bytes)
            base.write(generation)
        self._run_script(generation, base)
        leave_stage(self._stage)
        tidy_stage(self._stage)
        if carried.damaged:
            raise HoldfastError("; ".join(carried.damaged), hint="is the disk of the stage well?")

    def _take_base(self) -> None:
        generation = self._stage.current()
        if generation is None:
            generation = self._stage.begin_generation(int(self._clock.now_s()), instead_of=None)
        self._say("taking a full base backup")
        record = self._work.take_base()
        current = self._stage.current()
        if current is None or current.name != generation.name:
            raise Busy("time went back while the base backup was taken; it is of no use")
        record.write(generation)
        self._say(f"base backup {record.snapshot} taken")

    def _base(self) -> BaseRecord | None:
        """The base of the current history; None without a usable one."""
        generation = self._stage.current()
        return None if generation is None else BaseRecord.read(generation)

    def _is_base_due(self) -> bool:
        base = self._base()
        return base is not None and sync_steps.is_base_due(
            segments=base.wal_segments, wal_bytes=base.wal_bytes, base_bytes=base.base_bytes
        )

    def _run_script(self, generation: Generation, base: BaseRecord) -> None:
        """Let the user's script carry the generation away; it may not be there at all."""
        script = os.path.join(self._stage.path, SCRIPT_NAME)
        if not os.access(script, os.X_OK):
            return
        lock_path = os.path.join(self._stage.path, SCRIPT_LOCK_NAME)
        with files.explained(f"running {script}"):
            lock = files.open_update(lock_path, mode=0o600)
            try:
                if not try_flock(lock, LockMode.EXCLUSIVE):
                    raise Busy("what an earlier sync started still runs", hint=f"see {script}")
                words = [script, str(base.time_s), str(self._life.moment_s)]
                code = run_child(words, cwd=generation.path, keeps=(lock,))
            finally:
                os.close(lock)
        if code != 0:
            raise HoldfastError(f"{SCRIPT_NAME} ended with exit code {code}")


def run_child(
    words: Sequence[str], *, cwd: str, keeps: Sequence[int] = (), stdout: int | None = None
) -> int:
    """Run a program that ends when this process dies; its exit code (OSError).

    `keeps`: descriptors it inherits, with their locks; `stdout`: where it prints to.
    """
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    child = subprocess.Popen(
        words,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        pass_fds=tuple(keeps),
        preexec_fn=die_with_parent,  # noqa: PLW1509  # one thread, and nothing but a system call
    )
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def run_base_command(words: Sequence[str], *, cwd: str) -> BaseRecord:
    """Take a base backup with another program, which prints JSON with the snapshot's name.

    Raises:
        HoldfastError: it failed, or did not say what it made.
    """
    output = os.memfd_create("base backup")
    try:
        with files.explained(f"running {words[0]}"):
            code = run_child(words, cwd=cwd, stdout=output)
        text = os.pread(output, _OUTPUT_BYTES_MAX, 0)
    finally:
        os.close(output)
    if code not in (EXIT_OK, EXIT_WARNINGS):
        raise HoldfastError(f"the base backup ended with exit code {code}")
    with suppress(ValueError, KeyError, TypeError, AttributeError, BadRequest):
        said = json.loads(text)
        snapshot = SnapshotId.parse(said["snapshot"])
        stored = said.get("stored_bytes")
        if stored is None:
            stored = sum(archive["stored_bytes"] for archive in said.get("archives", ()))
        return BaseRecord(snapshot=str(snapshot), time_s=snapshot.time_s, base_bytes=int(stored))
    raise HoldfastError("the base backup did not say which snapshot it made")
