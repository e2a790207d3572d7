"""Files: checked reads and durable writes, each effect behind the fault gate.

A file is replaced by writing a temporary one beside it, flushing it if asked, and renaming it over
the old one, so that a reader sees the old bytes or the new ones and never a mixture.
"""

import errno
import functools
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from holdfast.errors import DamagedData, HoldfastError, NoSpace, Refused
from holdfast.host import gate

if TYPE_CHECKING:
    from ctypes import CDLL

Path = str | bytes
Buffer = bytes | bytearray | memoryview

_UTIME_NOW: Final = (1 << 30) - 1
_UTIME_OMIT: Final = (1 << 30) - 2
_AT_FDCWD: Final = -100
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_IOV_MAX: Final = 1024
_SYNC_FILE_RANGE_WRITE: Final = 2
_RWF_DONTCACHE: Final = 0x80  # source: linux/fs.h
_AT_THE_POSITION: Final = -1
_KEEP_SIZE: Final = 1  # modes of fallocate(2)
_PUNCH_HOLE: Final = 2
_ZEROS_BYTES: Final = 1 << 20
WRITE_BEHIND_BYTES: Final = 16 << 20
_BEHIND_BYTES: Final = 4 * WRITE_BEHIND_BYTES


def _pass(call: str, path: object) -> int | None:
    return gate.active(call, path) if gate.active is not None else None


def as_holdfast_error(error: OSError, doing: str) -> HoldfastError:
    """The error a person should see for `error`, which came up while `doing` something."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpace(f"no space left while {doing}", hint="free space, then run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refused(f"not allowed while {doing}: {reason}")
    return HoldfastError(f"{reason} while {doing}")


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn an OSError inside the block into a HoldfastError that says what was being done."""
    try:
        yield
    except OSError as error:
        raise as_holdfast_error(error, doing) from error


# Reading -----------------------------------------------------------------------------------------


def open_read(path: Path, *, dir_fd: int | None = None, extra_flags: int = 0) -> int:
    """Open for reading without moving the access time where that is allowed (OSError)."""
    _pass("open", path)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | extra_flags
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:  # only the owner may ask for O_NOATIME
        return os.open(path, flags, dir_fd=dir_fd)


def read_all(fd: int, *, size_max: int, what: str) -> bytes:
    """Everything from `fd`, which must be a regular file of at most `size_max` bytes.

    Raises:
        DamagedData: larger than that, not a regular file, or cut short while reading.
        OSError: the disk's own complaint.
    """
    _pass("read", what)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise DamagedData(what, "not a regular file")
    if info.st_size > size_max:
        raise DamagedData(what, f"{info.st_size} bytes, more than the {size_max} it may have")
    data = os.pread(fd, info.st_size + 1, 0)
    if len(data) < info.st_size:  # an interrupted or odd read: collect the rest
        parts = [data]
        got = len(data)
        while got < info.st_size and (more := os.pread(fd, info.st_size - got, got)):
            parts.append(more)
            got += len(more)
        data = b"".join(parts)
    if len(data) != info.st_size:
        raise DamagedData(what, f"{len(data)} bytes could be read, {info.st_size} were expected")
    return data


