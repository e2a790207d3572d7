"""Everything about a directory tree that a backup promises to keep."""

import os
import stat
from pathlib import Path
from typing import Any


def snapshot_of(root: Path | str) -> dict[bytes, Any]:
    """By relative path: type, mode, owner, time, content or target, device, attributes, links."""
    base = os.fsencode(root)
    found: dict[bytes, Any] = {b"": _describe(base)}
    first_names: dict[int, bytes] = {}
    stack = [b""]
    while stack:
        here = stack.pop()
        for name in sorted(os.listdir(base + b"/" + here)):
            path = here + name
            info = os.lstat(base + b"/" + path)
            found[path] = _describe(base + b"/" + path)
            if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
                first = first_names.setdefault(info.st_ino, path)
                found[path] += (min(first, path),)
            if stat.S_ISDIR(info.st_mode):
                stack.append(path + b"/")
    return found


def _describe(path: bytes) -> tuple[Any, ...]:
    info = os.lstat(path)
    content: Any = None
    if stat.S_ISREG(info.st_mode):
        content = Path(os.fsdecode(path)).read_bytes()
    elif stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)
    elif stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
        content = info.st_rdev
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    return info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, content, xattrs
