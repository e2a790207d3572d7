"""What a backup asks about an open file beyond stat: xattrs, ACLs, capabilities, flags, project.

The answers come back as the archive's attribute items, ready to be written, because most files have
none and building a record per file would cost more than asking. Which names are kept: `user.*`,
`trusted.*` and `security.NTACL` as they are, `security.capability` and the two POSIX ACLs as items
of their own, everything else (such as SELinux labels) not at all.
"""

import errno
import fcntl
import os
import stat
from array import array
from collections.abc import Callable
from typing import Final

from holdfast.archive import inode_flags, posix_acl
from holdfast.archive.file_systems import FileSystem
from holdfast.archive.pxar import format as pxar

CAPABILITY: Final = "security.capability"
_NAME_BYTES_MAX: Final = 255
_NO_XATTRS: Final = frozenset({errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS})
_NOT_THERE: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.EBADF})

Warn = Callable[[str], None]

_ioctl = fcntl.ioctl
_listxattr = os.listxattr


def is_kept_xattr(name: bytes) -> bool:
    """Whether an extended attribute is stored, and restored, as a plain XATTR item."""
    return 0 < len(name) <= _NAME_BYTES_MAX and (
        name.startswith((b"user.", b"trusted.")) or name == b"security.NTACL"
    )


def _named(entries: posix_acl.Named) -> tuple[pxar.AclEntry, ...]:
    return tuple(pxar.AclEntry(identifier, bits) for identifier, bits in entries)


def archived_acl(
    access: posix_acl.AclList | None, default: posix_acl.AclList | None
) -> pxar.Acl | None:
    """What both lists say beyond the mode bits; None when that is nothing."""
    acl = pxar.Acl()
    if access is not None:
        acl = acl._replace(
            users=_named(access.users),
            groups=_named(access.groups),
            group_obj=None if access.mask is None else access.group_obj or 0,
        )
    if default is not None:
        obj = (default.user_obj, default.group_obj, default.other, default.mask)
        if any(value is not None for value in obj):
            acl = acl._replace(
                default=pxar.AclDefault(*(pxar.ABSENT if value is None else value for value in obj))
            )
        acl = acl._replace(
            default_users=_named(default.users), default_groups=_named(default.groups)
        )
    return None if acl == pxar.Acl() else acl


class MetadataReader:
    """Asks the files of one file system; remembers what that file system cannot answer."""

    def __init__(self, file_system: FileSystem) -> None:
        self._has_xattrs = True
        self._has_flags = True
        self._has_fat = file_system.has_fat_attributes
        self._has_projects = file_system.has_project_ids
        self._known_flags: dict[int, int] = {}  # few different answers for very many files
        # what the kernel answers into: faster than having it make new bytes each time
        self._flags = array("I", bytes(inode_flags.FLAGS_BYTES))
        self._project = array("I", bytes(inode_flags.PROJECT_BYTES))

    def read(  # noqa: C901  # one call per file: every further call inside would show
        self, fd: int, mode: int, warn: Warn
    ) -> tuple[int, bytes]:
        """ENTRY.flags and the attribute items of an open regular file or directory.

        What cannot be read is left out and said through `warn`; nothing is raised.
        """
        flags, items = 0, b""
        try:
            if self._has_flags:
                raw = self._flags
                _ioctl(fd, inode_flags.GET_FLAGS, raw, True)  # noqa: FBT003  # no keywords here
                known = self._known_flags.get(raw[0])
                flags = self._translate(raw[0]) if known is None else known
        except OSError as error:
            self._has_flags = error.errno not in inode_flags.UNSUPPORTED
            if self._has_flags:
                warn(f"its attribute flags cannot be read: {error.strerror}")
        if self._has_fat:
            flags |= self._fat_flags(fd, warn)
        try:
            if self._has_xattrs and (names := _listxattr(fd)):
                items = _xattr_items(fd, names, mode, warn)
        except OSError as error:
            self._has_xattrs = error.errno not in _NO_XATTRS
            if self._has_xattrs:
                warn(f"its extended attributes cannot be listed: {error.strerror}")
        try:
            if self._has_projects:
                _ioctl(fd, inode_flags.GET_PROJECT, self._project, True)  # noqa: FBT003
                project_id = self._project[3]
                if project_id:
                    items += pxar.header(pxar.QUOTA_PROJID, 8) + project_id.to_bytes(8, "little")
        except OSError as error:
            self._has_projects = error.errno not in inode_flags.UNSUPPORTED
            if self._has_projects:
                warn(f"its project cannot be read: {error.strerror}")
        return flags, items

    def _translate(self, raw: int) -> int:
        flags = self._known_flags[raw] = inode_flags.from_kernel(raw)
        return flags

    def _fat_flags(self, fd: int, warn: Warn) -> int:
        try:
            return inode_flags.from_kernel(0, inode_flags.read_fat_attributes(fd))
        except OSError as error:
            if error.errno in inode_flags.UNSUPPORTED:
                self._has_fat = False
            else:
                warn(f"its FAT attributes cannot be read: {error.strerror}")
            return 0


def special_items(path: str, mode: int, warn: Warn) -> bytes:
    """Attribute items of a device, fifo or socket, which cannot be opened: asked by path.

    Args:
        path: below /proc/self/fd/N, so that no directory on the way can be exchanged.
        mode: st_mode.
        warn: takes what could not be read.
    """
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return b""
    return _xattr_items(path, names, mode, warn) if names else b""


def _xattr_items(where: int | str, names: list[str], mode: int, warn: Warn) -> bytes:
    plain: list[pxar.Xattr] = []
    fcaps: bytes | None = None
    lists: dict[str, posix_acl.AclList] = {}
    for name in names:
        raw_name = os.fsencode(name)
        is_acl = name == posix_acl.ACCESS or (name == posix_acl.DEFAULT and stat.S_ISDIR(mode))
        if not (is_acl or name == CAPABILITY or is_kept_xattr(raw_name)):
            continue
        try:
            value = (
                os.getxattr(where, name)
                if isinstance(where, int)
                else os.getxattr(where, name, follow_symlinks=False)
            )
            if is_acl:
                lists[name] = posix_acl.parse(value)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                warn(f"its attribute {name} cannot be read: {error.strerror}")
            continue
        except ValueError as error:
            warn(f"its attribute {name} is {error}")
            continue
        if name == CAPABILITY:
            fcaps = value
        elif not is_acl:
            plain.append(pxar.Xattr(raw_name, value))
    acl = archived_acl(lists.get(posix_acl.ACCESS), lists.get(posix_acl.DEFAULT))
    metadata = pxar.Metadata(pxar.Stat(mode), xattrs=tuple(plain), acl=acl, fcaps=fcaps)
    return pxar.attributes(metadata)
