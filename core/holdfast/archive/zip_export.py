"""A tree as a zip file: names, contents, times to two seconds, permission bits.

Symbolic links are entries whose content is the target, as Info-ZIP reads them; further names of a
file are copies; fifos, sockets and devices are left out with a warning. Names are UTF-8: a byte
that is none becomes `%XX`. Written front to back, so it can go into a pipe.
"""

import time
import zipfile
from typing import Final

from holdfast.archive.export_tree import Exported, Output, Warn, exported_entries
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import Kind, Stat
from holdfast.archive.pxar.items import Buffer, Entry
from holdfast.shown import printable

_KINDS: Final = frozenset({Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK})
_UNIX: Final = 3
_DOS_DIRECTORY: Final = 0x10
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_LATEST: Final = (2107, 12, 31, 23, 59, 58)
_FAST: Final = 1  # zlib level: contents come from a backup, nobody stores the zip for long


class _Forward:
    """A file for zipfile that can only be written to."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._position = 0

    def write(self, data: Buffer) -> int:
        self._out.write(data)
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def write_zip(accessor: Accessor, top: Entry, out: Output, warn: Warn) -> int:
    """Write `top` and all below to `out`; how many entries (DamagedData)."""
    count = 0
    forward = _Forward(out)
    with zipfile.ZipFile(
        forward, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST, strict_timestamps=False
    ) as archive:
        for item in exported_entries(accessor, top, warn):
            if item.entry.kind not in _KINDS:
                what = item.entry.kind
                warn(f"{printable(item.path)} is left out: zip has no place for a {what}")
                continue
            if item.path == b".":
                continue
            _write_entry(accessor, archive, item, warn)
            count += 1
    return count


def _write_entry(accessor: Accessor, archive: zipfile.ZipFile, item: Exported, warn: Warn) -> None:
    entry = item.entry
    assert entry.metadata is not None
    stat = entry.metadata.stat
    name = _name(item.path, warn) + ("/" if entry.kind is Kind.DIRECTORY else "")
    info = zipfile.ZipInfo(name, _date(stat))
    info.create_system = _UNIX
    info.external_attr = (stat.mode & 0xFFFF) << 16
    if entry.kind is Kind.FILE:
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = entry.size
        with archive.open(info, "w", force_zip64=entry.size >= zipfile.ZIP64_LIMIT) as target:
            for piece in accessor.content(entry).pieces():
                target.write(piece)
        return
    if entry.kind is Kind.DIRECTORY:
        info.external_attr |= _DOS_DIRECTORY
    archive.writestr(info, entry.target)


def _name(path: bytes, warn: Warn) -> str:
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        warn(f"{printable(path)} is no UTF-8 and gets another name in the zip file")
        escaped = path.decode("utf-8", "surrogateescape")
        return "".join(
            f"%{ord(char) - 0xDC00:02X}" if 0xDC80 <= ord(char) <= 0xDCFF else char  # noqa: PLR2004
            for char in escaped
        )


def _date(stat: Stat) -> tuple[int, int, int, int, int, int]:
    try:
        year, month, day, hour, minute, second = time.gmtime(stat.mtime_s)[:6]
    except (ValueError, OverflowError, OSError):
        return _EARLIEST
    return min(max((year, month, day, hour, minute, second), _EARLIEST), _LATEST)
