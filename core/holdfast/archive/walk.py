"""Walk a tree in archive order and describe every entry, without reading any content.

The walk is a flat run of events, handed out in batches so that neither a huge directory nor a deep
one needs much memory, and plain enough (tuples of bytes and numbers) to cross a pipe cheaply:

    (FILE, name, head, size, link, inode, ctime_ns)   link is (device, inode) when st_nlink > 1
    (LEAF, name, head)                                symlink, device, fifo, socket: complete
    (BEGIN, name, head, device, inode)                the root's name is empty
    (END,)
    (NOTE, path, text)   (WARNING, path, text)
    (RUN, ...)   (READ, ...)                          see walk_contents.py

`head` is what the archive stores before the content: FILENAME, ENTRY and attribute items (no
FILENAME for the root), and for a LEAF also its SYMLINK or DEVICE item. Children come in ascending
order of their raw names. Directories are opened relative to their parent and never through a
symbolic link, so nothing outside of the tree is described however it changes meanwhile.
"""

import errno
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from holdfast.archive.file_systems import file_system_of
from holdfast.archive.metadata import MetadataReader, special_items
from holdfast.archive.pxar import format as pxar
from holdfast.archive.walk_rules import EXCLUDE_FILE, EXCLUDE_FILE_CLI, WalkRules
from holdfast.errors import BadRequest, NotFound, Refused
from holdfast.host.files import as_holdfast_error

if TYPE_CHECKING:  # loaded with the first pattern: most trees have none
    from holdfast.archive.excludes import ExcludeRules

FILE: Final = 0
LEAF: Final = 1
BEGIN: Final = 2
END: Final = 3
NOTE: Final = 4
WARNING: Final = 5
RUN: Final = 6
READ: Final = 7

Event = tuple[Any, ...]  # the shapes above; a record per file would cost too much

_BATCH: Final = 512
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_OPEN_DIRECTORIES_MAX: Final = 128  # of one chain; the rest is opened again on the way up
_NANO: Final = 1_000_000_000

READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
DIRECTORY_FLAGS: Final = READ_FLAGS | os.O_DIRECTORY

_KIND_FILE, _KIND_DIRECTORY, _KIND_OTHER = 0, 1, 2
_GONE: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENXIO, errno.ENOTDIR})

_ENTRY: Final = struct.Struct("<QQQQIIqII")
_DEVICE: Final = struct.Struct("<QQQQ")
_HEADER: Final = struct.Struct("<QQ")


_packers: dict[int, Callable[..., bytes]] = {}


def _packer(name_bytes: int) -> Callable[..., bytes]:
    """FILENAME and ENTRY in one go for names of one length (the pad byte is the NUL)."""
    packer = _packers[name_bytes] = struct.Struct(f"<QQ{name_bytes + 1}sQQQQIIqII").pack
    return packer


def head_of(name: bytes, info: os.stat_result, flags: int) -> bytes:
    """FILENAME (unless the name is empty) and ENTRY item."""
    if not name:
        return _ENTRY.pack(
            pxar.ENTRY,
            56,
            info.st_mode,
            flags,
            info.st_uid,
            info.st_gid,
            info[8],
            info.st_mtime_ns % _NANO,
            0,
        )
    size = len(name)
    return (_packers.get(size) or _packer(size))(
        pxar.FILENAME,
        size + 17,
        name,
        pxar.ENTRY,
        56,
        info[0],
        flags,
        info[4],
        info[5],
        info[8],
        info.st_mtime_ns % _NANO,
        0,
    )


def file_event(fd: int, name: bytes, reader: MetadataReader, warn: Callable[[str], None]) -> Event:
    """What a FILE event says about an open file (ValueError: it is no regular file; OSError)."""
    info = os.fstat(fd)
    mode = info[0]
    if mode & 0o170000 != stat.S_IFREG:
        raise ValueError("no regular file any more")
    flags, items = reader.read(fd, mode, warn)
    head = head_of(name, info, flags)
    link = (info[2], info[1]) if info[3] > 1 else None
    return FILE, name, head + items if items else head, info[6], link, info[1], info.st_ctime_ns


