"""A tree as a tar stream (POSIX.1-2001, "pax"), with everything tar can carry.

Extended attributes, access lists and capabilities go into pax records as GNU tar, libarchive and
star read them: SCHILY.xattr.NAME, SCHILY.acl.access, SCHILY.acl.default. Times keep nanoseconds.
Sockets have no place in tar and are left out with a warning. Contents are streamed.
"""

import tarfile
from typing import Final

from holdfast.archive.export_tree import Exported, Output, Warn, exported_entries
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import ABSENT, Acl, AclDefault, AclEntry, Kind, Metadata
from holdfast.archive.pxar.items import Entry
from holdfast.shown import printable

_BLOCK: Final = tarfile.BLOCKSIZE
_TYPES: Final = {
    Kind.DIRECTORY: tarfile.DIRTYPE,
    Kind.FILE: tarfile.REGTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.BLOCK: tarfile.BLKTYPE,
    Kind.CHAR: tarfile.CHRTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}
_DEVICE_NUMBER_MAX: Final = 8**7 - 1
_RWX: Final = ("---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx")


def write_tar(accessor: Accessor, top: Entry, out: Output, warn: Warn) -> int:
    """Write `top` and all below to `out`; how many entries (DamagedData)."""
    count = written = 0
    for item in exported_entries(accessor, top, warn):
        if item.entry.kind not in _TYPES:
            warn(f"{printable(item.path)} is left out: tar has no place for a {item.entry.kind}")
            continue
        if item.entry.device is not None and max(item.entry.device) > _DEVICE_NUMBER_MAX:
            warn(f"{printable(item.path)} is left out: its device number is too large for tar")
            continue
        head = _header(item).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        out.write(head)
        written += len(head)
        if item.entry.kind is Kind.FILE and item.same_as is None:
            for piece in accessor.content(item.entry).pieces():
                out.write(piece)
            padding = -item.entry.size % _BLOCK
            out.write(bytes(padding))
            written += item.entry.size + padding
        count += 1
    end = 2 * _BLOCK
    out.write(bytes(end + -(written + end) % tarfile.RECORDSIZE))
    return count


def _header(item: Exported) -> tarfile.TarInfo:
    entry = item.entry
    metadata = entry.metadata
    assert metadata is not None  # hard links were resolved
    stat = metadata.stat
    info = tarfile.TarInfo(_text(item.path))
    info.type = _TYPES[entry.kind]
    info.mode = stat.mode & 0o7777
    info.uid, info.gid = stat.uid, stat.gid
    info.mtime = stat.mtime_s
    info.pax_headers = _pax(metadata)
    if entry.kind is Kind.SYMLINK:
        info.linkname = _text(entry.target)
    elif entry.device is not None:
        info.devmajor, info.devminor = entry.device
    elif item.same_as is not None:
        info.type = tarfile.LNKTYPE
        info.linkname = _text(item.same_as)
    elif entry.kind is Kind.FILE:
        info.size = entry.size
    return info


def _pax(metadata: Metadata) -> dict[str, str]:
    records: dict[str, str] = {}
    if metadata.stat.mtime_ns:
        records["mtime"] = _decimal_time(metadata.stat.mtime_s, metadata.stat.mtime_ns)
    for name, value in metadata.xattrs:
        records[f"SCHILY.xattr.{_text(name)}"] = _text(value)
    if metadata.fcaps is not None:
        records["SCHILY.xattr.security.capability"] = _text(metadata.fcaps)
    if metadata.acl is not None:
        records |= _acl_records(metadata.acl, metadata.stat.mode)
    return records


def _text(data: bytes) -> str:
    """Any bytes as the text tarfile turns back into the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def _decimal_time(seconds: int, nanoseconds: int) -> str:
    if seconds < 0:  # two seconds before, half a second after: 1.5 seconds before
        return f"-{-seconds - 1}.{1_000_000_000 - nanoseconds:09d}"
    return f"{seconds}.{nanoseconds:09d}"


def _acl_records(acl: Acl, mode: int) -> dict[str, str]:
    records: dict[str, str] = {}
    user, group, other = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    if acl.users or acl.groups or acl.group_obj is not None:
        owning = group if acl.group_obj is None else acl.group_obj & 7
        unnamed = AclDefault(user, owning, other, group)
        records["SCHILY.acl.access"] = _acl_text(unnamed, acl.users, acl.groups)
    if acl.default is not None:
        records["SCHILY.acl.default"] = _acl_text(
            acl.default, acl.default_users, acl.default_groups
        )
    return records


def _acl_text(
    unnamed: AclDefault, users: tuple[AclEntry, ...], groups: tuple[AclEntry, ...]
) -> str:
    """The short text form, `user::rw-,user:1000:r--,...`; absent entries are left out."""
    user, group, other, mask = unnamed
    parts = [f"user::{_RWX[user & 7]}" if user != ABSENT else ""]
    parts += [f"user:{one.id}:{_RWX[one.perms]}" for one in users]
    parts.append(f"group::{_RWX[group & 7]}" if group != ABSENT else "")
    parts += [f"group:{one.id}:{_RWX[one.perms]}" for one in groups]
    parts.append(f"mask::{_RWX[mask & 7]}" if mask != ABSENT else "")
    parts.append(f"other::{_RWX[other & 7]}" if other != ABSENT else "")
    return ",".join(part for part in parts if part)
