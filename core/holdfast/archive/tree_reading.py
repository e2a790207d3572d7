"""Open the files a walk described and copy their content, whatever happened to them meanwhile."""

import os
import time
from typing import Final, Protocol

from holdfast.archive.file_content import (
    NOTHING_WRITTEN,
    TICK_NS,
    ByteSink,
    Copied,
    UnreadableContent,
    copy_record,
    write_zeroes,
)
from holdfast.archive.file_systems import file_system_of
from holdfast.archive.metadata import MetadataReader
from holdfast.archive.tree_frames import Frame
from holdfast.archive.walk import WARNING, Event, file_event, reason
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.shown import printable
from holdfast.units import MIB

_TOLD_AT_BYTES: Final = 16 * MIB


class Progress(Protocol):
    """The part of a progress report that reading a tree needs."""

    def advance(self, items: int = 0, bytes: int = 0) -> None: ...  # noqa: A002

    def item(self, name: str) -> None: ...

    def warn(self, message: str) -> None: ...


class TreeReading:
    """Reads contents for one archive, says how far it is and what went wrong."""

    def __init__(self, progress: Progress, warnings: list[str]) -> None:
        self._progress = progress
        self._warnings = warnings
        self._readers: dict[int, MetadataReader] = {}
        self._copied_bytes = 0

    def warn(self, path: bytes, text: str) -> None:
        """Something is not in the backup as it should be."""
        message = f"{printable(path) or '.'}: {text}"
        self._warnings.append(message)
        self._progress.warn(message)

    def remark(self, event: Event) -> None:
        """What a walk had to say about a path."""
        if event[0] == WARNING:
            self.warn(event[1], event[2])
        else:
            self._progress.item(f"{printable(event[1])}: {event[2]}")

    def advance(self, entries: int) -> None:
        """So many entries are done, and what was copied meanwhile."""
        copied, self._copied_bytes = self._copied_bytes, 0
        self._progress.advance(items=entries, bytes=copied)

    def copied(self, count: int) -> None:
        """So many bytes of content are in the archive."""
        self._copied_bytes += count
        if self._copied_bytes >= _TOLD_AT_BYTES:
            self.advance(0)

    def open_described(self, frame: Frame, event: Event) -> tuple[int, Event] | None:
        """A file of the walk, open, and its event, taken anew if the file changed since.

        None, with a warning given, when it is gone, became something else or cannot be read.
        """
        name = event[1]
        fd = -1
        try:
            fd = frame.open_file(name)
            info = os.fstat(fd)
            if info.st_ctime_ns != event[6] or info.st_ino != event[5]:
                event = self._describe_again(fd, frame, name, info.st_dev)
            age_ns = time.time_ns() - info.st_mtime_ns
            if 0 <= age_ns < TICK_NS:
                SYSTEM_CLOCK.wait((TICK_NS - age_ns) / 1e9)
                event = self._describe_again(fd, frame, name, info.st_dev)
        except (OSError, ValueError) as error:
            if fd >= 0:
                os.close(fd)
            self.warn(frame.path + name, reason(error))
            return None
        return fd, event

    def _describe_again(self, fd: int, frame: Frame, name: bytes, device: int) -> Event:
        reader = self._readers.get(device)
        if reader is None:
            reader = self._readers[device] = MetadataReader(file_system_of(fd))
        return file_event(fd, name, reader, lambda text: self.warn(frame.path + name, text))

    def open_unchanged(self, frame: Frame, event: Event) -> int | None:
        """A file of the walk, open; None when it is not exactly what the walk saw."""
        try:
            fd = frame.open_file(event[1])
        except OSError:
            return None
        info = os.fstat(fd)
        if info.st_ctime_ns == event[6] and info.st_ino == event[5]:
            return fd
        os.close(fd)
        return None

    def copy(
        self, fd: int, event: Event, frame: Frame, sink: ByteSink, prefix: bytes = b""
    ) -> bool:
        """Write one file's record and close it; False when it was left out, with a warning.

        With a `prefix` the record cannot be left out any more once it is begun: what is missing is
        stored as zeroes, with a warning. Without one, a broken record stays behind unreferenced.
        """
        path = frame.path + event[1]
        try:
            copied = copy_record(fd, event[3], sink, path=path, prefix=prefix, copied=self.copied)
        except UnreadableContent as unread:
            if not prefix or unread.missing == NOTHING_WRITTEN:
                self.warn(path, f"cannot be read: {unread.error.strerror}; left out")
                return False
            write_zeroes(sink, unread.missing)
            text = f"cannot be read to its end: {unread.error.strerror}; zeroes stand for the rest"
            self.warn(path, text)
            return True
        finally:
            os.close(fd)
        if copied is not Copied.WHOLE:
            self.warn(path, copied.value)
        return True

    def copy_exactly(self, fd: int, event: Event, frame: Frame, sink: ByteSink) -> bool:
        """Write the record of a file whose old bytes are at hand; False when they are better."""
        path = frame.path + event[1]
        try:
            return copy_record(fd, event[3], sink, path=path, copied=self.copied) is Copied.WHOLE
        except UnreadableContent as unread:
            text = f"cannot be read: {unread.error.strerror}; its content of the last backup stays"
            self.warn(path, text)
            return False
        finally:
            os.close(fd)
