"""The two lists of a journal: tasks believed running, and tasks that have ended.

    tasks/active          one UPID per line, replaced as a whole
    tasks/archive         `UPID ENDTIME STATE` per line, ENDTIME 8 upper-case hex digits, appended
    tasks/archive.1       the previous one, once it is larger than 512 KiB - 1
    tasks/archive.2.zst   older ones, compressed; 20 are kept
    tasks/.active.lock    flock, exclusive, held by every writer for its whole change

Source: Proxmox Backup, task index format. Readers take no lock and write nothing: they read
`active` before `archive`, and writers append to `archive` before they shorten `active`, so a task
that ends in between is seen in both and in no case in neither.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from holdfast.errors import BadRequest, Busy
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode, try_flock
from holdfast.jobs.task_end import TaskEnd
from holdfast.units import KIB, MIB
from holdfast.upid import Upid

LOCK_WAIT_S_MAX: Final = 15.0
ROTATE_BYTES: Final = 512 * KIB - 1
KEPT_FILES: Final = 20
_LIST_BYTES_MAX: Final = 16 * MIB
_TAIL_BYTES: Final = 64 * KIB
_LINE: Final = re.compile(r"(UPID:\S+:)(?: ([0-9A-F]{8,}) (.*))?")


@dataclass(frozen=True, slots=True)
class Ended:
    """One line of the archive list."""

    upid: Upid
    end: TaskEnd

    def line(self) -> str:
        return f"{self.upid} {self.end.end_s:08X} {self.end.archive_text}\n"

    @classmethod
    def parse(cls, line: str) -> "Ended | None":
        """Read a line; None when it is none (a torn or foreign line is no reason to fail)."""
        match = _LINE.fullmatch(line)
        if match is None or match[2] is None:
            return None
        try:
            return cls(Upid.parse(match[1]), TaskEnd.parse(int(match[2][:16], 16), match[3]))
        except BadRequest:
            return None


class TaskLists:
    """The lists below one directory."""

    def __init__(self, directory: str, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.directory = directory
        self._active = os.path.join(directory, "active")
        self._archive = os.path.join(directory, "archive")
        self._rotate_bytes = rotate_bytes

    # Reading --------------------------------------------------------------------------------------

    def active(self) -> list[Upid]:
        """Tasks that were running when the list was last written."""
        upids = []
        for line in _text(self._active).splitlines():
            try:
                upids.append(Upid.parse(line))
            except BadRequest:
                continue
        return upids

    def ended(self) -> Iterator[Ended]:
        """Ended tasks, newest first, read file by file as far as the caller goes."""
        for path in (self._archive, *self._rotated()):
            for line in reversed(_text(path).splitlines()):
                if (entry := Ended.parse(line)) is not None:
                    yield entry

    def find_ended(self, upid: Upid) -> Ended | None:
        wanted = str(upid)
        return next((entry for entry in self.ended() if str(entry.upid) == wanted), None)

    # Writing --------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, clock: Clock = SYSTEM_CLOCK) -> Iterator[None]:
        """Keep other writers out (Busy after 15 seconds)."""
        fd = files.open_update(os.path.join(self.directory, ".active.lock"), mode=0o660)
        try:
            deadline = clock.monotonic_s() + LOCK_WAIT_S_MAX
            while not try_flock(fd, LockMode.EXCLUSIVE):
                if clock.monotonic_s() > deadline:
                    raise Busy("the list of tasks is locked by another process")
                clock.wait(0.01)
            yield
        finally:
            os.close(fd)

    def replace_active(self, upids: list[Upid]) -> None:
        """Lock held: the tasks that run from now on."""
        data = "".join(f"{upid}\n" for upid in upids).encode()
        files.replace_file(self._active, [data])

    def append_ended(self, entries: list[Ended]) -> list[Upid]:
        """Lock held: add tasks in the order of their ends.

        Returns:
            Tasks that fell out of the oldest list; nobody will find their logs any more.
        """
        known = self._last_archived()
        lines = [
            entry.line()
            for entry in sorted(entries, key=lambda entry: entry.end.end_s)
            if str(entry.upid) not in known
        ]
        if not lines:
            return []
        forgotten = self._rotate()
        fd = files.open_update(self._archive, mode=0o644, append=True)
        try:
            data = "".join(lines).encode("utf-8", "replace")
            if not self._ends_with_line_end(fd):  # a writer was killed inside its line
                data = b"\n" + data
            files.write_all(fd, [data], path=self._archive)
        finally:
            os.close(fd)
        return forgotten

    @staticmethod
    def _ends_with_line_end(fd: int) -> bool:
        size = os.fstat(fd).st_size
        return size == 0 or os.pread(fd, 1, size - 1) == b"\n"

    def _last_archived(self) -> set[str]:
        try:
            fd = files.open_read(self._archive, extra_flags=os.O_NOFOLLOW)
        except FileNotFoundError:
            return set()
        try:
            tail = os.pread(fd, _TAIL_BYTES, max(0, os.fstat(fd).st_size - _TAIL_BYTES))
        finally:
            os.close(fd)
        return {line.partition(" ")[0] for line in tail.decode("utf-8", "replace").splitlines()}

    def _rotated(self) -> list[str]:
        paths = [f"{self._archive}.1"]
        paths += [f"{self._archive}.{number}.zst" for number in range(2, KEPT_FILES + 1)]
        return [path for path in paths if os.path.exists(path)]

    def _rotate(self) -> list[Upid]:
        try:
            if os.stat(self._archive).st_size <= self._rotate_bytes:
                return []
        except FileNotFoundError:
            return []
        oldest = f"{self._archive}.{KEPT_FILES}.zst"
        entries = [Ended.parse(line) for line in _text(oldest).splitlines()]
        for number in range(KEPT_FILES - 1, 1, -1):
            if os.path.exists(f"{self._archive}.{number}.zst"):
                files.rename(f"{self._archive}.{number}.zst", f"{self._archive}.{number + 1}.zst")
        if os.path.exists(f"{self._archive}.1"):
            import zstandard

            packed = zstandard.ZstdCompressor().compress(_text(f"{self._archive}.1").encode())
            files.replace_file(f"{self._archive}.2.zst", [packed])
        files.rename(self._archive, f"{self._archive}.1")
        return [entry.upid for entry in entries if entry is not None]


def _text(path: str) -> str:
    try:
        raw = files.read_file(path, size_max=_LIST_BYTES_MAX)
    except FileNotFoundError:
        return ""
    if path.endswith(".zst"):
        import zstandard

        try:
            raw = zstandard.ZstdDecompressor().decompress(raw, max_output_size=_LIST_BYTES_MAX)
        except zstandard.ZstdError:
            return ""
    return raw.decode("utf-8", "replace")
