"""Take WAL over as it is written, instead of segment by segment: the server's own pg_receivewal.

It runs with a replication slot, so the server keeps what was not received yet, and flushes at once.
A finished segment goes to the stage like one that was pushed; the newest stays where it is, because
pg_receivewal continues from there. The unfinished one, `NAME.partial`, is what `wal get` gives a
recovering server last: then not even the transactions of the last minute are lost.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.errors import HoldfastError, NotFound
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.postgres.wal_names import WalKind, WalName, parse_wal_name
from holdfast.postgres.wal_push import ask_for_sync, store_file
from holdfast.postgres.wal_stage import ARCHIVE, SNAPSHOT, STREAM_DIRECTORY, WalStage

SLOT_DEFAULT: Final = "holdfast"
PROGRAM: Final = "pg_receivewal"
_LOOK_S: Final = 0.5
_END_S: Final = 20
_INSTALLED: Final = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """Which server, by which slot, and what is told meanwhile."""

    stage: WalStage
    connection: str
    slot: str = SLOT_DEFAULT
    say: Callable[[str], None]


def stream(request: StreamRequest, *, clock: Clock = SYSTEM_CLOCK) -> None:
    """Receive until this process is asked to stop.

    Raises:
        NotFound: pg_receivewal is not installed.
        HoldfastError: it ended by itself, or a segment could not be stored.
    """
    directory = os.path.join(request.stage.path, STREAM_DIRECTORY)
    with files.explained(f"making {directory}"):
        os.makedirs(directory, mode=0o700, exist_ok=True)
    program = find_program()
    where = [program, "--no-password", "-d", request.connection, "--slot", request.slot]
    _run([*where, "--create-slot", "--if-not-exists"])
    with _receiving([*where, "-D", directory, "--synchronous"]) as child:
        try:
            while child.poll() is None:
                take_over(request.stage, directory, request.say)
                clock.wait(_LOOK_S)
        finally:
            take_over(request.stage, directory, request.say)
    raise HoldfastError(f"{PROGRAM} ended with exit code {child.returncode}")


def take_over(stage: WalStage, directory: str, say: Callable[[str], None]) -> int:
    """Store what is finished, and keep the newest segment for pg_receivewal; how many were new.

    Raises:
        HoldfastError: a file could not be stored; it stays where it is.
    """
    with files.explained(f"listing {directory}"):
        names = sorted(os.listdir(directory))
    finished = [name for name in map(_finished, names) if name is not None]
    newest = max((one.text for one in finished if one.kind is WalKind.SEGMENT), default="")
    new_count, flags = 0, 0
    for name in finished:
        path = os.path.join(directory, name.text)
        pushed = store_file(stage, path)
        new_count += pushed.is_new
        flags |= (ARCHIVE if pushed.is_new else 0) | (SNAPSHOT if pushed.went_back else 0)
        if name.text != newest:
            with files.explained(f"removing {path}"):
                files.unlink(path)
    if flags:
        say(f"{new_count} WAL files received")
        ask_for_sync(stage, flags)
    return new_count


def find_program() -> str:
    """pg_receivewal of the path, or the newest one that is installed (NotFound)."""
    found = shutil.which(PROGRAM)
    if found:
        return found
    versions = [path for path in _INSTALLED.glob(f"*/bin/{PROGRAM}") if path.parts[-3].isdigit()]
    if not versions:
        raise NotFound(f"{PROGRAM} is not installed", hint="it comes with PostgreSQL's clients")
    return str(max(versions, key=lambda path: int(path.parts[-3])))


def _finished(name: str) -> WalName | None:
    """A file that pg_receivewal is done with; None for any other."""
    with suppress(HoldfastError):
        parsed = parse_wal_name(name)
        return parsed if parsed.kind in (WalKind.SEGMENT, WalKind.HISTORY) else None
    return None


def _run(words: list[str]) -> None:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise HoldfastError(f"{PROGRAM}: {last[0]}")


@contextmanager
def _receiving(words: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The program in the background; asked to end at the end of the block."""
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(_END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
