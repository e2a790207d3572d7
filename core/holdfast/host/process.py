"""This process and others: who runs, since when, and on which machine."""

import os
import pwd
from typing import Final

_STARTTIME_FIELD: Final = 22  # of /proc/PID/stat, see proc(5)


def node_name() -> str:
    """The host's name up to the first dot."""
    return os.uname().nodename.partition(".")[0] or "localhost"


def start_ticks(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat_file:
            text = stat_file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(b")")[2].split()  # the name before may hold blanks and brackets
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[_STARTTIME_FIELD - 3])


def is_running(pid: int, started_ticks: int) -> bool:
    """Whether exactly that process still runs: numbers are used again, start times are not."""
    return start_ticks(pid) == started_ticks


def is_paused(pid: int) -> bool:
    """Whether the process was stopped by SIGSTOP (or a debugger) and waits for SIGCONT."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat_file:
            return stat_file.read().rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])
    except OSError:
        return False


def own_start_ticks() -> int:
    ticks = start_ticks(os.getpid())
    return ticks if ticks is not None else 0


def user_name() -> str:
    """The effective user's login name, or its number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def boot_s() -> float:
    """When this machine started, in seconds since 1970; 0 when it cannot be told."""
    try:
        with open("/proc/stat", "rb") as stat_file:
            for line in stat_file:
                if line.startswith(b"btime "):
                    return float(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0.0
