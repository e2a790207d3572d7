r"""Entries of archives as lines for people and objects for scripts.

JSON paths are valid Unicode always: a byte that is no UTF-8 is written `\xff`, and `path_hex` then
has the exact bytes.
"""

import stat as stat_bits
from datetime import UTC, datetime

from holdfast.archive.pxar.format import Kind, Stat
from holdfast.operations.browse import Listed
from holdfast.shown import printable


def path_json(path: bytes) -> dict[str, object]:
    """`path`, and `path_hex` where the name is no UTF-8."""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {"path": path.decode("utf-8", "backslashreplace"), "path_hex": path.hex()}


def time_json(stat: Stat | None) -> str | None:
    """RFC 3339 in UTC, with nanoseconds where there are any; None for a time no calendar has."""
    if stat is None:
        return None
    try:
        text = datetime.fromtimestamp(stat.mtime_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return None
    return f"{text.rjust(19, '0')}{f'.{stat.mtime_ns:09d}' if stat.mtime_ns else ''}Z"


def listed_json(listed: Listed) -> dict[str, object]:
    """The stable JSON form of one entry."""
    stat = listed.stat
    entry = listed.entry
    found = path_json(listed.path) | {
        "kind": entry.kind.value,
        "size": listed.size,
        "mtime": time_json(stat),
        "mode": None if stat is None else stat_bits.S_IMODE(stat.mode),
        "uid": None if stat is None else stat.uid,
        "gid": None if stat is None else stat.gid,
    }
    if entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
        found["target"] = entry.target.decode("utf-8", "backslashreplace")
    if entry.device is not None:
        found["device"] = list(entry.device)
    if entry.problem is not None:
        found["problem"] = entry.problem
    return found


def listed_line(listed: Listed) -> str:
    """Like `ls -l`: permissions, owner, size or device, time, path and where a link leads."""
    stat = listed.stat
    entry = listed.entry
    path = printable(listed.path) or "."
    if entry.kind is Kind.DIRECTORY:
        path += "/"
    elif entry.kind is Kind.SYMLINK:
        path += f" -> {printable(entry.target)}"
    elif entry.kind is Kind.HARDLINK:
        path += f" = {printable(entry.target)}"
    if entry.problem is not None:
        path += f"  ({entry.problem})"
    if stat is None:
        return f"{'?':>10} {'?':>11} {'?':>12} {'?':>16} {path}"
    size = "{},{}".format(*entry.device) if entry.device is not None else str(listed.size)
    owner = f"{stat.uid}/{stat.gid}"
    when = (time_json(stat) or "?")[:16].replace("T", " ")
    return f"{stat_bits.filemode(stat.mode)} {owner:>11} {size:>12} {when:>16} {path}"
