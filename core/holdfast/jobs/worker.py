"""Workers that outlive the terminal: their own session, their output in the task's log.

The parent starts the same program again with HOLDFAST_READY_FD naming a pipe, waits until the child
has entered its task into the journal and written the UPID there, and leaves. What goes wrong before
that comes back over the child's stderr.

logind may be told to end every process of a user who logs out (KillUserProcesses=yes), and a session
of its own does not help against that. Then the worker is started in a scope of systemd's, which is
not part of the login.
"""

import atexit
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.errors import HoldfastError, NotFound, Refused
from holdfast.host import process
from holdfast.upid import Upid

if TYPE_CHECKING:  # every task announces itself here; few start others
    import subprocess

READY_FD: Final = "HOLDFAST_READY_FD"
NO_SECRETS: Final[Mapping[str, bytes]] = {}
_LOGIND_FILES: Final = ("/etc/systemd/logind.conf", "/run/systemd/logind.conf")
_UPID_BYTES_MAX: Final = 4096
_SAID_MAX: Final = 64 * 1024
_children: list["subprocess.Popen[bytes]"] = []


@dataclass(frozen=True, slots=True)
class Started:
    """What became of a start: a task, or the words and exit code of a child that did not get far."""

    upid: Upid | None
    said: str = ""
    exit_code: int = 0
    remark: str = ""


def start_detached(words: Sequence[str], secrets: Mapping[str, bytes] = NO_SECRETS) -> Started:
    """Run `holdfast WORDS...` in its own session and return once its task is in the journal.

    Args:
        words: the command line.
        secrets: what the child gets to read from a file that exists in memory alone, whose path is in
            the environment variable of that name; neither arguments nor environment nor disk have it.
    """
    import subprocess

    prefix, remark = scope_prefix()
    read_fd, write_fd = os.pipe()
    handed = {name: _file_in_memory(secret) for name, secret in secrets.items()}
    paths = {name: f"/proc/self/fd/{fd}" for name, fd in handed.items()}
    try:
        child = subprocess.Popen(
            [*prefix, sys.executable, "-m", "holdfast", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(write_fd, *handed.values()),
            env=os.environ | paths | {READY_FD: str(write_fd)},
        )
    except OSError as error:
        os.close(read_fd)
        raise HoldfastError(f"cannot start a worker: {error.strerror}") from error
    finally:
        for fd in (write_fd, *handed.values()):
            os.close(fd)
    with os.fdopen(read_fd, "rb") as ready:
        line = ready.readline(_UPID_BYTES_MAX).decode("utf-8", "replace").strip()
    assert child.stderr is not None
    if line:
        child.stderr.close()
        reap()
        _children.append(child)
        return Started(Upid.parse(line), remark=remark)
    said = child.stderr.read(_SAID_MAX).decode("utf-8", "replace")
    child.stderr.close()
    return Started(None, said=said, exit_code=child.wait(), remark=remark)


def _file_in_memory(content: bytes) -> int:
    fd = os.memfd_create("holdfast")
    os.write(fd, content)
    return fd


def reap() -> None:
    """Take note of workers that have ended, so that a long-lived parent keeps no zombies."""
    _children[:] = [child for child in _children if child.poll() is None]


@atexit.register
def _let_go() -> None:
    """Workers go on after this process; nobody is to wait for them, nor to be warned of it."""
    for child in _children:
        if child.returncode is None:
            child.returncode = 0


def announce(upid: Upid, log_fd: int) -> bool:
    """In a detached worker: tell the parent the task's name and put stdio on its log.

    Returns:
        Whether this process is such a worker.
    """
    text = os.environ.pop(READY_FD, "")
    if not text.isdigit():
        return False
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    ready = int(text)
    os.write(ready, f"{upid}\n".encode())
    os.close(ready)
    return True


def is_detached_child() -> bool:
    """Whether a parent waits to hear this process's task."""
    return os.environ.get(READY_FD, "").isdigit()


def leave_log() -> None:
    """In a detached worker whose task is over: say nothing more into its log."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)


# logind ------------------------------------------------------------------------------------------


def scope_prefix() -> tuple[list[str], str]:
    """Words to put before a worker's command so that it survives a logout, and a remark if it won't."""
    if not logind_kills(_configuration(), user=process.user_name()) or not _is_in_login_session():
        return [], ""
    is_root = os.geteuid() == 0
    words = [
        "systemd-run",
        *([] if is_root else ["--user"]),
        "--scope",
        "--quiet",
        "--collect",
        "--",
    ]
    import shutil
    import subprocess

    if shutil.which("systemd-run"):
        tried = subprocess.run([*words, "true"], capture_output=True, check=False, timeout=20)
        if tried.returncode == 0:
            return words, ""
    return [], (
        "this system ends all processes of a user at logout and systemd-run does not work here: "
        "the work may end with your login; `loginctl enable-linger` allows it to stay"
    )


def logind_kills(configuration: str, *, user: str) -> bool:
    """Whether logind, configured like this, ends what `user` leaves running."""
    kills = False
    only: list[str] = []
    excluded = ["root"]
    for line in configuration.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or key.startswith(("#", ";")):
            continue
        if key == "KillUserProcesses":
            kills = value.lower() in ("yes", "true", "on", "1")
        elif key == "KillOnlyUsers":
            only = value.split()
        elif key == "KillExcludeUsers":
            excluded = value.split()
    return kills and user not in excluded and (not only or user in only)


def _configuration() -> str:
    paths = list(_LOGIND_FILES)
    for directory in ("/usr/lib/systemd", "/run/systemd", "/etc/systemd"):
        try:
            names = sorted(os.listdir(f"{directory}/logind.conf.d"))
        except OSError:
            continue
        paths += [f"{directory}/logind.conf.d/{name}" for name in names if name.endswith(".conf")]
    texts = []
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read(_SAID_MAX))
        except OSError:
            continue
    return "\n".join(texts)


def _is_in_login_session() -> bool:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return re.search(r"/session-[^/]*\.scope", file.read()) is not None
    except OSError:
        return False


# Signals to a worker -----------------------------------------------------------------------------


def send(upid: Upid, number: signal.Signals) -> None:
    """Send a signal to exactly the process of a task.

    Raises:
        NotFound: it does not run any more.
        Refused: it belongs to somebody else.
    """
    try:
        handle = os.pidfd_open(upid.pid)
    except ProcessLookupError:
        raise NotFound("the task does not run any more") from None
    try:
        if not process.is_running(upid.pid, upid.pstart):  # the number belongs to another one now
            raise NotFound("the task does not run any more")
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        raise NotFound("the task does not run any more") from None
    except PermissionError:
        raise Refused("the task belongs to another user", hint="ask its owner, or root") from None
    finally:
        os.close(handle)


def stop(upid: Upid) -> None:
    """Ask a task to end cleanly; asked again, it ends at once (errors as in send)."""
    send(upid, signal.SIGTERM)
    send_quietly(upid, signal.SIGCONT)  # a paused one could not hear it


def send_quietly(upid: Upid, number: signal.Signals) -> None:
    """Like send, but a process that has gone is fine."""
    with suppress(NotFound):
        send(upid, number)