def open_root(path: bytes) -> int:
    """The directory a backup starts from, open.

    Raises:
        NotFound, BadRequest: it does not exist, or is no directory.
        Refused: it shows the kernel's state instead of holding files, or must not be read.
        HoldfastError: the disk's own complaint.
    """
    shown = os.fsdecode(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except FileNotFoundError:
        raise NotFound(f"{shown} does not exist") from None
    except NotADirectoryError:
        raise BadRequest(f"{shown} is not a directory") from None
    except OSError as error:
        raise as_holdfast_error(error, f"opening {shown}") from error
    if file_system_of(fd).is_virtual:
        os.close(fd)
        raise Refused(
            f"{shown} lies on a file system that shows the kernel's state and holds no files",
            hint="back up directories that hold data",
        )
    return fd


def _exclude_rules(patterns: Iterable[bytes]) -> "ExcludeRules":
    from holdfast.archive.excludes import ExcludeRules

    return ExcludeRules(patterns)


class _Directory:
    """One directory of the chain that is being walked."""

    __slots__ = ("device", "entries", "fd", "inode", "path", "reader")

    def __init__(self, fd: int, path: bytes, info: os.stat_result, reader: MetadataReader) -> None:
        self.fd = fd
        self.path = path  # ends in a slash, begins without one; empty for the root
        self.device = info.st_dev
        self.inode = info.st_ino
        self.reader = reader
        self.entries: Iterator[tuple[bytes, int]] = iter(())


class Contents(Protocol):
    """Reads small files on the way, for those who want that (walk_contents.ContentReader)."""

    def add(self, fd: int, event: Event, batch: list[Event], /) -> bool: ...

    def end_batch(self) -> None: ...


class _NoContents:
    """Every file stays as it was described."""

    def add(self, _fd: int, event: Event, batch: list[Event]) -> bool:
        batch.append(event)
        return False

    def end_batch(self) -> None:
        pass


class TreeWalk:
    """One pass over a tree."""

    def __init__(self, root: bytes, rules: WalkRules, contents: Contents | None = None) -> None:
        self._contents = contents or _NoContents()
        self._is_batch_full = False
        self._root = root
        self._rules = rules
        self._excludes = _exclude_rules(rules.patterns) if rules.patterns else None
        self._batch: list[Event] = []
        self._chain: list[_Directory] = []
        self._noatime = os.O_NOATIME

    def batches(self) -> Iterator[list[Event]]:
        """All events in order, a few hundred at a time.

        Raises:
            NotFound, BadRequest, Refused: the root is not there, no directory, or virtual.
            HoldfastError: the root cannot be read.
        """
        chain = self._chain
        self._begin_root()
        try:
            while chain:
                if self._walk_until_directory_or_full(chain[-1]):
                    self._end()
                if self._is_batch_full or len(self._batch) >= _BATCH:
                    yield self._ended_batch()
            yield self._ended_batch()
        finally:
            for directory in chain:
                if directory.fd >= 0:
                    os.close(directory.fd)

    def _ended_batch(self) -> list[Event]:
        batch, self._batch = self._batch, []
        self._is_batch_full = False
        self._contents.end_batch()
        return batch

    def _walk_until_directory_or_full(self, directory: _Directory) -> bool:
        """Describe children until one is a directory (now on the chain); True when all are done."""
        batch = self._batch
        dir_fd, reader, open_, close = directory.fd, directory.reader, os.open, os.close
        flags = READ_FLAGS | self._noatime
        add = self._contents.add
        warnings: list[str] = []
        warn = warnings.append
        for name, kind in directory.entries:
            if kind == _KIND_FILE:
                try:
                    fd = open_(name, flags, dir_fd=dir_fd)
                except OSError as error:
                    again = self._open_again(name, dir_fd, error)
                    if again is None:
                        self._warn(directory, name, reason(error))
                        continue
                    fd, flags = again, READ_FLAGS | self._noatime
                try:
                    is_full = add(fd, file_event(fd, name, reader, warn), batch)
                except (OSError, ValueError) as error:
                    is_full = False
                    self._warn(directory, name, reason(error))
                finally:
                    close(fd)
                if warnings:
                    self._warn(directory, name, "; ".join(warnings))
                    warnings.clear()
                if is_full or len(batch) >= _BATCH:
                    self._is_batch_full = True
                    return False
            elif kind == _KIND_DIRECTORY:
                if self._begin(directory, name):
                    return False
            else:
                self._leaf(directory, name)
        return True

    def _open_again(self, name: bytes, dir_fd: int, error: OSError) -> int | None:
        """A file that refused O_NOATIME (not ours) opened without it; None when that fails too."""
        if error.errno != errno.EPERM or not self._noatime:
            return None
        try:
            fd = os.open(name, READ_FLAGS, dir_fd=dir_fd)
        except OSError:
            return None
        self._noatime = 0
        return fd

    def _warn(self, directory: _Directory, name: bytes, text: str) -> None:
        self._batch.append((WARNING, directory.path + name, text))

    # Leaves --------------------------------------------------------------------------------------

    def _leaf(self, directory: _Directory, name: bytes) -> None:
        try:
            info = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            mode = info.st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                self._warn(directory, name, "became something else while it was read; left out")
                return
            head = head_of(name, info, 0)
            if stat.S_ISLNK(mode):
                target = os.readlink(name, dir_fd=directory.fd)
                head += _HEADER.pack(pxar.SYMLINK, 17 + len(target)) + target + b"\0"
            else:
                warnings: list[str] = []
                path = f"/proc/self/fd/{directory.fd}/{os.fsdecode(name)}"
                head += special_items(path, mode, warnings.append)
                for text in warnings:
                    self._warn(directory, name, text)
            if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
                head += _DEVICE.pack(pxar.DEVICE, 32, major, minor)
        except OSError as error:
            self._warn(directory, name, reason(error))
            return
        self._batch.append((LEAF, name, head))

    # Directories ---------------------------------------------------------------------------------

    def _begin_root(self) -> None:
        fd = open_root(self._root)
        info = os.fstat(fd)
        self._enter(_Directory(fd, b"", info, MetadataReader(file_system_of(fd))), b"", info)
        self._list(self._chain[-1])

    def _begin(self, parent: _Directory, name: bytes) -> bool:
        """Put a sub-directory on the chain; False when it is left out or stays empty."""
        flags = DIRECTORY_FLAGS | self._noatime
        try:
            try:
                fd = os.open(name, flags, dir_fd=parent.fd)
            except PermissionError as error:
                if error.errno != errno.EPERM:
                    raise
                fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent.fd)
        except OSError as error:
            self._warn(parent, name, reason(error))
            return False
        try:
            info = os.fstat(fd)
            reader, skipped = parent.reader, None
            if info.st_dev != parent.device:
                file_system = file_system_of(fd)
                reader = MetadataReader(file_system)
                if file_system.is_virtual:
                    skipped = "a view of the kernel's state"
                elif not self._rules.all_file_systems:
                    skipped = "another file system"
        except OSError as error:
            os.close(fd)
            self._warn(parent, name, reason(error))
            return False
        directory = _Directory(fd, parent.path + name + b"/", info, reader)
        self._enter(directory, name, info)
        if skipped is not None:
            text = f"stored as an empty directory: {skipped} is mounted here"
            self._batch.append((NOTE, parent.path + name, text))
        else:
            self._list(directory)
        return True

    def _enter(self, directory: _Directory, name: bytes, info: os.stat_result) -> None:
        warnings: list[str] = []
        flags, items = directory.reader.read(directory.fd, info.st_mode, warnings.append)
        for text in warnings:
            self._batch.append((WARNING, directory.path, text))
        head = head_of(name, info, flags) + items
        self._batch.append((BEGIN, name, head, info.st_dev, info.st_ino))
        chain = self._chain
        chain.append(directory)
        if len(chain) > _OPEN_DIRECTORIES_MAX:
            far = chain[-_OPEN_DIRECTORIES_MAX]
            if far.fd >= 0:
                os.close(far.fd)
                far.fd = -1

    def _end(self) -> None:
        chain = self._chain
        done = chain.pop()
        self._batch.append((END,))
        if self._excludes is not None:
            self._excludes.leave(len(chain))
        if chain and chain[-1].fd < 0:
            self._open_parent_again(chain[-1], done)
        os.close(done.fd)

    def _open_parent_again(self, parent: _Directory, child: _Directory) -> None:
        with suppress(OSError):
            fd = os.open("..", DIRECTORY_FLAGS, dir_fd=child.fd)
            info = os.fstat(fd)
            parent.fd = fd
            if (info.st_dev, info.st_ino) == (parent.device, parent.inode):
                return
        parent.entries = iter(())
        text = "moved while it was read; the rest of it is left out"
        self._batch.append((WARNING, parent.path, text))

    def _list(self, directory: _Directory) -> None:
        """Read a directory's names, drop what is excluded, sort."""
        entries: list[tuple[bytes, int]] = []
        try:
            with os.scandir(directory.fd) as listing:
                for entry in listing:
                    if entry.is_file(follow_symlinks=False):
                        kind = _KIND_FILE
                    elif entry.is_dir(follow_symlinks=False):
                        kind = _KIND_DIRECTORY
                    else:
                        kind = _KIND_OTHER
                    entries.append((entry.name.encode(_ENCODING, _ERRORS), kind))
        except OSError as error:
            text = f"the directory could not be read completely: {error.strerror}"
            self._batch.append((WARNING, directory.path, text))
        entries.sort()
        if not directory.path:
            entries = [entry for entry in entries if entry[0] != EXCLUDE_FILE_CLI]
        if (EXCLUDE_FILE, _KIND_FILE) in entries:
            if self._excludes is None:
                self._excludes = _exclude_rules(())
            for text in self._excludes.enter(directory.path, directory.fd, len(self._chain)):
                self._batch.append((WARNING, directory.path + EXCLUDE_FILE, text))
        if self._excludes is not None and self._excludes.active:
            prefix, is_excluded = b"/" + directory.path, self._excludes.is_excluded
            entries = [
                (name, kind)
                for name, kind in entries
                if not is_excluded(prefix + name, is_dir=kind == _KIND_DIRECTORY)
            ]
        directory.entries = iter(entries)


def reason(error: Exception) -> str:
    """Why an entry is left out, for a warning."""
    if isinstance(error, OSError):
        if error.errno in _GONE:
            return "vanished while the directory was read; left out"
        return f"cannot be read: {error.strerror}; left out"
    return f"{error}; left out"
