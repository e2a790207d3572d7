"""Give restored entries their metadata back, in the only order that works.

Owner first, since chown clears set-user bits and capabilities; then extended attributes,
capabilities, ACLs and project; then the mode, which may take away access; then the time, which all
of these would change; attribute flags such as "immutable" last. Everything goes through a
descriptor (for entries that cannot be opened: through /proc/self/fd of an O_PATH descriptor), so
no name is looked up twice. Source: the pxar format, restore.
"""

import errno
import functools
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from operator import or_
from typing import Final

from holdfast.archive import inode_flags, posix_acl
from holdfast.archive.metadata import CAPABILITY, is_kept_xattr
from holdfast.archive.pxar import format as pxar

_NANO: Final = 1_000_000_000
_PERMISSIONS: Final = 0o7777
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_IGNORED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})

Problem = Callable[[str], None]


def _acl_named(entries: tuple[pxar.AclEntry, ...]) -> posix_acl.Named:
    return tuple((entry.id, entry.perms) for entry in entries)


def kernel_acls(acl: pxar.Acl, mode: int) -> tuple[bytes, bytes | None]:
    """The values of the access and default ACL attributes for an archive's ACL and mode."""
    group_bits = mode >> 3 & 7
    has_named = bool(acl.users or acl.groups)
    access = posix_acl.AclList(
        users=_acl_named(acl.users),
        groups=_acl_named(acl.groups),
        user_obj=mode >> 6 & 7,
        group_obj=group_bits if acl.group_obj is None else acl.group_obj,
        mask=group_bits if has_named or acl.group_obj is not None else None,
        other=mode & 7,
    )
    default = None
    if acl.default is not None:
        user, group, other, mask = (
            None if value == pxar.ABSENT else value for value in acl.default
        )
        named = acl.default_users + acl.default_groups
        if named and mask is None:  # the kernel wants one; this one takes nothing away
            mask = functools.reduce(or_, (entry.perms for entry in named), group or 0)
        default = posix_acl.build(
            posix_acl.AclList(
                users=_acl_named(acl.default_users),
                groups=_acl_named(acl.default_groups),
                user_obj=user,
                group_obj=group,
                other=other,
                mask=mask,
            )
        )
    return posix_acl.build(access), default


class MetadataWriter:
    """Applies metadata; counts what only root may set instead of warning about every entry.

    Attributes:
        foreign_owners: entries whose owner could not be set.
    """

    def __init__(self, now_ns: int, *, sets_owner: bool = True) -> None:
        self._now_ns = now_ns  # access time of what is restored
        self._sets_owner = sets_owner
        self.foreign_owners = 0

    def apply(self, fd: int, metadata: pxar.Metadata, problem: Problem) -> None:
        """An open file or directory; what fails is told and the rest still done."""
        info = metadata.stat
        owned = self._own(fd, info, problem)
        if metadata.xattrs or metadata.fcaps is not None:
            _write_xattrs(fd, metadata, problem)
        if metadata.acl is not None:
            _write_acls(fd, metadata.acl, info.mode, problem)
        if metadata.projid:
            _write_project(fd, metadata.projid, problem)
        mode = info.mode & _PERMISSIONS
        try:
            os.fchmod(fd, mode if owned else mode & ~_SET_ID)
            os.utime(fd, ns=(self._now_ns, info.mtime_s * _NANO + info.mtime_ns))
        except OSError as error:
            _tell(error, "its mode or time cannot be set", problem)
        if info.flags:
            _write_flags(fd, info.flags, problem)

    def apply_to_special(self, fd: int, metadata: pxar.Metadata, problem: Problem) -> None:
        """A device, fifo or socket, held by an O_PATH descriptor."""
        info = metadata.stat
        path = f"/proc/self/fd/{fd}"
        owned = self._own(path, info, problem)
        _write_xattrs(path, metadata, problem)
        if metadata.acl is not None:
            _write_acls(path, metadata.acl, info.mode, problem)
        mode = info.mode & _PERMISSIONS
        try:
            os.chmod(path, mode if owned else mode & ~_SET_ID)
            os.utime(path, ns=(self._now_ns, info.mtime_s * _NANO + info.mtime_ns))
        except OSError as error:
            _tell(error, "its mode or time cannot be set", problem)

    def apply_to_symlink(
        self, name: bytes, metadata: pxar.Metadata, problem: Problem, *, dir_fd: int
    ) -> None:
        """The link itself, never what it points to."""
        info = metadata.stat
        if self._sets_owner:
            try:
                os.chown(name, info.uid, info.gid, dir_fd=dir_fd, follow_symlinks=False)
            except OSError as error:
                self._count_owner(error, problem)
        try:
            times = (self._now_ns, info.mtime_s * _NANO + info.mtime_ns)
            os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False)
        except OSError as error:
            _tell(error, "its time cannot be set", problem)

    def _own(self, where: int | str, info: pxar.Stat, problem: Problem) -> bool:
        if not self._sets_owner:
            return False
        try:
            os.chown(where, info.uid, info.gid)
        except OSError as error:
            self._count_owner(error, problem)
            return False
        return True

    def _count_owner(self, error: OSError, problem: Problem) -> None:
        if error.errno in (errno.EPERM, errno.EINVAL):
            self.foreign_owners += 1
        else:
            _tell(error, "its owner cannot be set", problem)


def _tell(error: OSError, what: str, problem: Problem) -> None:
    if error.errno not in _IGNORED:
        problem(f"{what}: {error.strerror}")


def _write_xattrs(where: int | str, metadata: pxar.Metadata, problem: Problem) -> None:
    for name, value in metadata.xattrs:
        if not is_kept_xattr(name):
            problem(f"attribute {os.fsdecode(name)!r} is none that an archive may set")
            continue
        try:
            os.setxattr(where, name, value)
        except OSError as error:
            problem(f"attribute {os.fsdecode(name)!r} cannot be set: {error.strerror}")
            if error.errno == errno.EOPNOTSUPP:
                return
    if metadata.fcaps is not None:
        try:
            os.setxattr(where, CAPABILITY, metadata.fcaps)
        except OSError as error:
            problem(f"its capabilities cannot be set: {error.strerror}")


def _write_acls(where: int | str, acl: pxar.Acl, mode: int, problem: Problem) -> None:
    access, default = kernel_acls(acl, mode)
    try:
        os.setxattr(where, posix_acl.ACCESS, access)
        if default is not None:
            os.setxattr(where, posix_acl.DEFAULT, default)
    except OSError as error:
        problem(f"its access control list cannot be set: {error.strerror}")


def _write_project(fd: int, project_id: int, problem: Problem) -> None:
    if project_id > inode_flags.PROJECT_ID_MAX:
        problem(f"project {project_id} cannot exist")
        return
    try:
        inode_flags.write_project_id(fd, project_id)
    except OSError as error:
        if error.errno not in inode_flags.UNSUPPORTED:
            problem(f"its project cannot be set: {error.strerror}")


def _write_flags(fd: int, flags: int, problem: Problem) -> None:
    try:
        inode_flags.write_flags(fd, flags)
        if flags & inode_flags.FAT_FLAGS:
            inode_flags.write_fat_attributes(fd, flags)
    except OSError as error:
        if error.errno not in inode_flags.UNSUPPORTED:
            problem(f"its attribute flags cannot be set: {error.strerror}")


def write_initial_flags(fd: int, flags: int) -> None:
    """Flags that decide how content is stored, set before there is any; failures do not matter."""
    with suppress(OSError):
        inode_flags.write_flags(fd, flags, mask=inode_flags.INITIAL)