def read_file(path: Path, *, size_max: int, dir_fd: int | None = None) -> bytes:
    """The bytes of a regular file that is not a symbolic link (see read_all for errors)."""
    fd = open_read(path, dir_fd=dir_fd, extra_flags=os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return read_all(fd, size_max=size_max, what=os.fsdecode(path))
    finally:
        os.close(fd)


def expect_file(path: Path) -> None:
    """Have the disk begin with a file that will soon be read whole; only advice, never fails."""
    with suppress(OSError):
        fd = open_read(path, extra_flags=os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)


@contextmanager
def scanned(path: Path) -> Iterator[Iterator["os.DirEntry[str]"]]:
    """What the directory holds, read without moving its access time or following a link (OSError).

    Entries are good inside the block only.
    """
    fd = open_read(path, extra_flags=os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with os.scandir(fd) as entries:
            yield entries
    finally:
        os.close(fd)


# Writing -----------------------------------------------------------------------------------------


def write_all(
    fd: int, parts: Iterable[Buffer], *, path: object = None, stays_in_memory: bool = True
) -> int:
    """Write every byte of `parts`, however small the system's steps; bytes written (OSError).

    What does not stay in memory goes to the disk at once and then makes room for what others need,
    where the kernel can do that.
    """
    writev = os.writev if stays_in_memory else _write_and_let_go
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    total = 0
    while views:
        limit = _pass("write", path)
        done = writev(fd, views[:_IOV_MAX]) if limit is None else os.write(fd, views[0][:limit])
        if done == 0:
            raise OSError(errno.EIO, "the system accepted no bytes", path)
        total += done
        while views and done >= len(views[0]):
            done -= len(views.pop(0))
        if done:
            views[0] = views[0][done:]
    return total


def _write_and_let_go(fd: int, views: list[memoryview]) -> int:
    try:
        return os.pwritev(fd, views, _AT_THE_POSITION, _RWF_DONTCACHE)
    except NotImplementedError:  # an old C library
        return os.writev(fd, views)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # Linux before 6.14, or this file system
            raise
        return os.writev(fd, views)


def pwrite_all(fd: int, data: Buffer, offset: int, *, path: object = None) -> None:
    """Write every byte of `data` at `offset` (OSError)."""
    view = memoryview(data).cast("B")
    while view:
        limit = _pass("write", path)
        done = os.pwrite(fd, view if limit is None else view[:limit], offset)
        if done == 0:
            raise OSError(errno.EIO, "the system accepted no bytes", path)
        view, offset = view[done:], offset + done


def temporary_name(path: str, suffix: str | None = None) -> str:
    """Beside `path`, its last extension replaced by `tmp_XXXXXX` (or by `suffix`)."""
    directory, name = os.path.split(path)
    stem, dot, _extension = name.rpartition(".")
    ending = suffix or f"tmp_{os.urandom(3).hex()}"
    return os.path.join(directory, f"{stem if dot else name}.{ending}")


def create(path: Path, *, mode: int = 0o644, dir_fd: int | None = None) -> int:
    """Open a new file for reading and writing with exactly `mode`; it must not exist (OSError)."""
    _pass("open", path)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, mode, dir_fd=dir_fd)
    os.fchmod(fd, mode)
    return fd


def open_update(path: Path, *, mode: int | None = None, append: bool = False) -> int:
    """Open for reading and writing in place; with `mode`, a missing file is made (OSError)."""
    _pass("open", path)
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | (os.O_APPEND if append else 0)
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        if mode is None:
            raise
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:  # made by somebody else in between
        return os.open(path, flags)
    os.fchmod(fd, mode)
    return fd


def truncate(fd: int, size: int, *, path: object = None) -> None:
    """Give the file exactly `size` bytes; new ones are a hole (OSError)."""
    _pass("truncate", path)
    os.ftruncate(fd, size)


def replace_file(
    path: str,
    parts: Sequence[Buffer],
    *,
    mode: int = 0o644,
    owner: tuple[int, int] | None = None,
    sync: bool = False,
    flush_soon: bool = False,
) -> int:
    """Put `parts` under `path` in one step; bytes written (OSError, nothing left behind).

    Args:
        path: what to replace, or make.
        parts: written one after the other.
        mode: permission bits, set whatever the umask.
        owner: uid and gid to give the file to.
        sync: flush the file before and its directory after the rename.
        flush_soon: have the disk begin with it now, so that a later flush of all has little left,
            and keep it in memory no longer than that takes.
    """
    temporary = temporary_name(path)
    fd = create(temporary, mode=mode)
    try:
        try:
            size = write_all(fd, parts, path=path, stays_in_memory=not flush_soon)
            if owner is not None:
                os.fchown(fd, *owner)
            if sync:
                fsync(fd, path=path)
            elif flush_soon:
                begin_flush(fd, path=path)
        finally:
            os.close(fd)
        rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        fsync_directory(os.path.dirname(path))
    return size


def rename(source: Path, target: Path) -> None:
    _pass("rename", target)
    os.rename(source, target)


def link(source: Path, target: Path) -> None:
    _pass("link", target)
    os.link(source, target, follow_symlinks=False)


def unlink(path: Path, *, dir_fd: int | None = None) -> None:
    _pass("unlink", path)
    os.unlink(path, dir_fd=dir_fd)


def make_directory(path: Path, *, mode: int = 0o755, owner: tuple[int, int] | None = None) -> None:
    """One new directory with exactly `mode` (OSError)."""
    _pass("mkdir", path)
    os.mkdir(path, mode)
    os.chmod(path, mode)
    if owner is not None:
        os.chown(path, *owner)


def make_directories(
    path: str, names: Iterable[str], *, mode: int, owner: tuple[int, int] | None = None
) -> None:
    """Many new directories in `path`, each with exactly `mode`, as cheaply as can be (OSError).

    Changing mode and owner afterwards would write each inode three times, so they are made by their
    owner's file system identity, which only this thread assumes; `path` has to belong to them.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    needs_chmod = mode & _umask() != 0
    try:
        with _as_owner(owner):
            for name in names:
                _pass("mkdir", name)
                os.mkdir(name, mode, dir_fd=fd)
                if needs_chmod:
                    os.chmod(name, mode, dir_fd=fd)
    finally:
        os.close(fd)


def _umask() -> int:
    """This process's, without changing it for other threads even for a moment."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((int(line[6:], 8) for line in status if line.startswith("Umask:")), 0o777)


@contextmanager
def _as_owner(owner: tuple[int, int] | None) -> Iterator[None]:
    """New files of this thread belong to `owner` inside the block; for root only."""
    if owner is None:
        yield
        return
    libc = _libc()
    before_gid = libc.setfsgid(owner[1])
    before_uid = libc.setfsuid(owner[0])
    try:
        if libc.setfsuid(-1) != owner[0]:  # sets nothing and tells what is set
            raise PermissionError(errno.EPERM, "cannot make files for another user")
        yield
    finally:
        libc.setfsuid(before_uid)
        libc.setfsgid(before_gid)


def remove_directory(path: Path) -> None:
    _pass("rmdir", path)
    os.rmdir(path)


def fsync(fd: int, *, path: object = None) -> None:
    _pass("fsync", path)
    os.fsync(fd)


def flush_data(fd: int) -> None:
    """What was written to `fd` survives a power loss (fdatasync; OSError)."""
    _pass("fsync", fd)
    os.fdatasync(fd)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Make a range of a file or block device read as zero and give its space back (OSError)."""
    _pass("write", fd)
    import ctypes

    libc = _libc()
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        raise OSError(number, os.strerror(number))
    zeros = bytes(min(length, _ZEROS_BYTES))  # the file system cannot: write them
    for at in range(offset, offset + length, _ZEROS_BYTES):
        pwrite_all(fd, zeros[: offset + length - at], at)


def begin_flush(fd: int, *, path: object = None) -> None:
    """Let the disk begin to write what the file holds, without waiting for it (OSError)."""
    _pass("flush", path)
    if _sync_file_range()(fd, 0, 0, _SYNC_FILE_RANGE_WRITE) != 0:
        error = _last_error(path)
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise error  # others mean that this file system has no such thing


def write_behind(fd: int, end: int) -> None:
    """For a large file written in order, about every WRITE_BEHIND_BYTES; only advice, never fails.

    The disk begins with what lies shortly before `end`, and what it has written already is let go.
    So a restore does not push everything else out of the machine's memory, and memory used a moment
    ago is filled again, which is much faster than taking new.
    """
    start = max(end - _BEHIND_BYTES, 0)
    with suppress(OSError):
        os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_DONTNEED)


def fsync_directory(path: Path) -> None:
    """Make renames and new names in `path` last (OSError)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd, path=path)
    finally:
        os.close(fd)


