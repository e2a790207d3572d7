"""Entries made below an open directory, each effect behind the fault gate.

Working relative to descriptors, never through a symbolic link, is what keeps a restore inside of
its target however the tree around it changes.
"""

import os

from holdfast.host import gate

Name = str | bytes


def _pass(call: str, name: object) -> None:
    if gate.active is not None:
        gate.active(call, name)


def create(name: Name, mode: int, *, dir_fd: int) -> int:
    """A new file, open for writing; `mode` is subject to the umask (FileExistsError, OSError)."""
    if gate.active is not None:
        gate.active("open", name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, mode, dir_fd=dir_fd)


def make_directory(name: Name, mode: int, *, dir_fd: int) -> None:
    """A new directory (FileExistsError, OSError)."""
    _pass("mkdir", name)
    os.mkdir(name, mode, dir_fd=dir_fd)


def make_symlink(target: Name, name: Name, *, dir_fd: int) -> None:
    """A new symbolic link (FileExistsError, OSError)."""
    _pass("symlink", name)
    os.symlink(target, name, dir_fd=dir_fd)


def make_node(name: Name, mode: int, device: int, *, dir_fd: int) -> None:
    """A new device, fifo or socket (FileExistsError, OSError)."""
    _pass("mknod", name)
    os.mknod(name, mode, device, dir_fd=dir_fd)


def link(source: Name, target: Name, *, source_fd: int, target_fd: int) -> None:
    """A second name for `source`, which is not followed if it is a symbolic link (OSError)."""
    _pass("link", target)
    os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)


def rename(source: Name, target: Name, *, dir_fd: int) -> None:
    """Within one directory, replacing what has the new name (OSError)."""
    _pass("rename", target)
    os.rename(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def open_directory(name: Name, *, dir_fd: int) -> int:
    """An existing directory that is no symbolic link (OSError)."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=dir_fd)
