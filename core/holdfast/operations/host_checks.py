"""Checks of this machine: libraries, clock, configuration file, state directory, free space."""

import ctypes
import importlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import Final

from holdfast.config.settings import Settings
from holdfast.errors import HoldfastError
from holdfast.operations.findings import Finding, Level
from holdfast.units import GIB

LIBRARIES: Final = ("cryptography", "numpy", "pyfastcdc", "siphash24", "tomlkit", "zstandard")
_BUILT_S: Final = 1_760_000_000  # October 2025: no correct clock shows an earlier time
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_FREE_SHARE_MIN: Final = 0.05
_FREE_BYTES_MIN: Final = 1 * GIB


def check_program() -> Iterator[Finding]:
    """Python and the libraries that do the work."""
    area = "program"
    missing = []
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(f"{name} ({error})")
    version = ".".join(str(part) for part in sys.version_info[:3])
    if missing:
        yield Finding(
            level=Level.PROBLEM,
            area=area,
            message=f"libraries that cannot be loaded: {', '.join(missing)}",
            advice="install holdfast again, with its dependencies",
        )
    else:
        yield Finding(level=Level.GOOD, area=area, message=f"Python {version}, all libraries load")


def check_clock(now_s: float | None = None) -> Iterator[Finding]:
    """Snapshots are named by the time, and gc compares times."""
    now_s = time.time() if now_s is None else now_s
    if now_s < _BUILT_S:
        yield Finding(
            level=Level.PROBLEM,
            area="clock",
            message="the clock shows a time before this program was written",
            advice="set the clock; snapshots are named by it and gc decides by it",
        )
    elif not _is_clock_synchronised():
        yield Finding(
            level=Level.WARNING,
            area="clock",
            message="the clock is not synchronised with any server",
            advice="run a time service such as systemd-timesyncd or chrony",
        )
    else:
        yield Finding(level=Level.GOOD, area="clock", message="the clock is synchronised")


def _is_clock_synchronised() -> bool:
    buffer = ctypes.create_string_buffer(512)  # struct timex, zero modes: only look
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    return bool(0 <= state < _TIME_ERROR)


def check_configuration(path: str) -> tuple[Settings | None, list[Finding]]:
    """The settings, None when the file is not valid, and what there is to say of it."""
    area = "configuration"
    if not os.path.exists(path):
        message = f"{path} does not exist yet, `holdfast init` makes it"
        finding = Finding(level=Level.GOOD, area=area, message=message)
        return Settings.read(path), [finding]
    try:
        settings = Settings.read(path)
    except HoldfastError as error:
        finding = Finding(
            level=Level.PROBLEM, area=area, message=str(error), advice=error.hint or "correct it"
        )
        return None, [finding]
    findings = [
        Finding(
            level=Level.GOOD, area=area, message=f"{path} is valid, stores: {len(settings.stores)}"
        )
    ]
    if os.stat(path).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        findings.append(
            Finding(
                level=Level.PROBLEM,
                area=area,
                message=f"{path} can be changed by others, and it names programs to run",
                advice=f"chmod go-w {path}",
            )
        )
    for store in settings.stores.values():
        if store.keyfile is not None:
            findings += check_key_file(store.keyfile)
    return settings, findings


def check_key_file(path: str) -> Iterator[Finding]:
    """A key file has to be there, and nobody else's business."""
    area = "configuration"
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        yield Finding(
            level=Level.PROBLEM,
            area=area,
            message=f"key file {path}: {error.strerror}",
            advice="bring it back from its copy; without it encrypted backups are lost",
        )
        return
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding(
            level=Level.PROBLEM,
            area=area,
            message=f"key file {path} can be opened by others",
            advice=f"chmod 600 {path}",
        )


def check_state_directory(path: str) -> Iterator[Finding]:
    """Where tasks are journaled; made when first needed."""
    area = "state"
    existing = path
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        yield Finding(
            level=Level.PROBLEM,
            area=area,
            message=f"{existing} is in the way of the state directory {path}",
            advice="move it, or give another --state-dir",
        )
    elif not os.access(existing, os.W_OK):
        yield Finding(
            level=Level.WARNING,
            area=area,
            message=f"the state directory {path} cannot be written",
            advice="tasks cannot be journaled; give another --state-dir or the permission",
        )
    else:
        yield Finding(level=Level.GOOD, area=area, message=f"{path} is usable")


def check_free_space(area: str, path: str) -> Iterator[Finding]:
    """Bytes and inodes left where `path` lives."""
    info = os.statvfs(path)
    if info.f_flag & os.ST_RDONLY:
        yield Finding(
            level=Level.WARNING,
            area=area,
            message="the file system is mounted read-only",
            advice="nothing can be backed up here until it is mounted for writing",
        )
    free, size = info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize
    if size and (free < _FREE_BYTES_MIN or free / size < _FREE_SHARE_MIN):
        yield Finding(
            level=Level.WARNING,
            area=area,
            message=f"{free / GIB:.1f} GiB of {size / GIB:.1f} GiB are left",
            advice="prune, then gc; or give the store more space",
        )
    if info.f_files and info.f_favail / info.f_files < _FREE_SHARE_MIN:
        yield Finding(
            level=Level.WARNING,
            area=area,
            message=f"{info.f_favail:,} of {info.f_files:,} inodes are left",
            advice="each chunk takes one; prune, then gc, or use another file system",
        )
