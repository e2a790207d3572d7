"""The log of one task, in the format of Proxmox Backup.

    2024-06-10T08:13:20+02:00: starting new backup
    2024-06-10T08:13:29+02:00: TASK OK

Local time with its offset, a colon, the message. Lines of a message after the first are indented
here, so nothing a message quotes can pass for a line of its own. The last line says how the task
ended; it is looked for in the last 8192 bytes.
"""

import os
import re
from datetime import datetime
from typing import Final

from holdfast.host import files
from holdfast.jobs.task_end import TaskEnd

TAIL_BYTES: Final = 8192
_STAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)): (.*)", re.DOTALL
)
_LINES_MAX: Final = 2000


def stamped(now_s: float, message: str) -> str:
    """The line (or lines) for `message`, with the line end."""
    stamp = datetime.fromtimestamp(int(now_s)).astimezone().isoformat()
    lines = [
        "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in line)
        for line in message.split("\n")[:_LINES_MAX]
    ]
    return f"{stamp}: " + "\n  ".join(lines) + "\n"


def parse_line(line: str) -> tuple[int, str] | None:
    """Seconds since 1970 and message; None for a line that continues another."""
    match = _STAMP.fullmatch(line)
    if match is None:
        return None
    try:
        return int(datetime.fromisoformat(match[1]).timestamp()), match[2]
    except (ValueError, OverflowError):
        return None


class TaskLog:
    """An open log that lines are added to; each line is one write, so threads do not mix."""

    def __init__(self, path: str) -> None:
        """Make the log (OSError)."""
        self.path = path
        self.fd = files.open_update(path, mode=0o644, append=True)

    def line(self, now_s: float, message: str) -> None:
        """Add one message (OSError)."""
        data = stamped(now_s, message).encode("utf-8", "backslashreplace")
        files.write_all(self.fd, [data], path=self.path)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def read_tail(path: str, size: int = TAIL_BYTES) -> bytes:
    """The last `size` bytes of a log (OSError)."""
    fd = files.open_read(path, extra_flags=os.O_NOFOLLOW)
    try:
        return os.pread(fd, size, max(0, os.fstat(fd).st_size - size))
    finally:
        os.close(fd)


def last_stamp(tail: bytes) -> tuple[int, str] | None:
    """Time and message of the last line with a time in front."""
    for line in reversed(tail.decode("utf-8", "replace").split("\n")):
        if (parsed := parse_line(line)) is not None:
            return parsed
    return None


def end_of(path: str) -> TaskEnd | None:
    """How the task ended by its log; None when the log does not say (or is not there)."""
    try:
        last = last_stamp(read_tail(path))
    except OSError:
        return None
    if last is None or not last[1].startswith("TASK "):
        return None
    return TaskEnd.parse(last[0], last[1].removeprefix("TASK "))


def end_of_silent(path: str, *, otherwise_s: int) -> TaskEnd:
    """What is known of a task whose process is gone: its own last word, or unknown."""
    said = end_of(path)
    if said is not None:
        return said
    try:
        last = last_stamp(read_tail(path))
    except OSError:
        last = None
    return TaskEnd.unknown(last[0] if last else otherwise_s)
