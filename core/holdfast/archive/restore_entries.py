"""Make one entry in an open directory: content, metadata, and what to do if its name is taken.

Each thread of a restore has an `EntryRestore` of its own, with its own outcome; the tree's order,
its directories and its hard links are `restore.TreeRestore`'s.
"""

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from holdfast.archive.metadata_write import MetadataWriter, write_initial_flags
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Entry
from holdfast.archive.restore_conflicts import UNFINISHED_MODE, Verdict, free_name, judge
from holdfast.archive.restore_rules import RestoreOutcome, RestoreRules
from holdfast.archive.restore_without import Without
from holdfast.archive.sparse_write import write_sparse
from holdfast.errors import NoSpace
from holdfast.host import entries, files
from holdfast.shown import printable

_NO_SPACE: Final = (28, 122)  # ENOSPC, EDQUOT

Content = Callable[[], Iterator[memoryview]]
"""The content of the file at hand, read when it is needed."""


def temporary_name() -> bytes:
    return b".holdfast-" + secrets.token_hex(8).encode()


class EntryRestore:
    """Makes entries one after the other.

    Attributes:
        outcome: what this one did.
        writer: sets metadata.
        path: of the entry at hand, for messages; set by the caller.
        elsewhere: by position in the archive, files that are not where the archive has them; one
            for all threads.
    """

    def __init__(
        self, rules: RestoreRules, elsewhere: dict[int, bytes], tell: Callable[[str], None]
    ) -> None:
        self.outcome = RestoreOutcome()
        self.writer = MetadataWriter(time.time_ns(), sets_owner=Without.OWNER not in rules.without)
        self.path = b""
        self.elsewhere = elsewhere
        self._rules = rules
        self._tell = tell

    # Telling -------------------------------------------------------------------------------------

    def shown(self) -> str:
        return printable(self.path) or "."

    def warn(self, message: str) -> None:
        self.outcome.warnings.append(message)
        self._tell(message)

    def problem(self, text: str) -> None:
        """Something about the entry at hand is not as it should be."""
        self.warn(f"{self.shown()}: {text}")

    def skip(self) -> None:
        self.outcome.skipped.append(self.shown())

    def failed(self, error: OSError) -> None:
        """The entry at hand could not be made (NoSpace: nor can any other)."""
        if error.errno in _NO_SPACE:
            raise NoSpace(
                f"no space left while restoring {self.shown()}",
                hint="free space, then run it again with --overwrite never to go on",
            ) from error
        self.problem(f"cannot be restored: {error.strerror}")
        self.skip()

    def damaged(self, error: Exception) -> None:
        """The content of the entry at hand cannot be read from the store."""
        self.outcome.damaged.append(self.shown())
        self.problem(str(error))

    def count(self, entry: Entry) -> None:
        if entry.kind is Kind.FILE:
            self.outcome.files += 1
            self.outcome.content_bytes += entry.size
        elif entry.kind is Kind.HARDLINK:
            self.outcome.files += 1
        else:
            self.outcome.others += 1

    def count_verdict(self, verdict: Verdict) -> None:
        outcome = self.outcome
        if verdict is Verdict.IDENTICAL:
            outcome.identical += 1
        elif verdict is Verdict.REPLACE:
            outcome.replaced += 1
        elif verdict is Verdict.SKIP:
            self.skip()
        elif verdict in (Verdict.CONFLICT, Verdict.RENAME):
            outcome.conflicts.append(self.shown())

    # Making --------------------------------------------------------------------------------------

    def file(self, entry: Entry, dir_fd: int, content: Content) -> None:
        """A regular file (OSError, DamagedData)."""
        try:
            fd = entries.create(entry.name, UNFINISHED_MODE, dir_fd=dir_fd)
        except FileExistsError:
            self._place(entry, dir_fd, content)
            return
        self._fill(fd, entry, entry.name, dir_fd, content)
        self.count(entry)

    def special(self, entry: Entry, dir_fd: int) -> None:
        """A symbolic link, device, fifo or socket (OSError)."""
        try:
            self._make_special(entry, entry.name, dir_fd)
        except FileExistsError:
            self._place(entry, dir_fd, None)
            return
        self.count(entry)

    def _fill(self, fd: int, entry: Entry, name: bytes, dir_fd: int, content: Content) -> None:
        """Content and metadata of a file that was just made; nothing stays of it on failure."""
        metadata = entry.metadata
        if metadata is None:
            raise AssertionError("a file without metadata")
        try:
            try:
                if metadata.stat.flags:
                    write_initial_flags(fd, metadata.stat.flags)
                if entry.size:
                    write_sparse(fd, content(), path=self.path)
                self.writer.apply(fd, metadata, self.problem)
            finally:
                os.close(fd)
        except BaseException:
            with suppress(OSError):
                files.unlink(name, dir_fd=dir_fd)
            raise

    def _make_special(self, entry: Entry, name: bytes, dir_fd: int) -> None:
        metadata = entry.metadata
        if metadata is None:
            raise AssertionError("an entry without metadata")
        if entry.kind is Kind.SYMLINK:
            entries.make_symlink(entry.target, name, dir_fd=dir_fd)
            self.writer.apply_to_symlink(name, metadata, self.problem, dir_fd=dir_fd)
            return
        major, minor = entry.device or (0, 0)
        kind = stat.S_IFMT(metadata.stat.mode)
        entries.make_node(name, kind | 0o600, os.makedev(major, minor), dir_fd=dir_fd)
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=dir_fd)
        try:
            self.writer.apply_to_special(fd, metadata, self.problem)
        finally:
            os.close(fd)

    def _place(self, entry: Entry, dir_fd: int, content: Content | None) -> None:
        """Something has the entry's name: do what the rule says."""
        name = entry.name
        verdict = judge(entry, name, dir_fd, self._rules.overwrite)
        self.count_verdict(verdict)
        if verdict is Verdict.RENAME:
            name = free_name(name, dir_fd)
            above = self.path[: len(self.path) - len(entry.name)]
            self.elsewhere[entry.start] = above + name
            self._make(entry, name, dir_fd, content)
            self.count(entry)
        elif verdict is Verdict.REPLACE:
            temporary = temporary_name()
            self._make(entry, temporary, dir_fd, content)
            try:
                entries.rename(temporary, name, dir_fd=dir_fd)
            except BaseException:
                with suppress(OSError):
                    files.unlink(temporary, dir_fd=dir_fd)
                raise
            self.count(entry)

    def _make(self, entry: Entry, name: bytes, dir_fd: int, content: Content | None) -> None:
        if content is None:
            self._make_special(entry, name, dir_fd)
        else:
            fd = entries.create(name, UNFINISHED_MODE, dir_fd=dir_fd)
            self._fill(fd, entry, name, dir_fd, content)
