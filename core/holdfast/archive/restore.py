"""Put an archive's entries back onto a disk, safely even if the archive is hostile.

Every name is one that the decoder checked, every effect is relative to an open directory, and no
symbolic link is ever followed: not as a directory on the way, not as a file to overwrite, not on
the way to the target of a hard link. New files are made exclusively; a file that replaces another
is complete before it takes the name. Story: docs/algorithms/restore-safety.md
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.archive.content_cursor import ContentCursor
from holdfast.archive.patterns import Match, PatternList
from holdfast.archive.pxar.decoder import Decoder
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Entry
from holdfast.archive.restore_conflicts import Verdict, free_name, judge, mtime_ns
from holdfast.archive.restore_entries import EntryRestore, temporary_name
from holdfast.archive.restore_levels import NOT_OPEN, OPEN_LEVELS_MAX, Level
from holdfast.archive.restore_rules import Overwrite, RestoreOutcome, RestoreRules
from holdfast.archive.restore_without import Without, reduced, reduced_steps
from holdfast.errors import DamagedData
from holdfast.host import entries, files, gate
from holdfast.units import MIB

if TYPE_CHECKING:
    from holdfast.archive.restore_process import FileProcess

_DIRECTORY_MODE: Final = 0o700
_TOLD_AT_BYTES: Final = 16 * MIB
_FILES_ALONE: Final = 256  # met before another process is started for small ones
_DEPTH_MAX: Final = OPEN_LEVELS_MAX // 2  # deeper directories may be closed while they are in use

ResolveLink = Callable[[Entry], Entry]


class Progress(Protocol):
    """The part of a progress report that a restore needs."""

    def advance(self, items: int = 0, bytes: int = 0) -> None: ...  # noqa: A002

    def warn(self, message: str) -> None: ...


class TreeRestore:
    """One archive on its way into one directory.

    Args:
        decoder: the archive.
        contents: its contents.
        resolve_link: finds the file a hard link belongs to (Accessor.resolve_hardlink).
        target_fd: the directory to restore into, open; stays open. NOT_OPEN in a dry run into a
            directory that does not exist.
        rules: what to restore, and how.
        progress: who wants to know.
    """

    def __init__(
        self,
        decoder: Decoder,
        contents: ContentCursor,
        *,
        resolve_link: ResolveLink,
        target_fd: int,
        rules: RestoreRules,
        progress: Progress,
    ) -> None:
        self.outcome = RestoreOutcome()
        self._decoder = decoder
        self._contents = contents
        self._resolve_link = resolve_link
        self._target_fd = target_fd
        self._rules = rules
        self._patterns = PatternList(rules.patterns)
        self._is_partial = rules.is_partial
        self._progress = progress
        self._here = EntryRestore(rules, {}, progress.warn)
        self._files = 0  # met so far
        self._maker: FileProcess | None = None
        self._level: Level | None = None
        self._written_bytes = 0  # since progress was told

    def run(self) -> RestoreOutcome:
        """Restore everything that is wanted; what fails alone is told in the outcome.

        Raises:
            DamagedData: the archive itself cannot be read any further.
            NoSpace: the disk is full.
            HoldfastError: the target was changed under the restore.
        """
        done = 0
        steps = self._decoder.steps()
        if self._rules.without:
            steps = reduced_steps(steps, self._rules.without)
        try:
            for path, entry, leaving in steps:
                self._here.path = path
                if leaving:
                    self._leave()
                elif entry.kind is Kind.DIRECTORY:
                    self._enter(entry)
                else:
                    self._leaf(entry)
                done += 1
                if not done & 0xFF:
                    self._tell(0x100)
            self._drain()
        finally:
            self._close()
        self._tell(done & 0xFF)
        foreign = self._here.writer.foreign_owners
        foreign += self._maker.foreign_owners if self._maker is not None else 0
        if foreign:
            message = f"the owner of {foreign} entries could not be set"
            message += "; only root may give files away"
            self.outcome.warnings.append(message)
            self._progress.warn(message)
        return self.outcome

    # Telling -------------------------------------------------------------------------------------

    def _tell(self, entry_count: int) -> None:
        written, self._written_bytes = self._written_bytes, 0
        self._progress.advance(items=entry_count, bytes=written)

    def _told(self, views: Iterator[memoryview]) -> Iterator[memoryview]:
        """The content of a file, counted as it is taken."""
        for view in views:
            self._written_bytes += len(view)
            if self._written_bytes >= _TOLD_AT_BYTES:
                self._tell(0)
            yield view

    # Directories ---------------------------------------------------------------------------------

    def _enter(self, entry: Entry) -> None:
        above = self._level
        level = Level(above, entry, self._here.path, is_wanted=self._is_wanted(entry, above))
        self._level = level
        if above is None:
            if self._target_fd != NOT_OPEN:
                level.opened(os.dup(self._target_fd))
            level.is_made = True
            return
        if level.is_wanted and not level.is_blocked:
            self._make_levels(level)

    def _is_wanted(self, entry: Entry, above: Level | None) -> bool:
        inherited = above.is_wanted if above is not None else not self._is_partial
        if not self._is_partial:
            return inherited
        decided = self._rules.paths.get(self._here.path)
        if decided is not None:
            return decided
        if above is None or not len(self._patterns):
            return inherited
        match = self._patterns.match(b"/" + self._here.path, is_dir=entry.kind is Kind.DIRECTORY)
        return inherited if match is None else match is Match.INCLUDE

    def _make_levels(self, level: Level) -> bool:
        """Make or open a directory and those above it; False when something is in the way."""
        missing: list[Level] = []
        above: Level | None = level
        while above is not None and not above.is_made and not above.is_blocked:
            missing.append(above)
            above = above.parent
        path = self._here.path
        for one in reversed(missing):
            if one.parent is not None and one.parent.is_blocked:
                one.is_blocked = True
                continue
            self._here.path = one.path
            self._make_level(one)
        self._here.path = path
        return level.is_made and not level.is_blocked

    def _make_level(self, level: Level) -> None:
        parent = level.parent
        if parent is None:
            raise AssertionError("the root is made by the caller")
        if self._rules.dry_run:
            self._pretend_level(level, parent.fd)
            return
        if level.depth > _DEPTH_MAX:
            self._drain()
        try:
            fd = self._make_or_open(level, parent.fd)
        except OSError as error:
            self._here.failed(error)
            level.is_blocked = True
            return
        if fd is None:
            level.is_blocked = True
            return
        level.opened(fd)
        self._here.outcome.directories += 1

    def _pretend_level(self, level: Level, parent_fd: int) -> None:
        level.is_made = True
        self._here.outcome.directories += 1
        if parent_fd == NOT_OPEN:
            return
        try:
            level.opened(entries.open_directory(level.name, dir_fd=parent_fd))
        except FileNotFoundError:
            return
        except OSError:
            if self._rules.overwrite in (Overwrite.FRESH, Overwrite.NEVER):
                self._here.outcome.conflicts.append(self._here.shown())
                level.is_blocked = True

    def _make_or_open(self, level: Level, parent_fd: int) -> int | None:
        """A directory of that name, open; None when something else is kept in its place."""
        try:
            entries.make_directory(level.name, _DIRECTORY_MODE, dir_fd=parent_fd)
        except FileExistsError:
            info = os.stat(level.name, dir_fd=parent_fd, follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode):
                if not self._clear_for_directory(level, parent_fd, info):
                    return None
                entries.make_directory(level.name, _DIRECTORY_MODE, dir_fd=parent_fd)
        return entries.open_directory(level.name, dir_fd=parent_fd)

    def _clear_for_directory(self, level: Level, parent_fd: int, info: os.stat_result) -> bool:
        rule = self._rules.overwrite
        if rule is Overwrite.KEEP_BOTH:
            level.name = free_name(level.name, parent_fd)
            self._here.outcome.conflicts.append(self._here.shown())
            return True
        metadata = level.entry.metadata
        is_newer = metadata is not None and mtime_ns(metadata.stat) > info.st_mtime_ns
        if rule is Overwrite.ALWAYS or (rule is Overwrite.IF_NEWER and is_newer):
            files.unlink(level.name, dir_fd=parent_fd)
            return True
        self._here.outcome.conflicts.append(self._here.shown())
        return False

    def _leave(self) -> None:
        level = self._level
        if level is None:
            raise AssertionError("left more directories than entered")
        self._level = level.parent
        above = level.parent
        if self._maker is None or not self._maker.defer(level):
            self._finish(level)
        elif above is not None and above.is_made and above.fd == NOT_OPEN:
            self._drain()  # finishing this one opens it again

    def _finish(self, level: Level) -> None:
        """Everything in a directory is there: its metadata, last."""
        is_root = level.parent is None
        metadata = level.entry.metadata
        is_ours = not (is_root and self._is_partial)  # a part does not own the whole target
        if is_ours and level.fd != NOT_OPEN and metadata is not None and not self._rules.dry_run:
            path, self._here.path = self._here.path, level.path
            self._here.writer.apply(level.fd, metadata, self._here.problem)
            self._here.path = path
        level.leave()

    def _close(self) -> None:
        """End the other process, put both outcomes together, close what is open."""
        if self._maker is not None:
            self._maker.stop()
            self.outcome.add(self._maker.outcome)
        self.outcome.add(self._here.outcome)
        level = self._level
        while level is not None:
            level.close()
            level = level.parent

    # Entries -------------------------------------------------------------------------------------

    def _leaf(self, entry: Entry) -> None:
        level = self._level
        if level is None:
            raise AssertionError("an entry outside of a directory")
        if self._is_partial and not self._is_wanted(entry, level):
            return
        is_left_out = entry.device is not None and Without.DEVICES in self._rules.without
        if is_left_out or level.is_blocked or (not level.is_made and not self._make_levels(level)):
            self._here.skip()
            return
        if entry.problem is not None:
            self._here.problem(f"not restored, {entry.problem}")
            self._here.skip()
            return
        try:
            if self._rules.dry_run:
                self._pretend(entry, level)
            elif entry.kind is Kind.FILE:
                self._file(entry, level)
            elif entry.kind is Kind.HARDLINK:
                self._hard_link(entry, level.fd)
            else:
                self._here.special(entry, level.fd)
        except OSError as error:
            self._here.failed(error)
        except DamagedData as error:
            self._here.damaged(error)

    def _file(self, entry: Entry, level: Level) -> None:
        """A regular file: left to the other process if it is small and its content is at hand."""
        self._files += 1
        if self._files == _FILES_ALONE:
            self._maker = self._start_maker()
        maker = self._maker
        if maker is not None and level.depth <= _DEPTH_MAX and maker.takes(entry):
            content = self._contents.view_at_hand(entry) if entry.size else memoryview(b"")
            if content is not None:
                self._written_bytes += entry.size
                maker.put(entry, level, content)
                return
        self._make_file(entry, level.fd)

    def _make_file(self, entry: Entry, dir_fd: int) -> None:
        def content() -> Iterator[memoryview]:
            views = self._contents.views(entry)
            if entry.size >= _TOLD_AT_BYTES:
                return self._told(views)
            self._written_bytes += entry.size
            return views

        self._here.file(entry, dir_fd, content)

    def _start_maker(self) -> "FileProcess | None":
        """Another process to make files, if there is a processor for it."""
        from holdfast.archive import restore_process

        if gate.active is not None or not restore_process.is_worth_it():
            return None
        return restore_process.FileProcess(
            self._rules,
            finish=self._finish,
            warn=self._progress.warn,
            elsewhere=self._here.elsewhere,
        )

    def _drain(self) -> None:
        """Wait for everything that was left to the other process."""
        if self._maker is not None:
            self._maker.drain()

    def _pretend(self, entry: Entry, level: Level) -> None:
        verdict = None
        if level.fd != NOT_OPEN:
            there = entry
            if entry.kind is Kind.HARDLINK:
                there = self._first_name(entry)._replace(name=entry.name)
            with suppress(FileNotFoundError):
                verdict = judge(there, entry.name, level.fd, self._rules.overwrite)
        if verdict is not None:
            self._here.count_verdict(verdict)
        if verdict in (None, Verdict.REPLACE, Verdict.RENAME):
            self._here.count(entry)

    # Hard links ----------------------------------------------------------------------------------

    def _first_name(self, link: Entry) -> Entry:
        first = self._resolve_link(link)
        return reduced(first, self._rules.without) if self._rules.without else first

    def _hard_link(self, link: Entry, dir_fd: int) -> None:
        first = self._first_name(link)
        if first.name != link.target.rpartition(b"/")[2]:
            self._here.problem(
                "not restored, a hard link whose path and position contradict each other"
            )
            self._here.skip()
            return
        self._drain()
        path = self._here.elsewhere.get(first.start, link.target)
        other_name = first._replace(name=link.name)
        source_fd = self._open_restored(path, first)
        if source_fd is None:
            # the first name was not restored: this one gets the content, later ones link to it
            self._here.elsewhere[first.start] = self._here.path
            self._make_file(other_name, dir_fd)
            return
        source = path.rpartition(b"/")[2]
        try:
            entries.link(source, link.name, source_fd=source_fd, target_fd=dir_fd)
        except FileExistsError:
            self._link_over(other_name, source, source_fd, dir_fd)
        except OSError:  # a file system without hard links, or the most a file may have
            self._make_file(other_name, dir_fd)
        else:
            self._here.outcome.files += 1
        finally:
            os.close(source_fd)

    def _link_over(self, entry: Entry, source: bytes, source_fd: int, dir_fd: int) -> None:
        """Something has the name of a hard link: do what the rule says."""
        verdict = judge(entry, entry.name, dir_fd, self._rules.overwrite)
        self._here.count_verdict(verdict)
        if verdict is Verdict.RENAME:
            name = free_name(entry.name, dir_fd)
            entries.link(source, name, source_fd=source_fd, target_fd=dir_fd)
        elif verdict is Verdict.REPLACE:
            temporary = temporary_name()
            entries.link(source, temporary, source_fd=source_fd, target_fd=dir_fd)
            entries.rename(temporary, entry.name, dir_fd=dir_fd)
        else:
            return
        self._here.outcome.files += 1

    def _open_restored(self, path: bytes, first: Entry) -> int | None:
        """The directory of a file that was restored; None when what is there is not that file."""
        directory, _slash, name = path.rpartition(b"/")
        fd = self._open_below(directory)
        if fd is None or first.metadata is None:
            return None
        with suppress(OSError):
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            is_file = stat.S_ISREG(info.st_mode) and info.st_size == first.size
            if is_file and info.st_mtime_ns == mtime_ns(first.metadata.stat):
                return fd
        os.close(fd)
        return None

    def _open_below(self, path: bytes) -> int | None:
        """A directory of the target, opened one component after the other, no link followed."""
        fd = os.dup(self._target_fd)
        for part in path.split(b"/"):
            if not part:
                continue
            try:
                below = entries.open_directory(part, dir_fd=fd)
            except OSError:
                return None
            finally:
                os.close(fd)
            fd = below
        return fd
