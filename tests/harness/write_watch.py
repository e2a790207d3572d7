"""Notes every attempt of this process to change a file or start a program, while it is switched on.

An audit hook cannot be taken off again, so there is one for the whole process, with a switch.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CHANGES = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "os.chmod"),
    *("os.chown", "os.link", "os.symlink", "os.setxattr", "os.removexattr", "shutil.rmtree"),
    *("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.system"),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HARMLESS = ("/dev/null", "/dev/tty")
_READS = {"open", "os.listdir", "os.scandir"}
_seen: list[str] = []
_reads: list[str] = []
_loop_thread = 0
_below = ""
_is_on = False
_is_installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _below and event in _READS and threading.get_ident() == _loop_thread:
        path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes) else ""
        if path.startswith(_below):
            _reads.append(f"{event} {path}")
    if not _is_on:
        return
    if event == "open":
        path, _mode, flags = args
        if isinstance(flags, int) and flags & _WRITING and path not in _HARMLESS:
            _seen.append(f"open {path!r} {flags:#o}")
    elif event in _CHANGES:
        _seen.append(f"{event} {args[:2]!r}")


@contextmanager
def reads_of_this_thread_noted(below: str) -> Iterator[list[str]]:
    """Files below `below` that this thread opened or listed in between."""
    global _below, _loop_thread  # noqa: PLW0603  # one hook per process
    _install()
    _reads.clear()
    _below, _loop_thread = below, threading.get_ident()
    try:
        yield _reads
    finally:
        _below = ""


def _install() -> None:
    global _is_installed  # noqa: PLW0603  # one hook per process
    if not _is_installed:
        sys.addaudithook(_hook)
        _is_installed = True


@contextmanager
def writes_noted() -> Iterator[list[str]]:
    """What was tried in between; the interpreter keeps no cache then, as with --read-only."""
    global _is_on  # noqa: PLW0603  # one hook per process
    _install()
    _seen.clear()
    _is_on = True
    keeps_no_cache, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield _seen
    finally:
        _is_on = False
        sys.dont_write_bytecode = keeps_no_cache
