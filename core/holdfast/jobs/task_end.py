"""How a task ended: the one text that the log, the archive list and a person all read.

    log's last line        archive list      outcome
    TASK OK                OK                everything done
    TASK WARNINGS: 3       WARNINGS: 3       done, but 3 things were skipped
    TASK ERROR: no space   no space          failed, or stopped on request
    TASK unknown           unknown           the process vanished without a word

In the list an error stands without its prefix. Source: Proxmox Backup, task log format.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

STOPPED_TEXT: Final = "stopped on request"
_MESSAGE_MAX: Final = 2000


class TaskState(StrEnum):
    """What a front end shows; the words of the command line's JSON."""

    RUNNING = "running"
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


def one_line(text: str) -> str:
    """`text` without line ends and other control characters, of a bearable length."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(kept.split())[:_MESSAGE_MAX]


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """When and how it ended. `message` is the error's text, empty for the other states."""

    end_s: int
    state: TaskState
    warnings: int = 0
    message: str = ""

    @classmethod
    def ok(cls, end_s: int, *, warnings: int = 0) -> "TaskEnd":
        state = TaskState.WARNING if warnings else TaskState.OK
        return cls(end_s, state, warnings)

    @classmethod
    def failed(cls, end_s: int, message: str) -> "TaskEnd":
        text = one_line(message) or "failed without a message"
        stopped = text.startswith(STOPPED_TEXT)
        return cls(end_s, TaskState.STOPPED if stopped else TaskState.FAILED, message=text)

    @classmethod
    def unknown(cls, end_s: int) -> "TaskEnd":
        return cls(end_s, TaskState.UNKNOWN)

    @classmethod
    def parse(cls, end_s: int, text: str) -> "TaskEnd":
        """Read the text of the archive list, or of the log's last line without `TASK `."""
        if text == "OK":
            return cls.ok(end_s)
        head, colon, count = text.partition(": ")
        if head == "WARNINGS" and colon and count.isascii() and count.isdigit():
            return cls(end_s, TaskState.WARNING, min(int(count[:9]), 10**9))
        if text in ("", "unknown"):
            return cls.unknown(end_s)
        return cls.failed(end_s, text.removeprefix("ERROR: "))

    @property
    def archive_text(self) -> str:
        if self.state is TaskState.WARNING:
            return f"WARNINGS: {self.warnings}"
        if self.state in (TaskState.OK, TaskState.UNKNOWN):
            return "OK" if self.state is TaskState.OK else "unknown"
        return self.message

    @property
    def log_text(self) -> str:
        prefix = "ERROR: " if self.state in (TaskState.FAILED, TaskState.STOPPED) else ""
        return f"TASK {prefix}{self.archive_text}"