def sync_filesystem(path: Path) -> None:
    """Flush everything of the file system that holds `path` (syncfs; OSError)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _pass("syncfs", path)
        if _libc().syncfs(fd) != 0:
            raise _last_error(path)
    finally:
        os.close(fd)


# Access times ------------------------------------------------------------------------------------


_TIMES: Final = struct.Struct("4l")  # two of: seconds, nanoseconds
_NOW_AND_KEEP: Final = _TIMES.pack(0, _UTIME_NOW, 0, _UTIME_OMIT)


@functools.cache
def _libc() -> "CDLL":
    import ctypes  # takes longer to load than many a command to run

    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _utimensat() -> Callable[..., int]:
    import ctypes

    function = _libc().utimensat
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
    function.restype = ctypes.c_int
    return function


@functools.cache
def _sync_file_range() -> Callable[..., int]:
    import ctypes

    function = _libc().sync_file_range
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function


def _last_error(path: object) -> OSError:
    import ctypes

    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


def touch_access_time(path: Path, *, dir_fd: int | None = None) -> None:
    """Access time now, modification time kept, links not followed (FileNotFoundError, OSError)."""
    _pass("touch", path)
    where = _AT_FDCWD if dir_fd is None else dir_fd
    if _utimensat()(where, os.fsencode(path), _NOW_AND_KEEP, _AT_SYMLINK_NOFOLLOW) != 0:
        raise _last_error(path)


def set_access_time(path: Path, seconds: int) -> None:
    """Set the access time, keep the modification time, do not follow links (OSError)."""
    _pass("touch", path)
    times = _TIMES.pack(seconds, 0, 0, _UTIME_OMIT)
    if _utimensat()(_AT_FDCWD, os.fsencode(path), times, _AT_SYMLINK_NOFOLLOW) != 0:
        raise _last_error(path)
