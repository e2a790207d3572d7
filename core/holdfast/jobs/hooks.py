"""Programs of the administrator's around a job.

A hook gets no shell, a time limit, the job's facts in its environment (HOLDFAST_JOB, _STATE, ...),
and its output goes into the task's log line by line. It runs in its own process group, which is
ended as a whole when the time is up or the job is stopped.

The `backup` script works as for the WAL archiver: it is called in the directory to carry away, with
two arguments, the name of that directory and the time in seconds; exit 0 means that all which was
there at that time is safe.
"""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from holdfast.errors import HoldfastError, TemporaryFailure

_GRACE_S: Final = 5.0
_LINE_MAX: Final = 4096


class HookFailed(HoldfastError):
    """A hook ended with another code than 0."""

    kind = "hook-failed"


def run_hook(
    name: str,
    words: Sequence[str],
    *,
    say: Callable[[str], None],
    environment: Mapping[str, str],
    timeout_s: float,
    directory: str | None = None,
) -> None:
    """Run one hook to its end.

    Args:
        name: "before", "after", ... for messages.
        words: the program and its arguments.
        say: gets each line of its output.
        environment: added to this process's own.
        timeout_s: then its process group is ended.
        directory: where it runs.

    Raises:
        HookFailed: it could not be started, or ended with another code than 0.
        TemporaryFailure: its time was up.
    """
    say(f"hook {name}: {' '.join(words)}")
    try:
        child = subprocess.Popen(
            list(words),
            cwd=directory,
            env=os.environ | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise HookFailed(f"hook {name} cannot be started: {error.strerror}: {words[0]}") from error
    code = _listen(child, say, timeout_s)
    if code is None:
        raise TemporaryFailure(f"hook {name} took longer than {timeout_s:g} s and was ended")
    if code != 0:
        how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise HookFailed(f"hook {name} {how}")


def _listen(
    child: "subprocess.Popen[str]", say: Callable[[str], None], timeout_s: float
) -> int | None:
    """Pass the output on; the exit code, or None when the time was up."""

    def read() -> None:
        assert child.stdout is not None
        while line := child.stdout.readline(_LINE_MAX):
            say(f"  {line.rstrip()}")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        code: int | None = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _end_group(child, reader)
        code = None
    except BaseException:
        _end_group(child, reader)
        raise
    finally:
        reader.join(_GRACE_S)  # a grandchild may hold the pipe open for longer
        if child.stdout is not None and not reader.is_alive():
            child.stdout.close()
    return code


def _end_group(child: "subprocess.Popen[str]", reader: threading.Thread) -> None:
    """Ask everybody in the hook's group to end, wait for them, then end who is left.

    The program itself is waited for last: until then its number, which is the group's too, cannot be
    used again by anybody else.
    """
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        handle = os.pidfd_open(child.pid)
        try:
            select.select([handle], [], [], _GRACE_S)
        finally:
            os.close(handle)
    reader.join(_GRACE_S)  # its children have ended, or at least let go of its output
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
