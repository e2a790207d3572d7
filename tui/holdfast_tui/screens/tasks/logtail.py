"""Reads a task's log as it grows, a piece at a time; in a thread."""

import os
from typing import Final

from holdfast.host import files
from holdfast.jobs.task_log import parse_line
from holdfast.units import MIB

_FIRST_BYTES_MAX: Final = 2 * MIB
_PIECE_MAX: Final = 1 * MIB


class LogTail:
    """What was read of one log so far; `more` gives the lines that came since.

    Of a very long log only the last two MiB are shown; the first line then says so.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._at = 0
        self._rest = b""
        self._is_first = True

    def more(self) -> list[tuple[str, str]]:
        """(`HH:MM:SS` or nothing, message) of complete new lines; none when it is gone."""
        try:
            fd = files.open_read(self.path, extra_flags=os.O_NOFOLLOW)
        except OSError:
            return [("", "the log of this task is gone")] if self._begin() else []
        try:
            size = os.fstat(fd).st_size
            lines: list[tuple[str, str]] = []
            if self._begin() and size > _FIRST_BYTES_MAX:
                self._at = size - _FIRST_BYTES_MAX
                lines.append(("", f"(the first {self._at:,} bytes are not shown)"))
            while data := os.pread(fd, _PIECE_MAX, self._at):
                self._at += len(data)
                *whole, self._rest = (self._rest + data).split(b"\n")
                lines += [_parsed(line) for line in whole]
        finally:
            os.close(fd)
        return lines

    def _begin(self) -> bool:
        first, self._is_first = self._is_first, False
        return first


def _parsed(line: bytes) -> tuple[str, str]:
    text = line.decode("utf-8", "replace")
    if parse_line(text) is None:
        return "", text
    stamp, _colon, message = text.partition(": ")
    return stamp[11:19], message
