"""POSIX access control lists between the kernel's form and the archive's items.

Kernel form, the value of xattr `system.posix_acl_access` or `_default`, little-endian:
    0  u32  version, 2
    4  8*n  entries: u16 tag, u16 permissions (r=4 w=2 x=1), u32 id (0xffffffff where unused)
Tags: USER_OBJ 1, USER 2, GROUP_OBJ 4, GROUP 8, MASK 0x10, OTHER 0x20; the kernel wants them in the
order USER_OBJ, USER by id, GROUP_OBJ, GROUP by id, MASK, OTHER. Source: linux/posix_acl_xattr.h.
The archive stores neither USER_OBJ nor OTHER nor MASK of an access list: they are the mode bits.
"""

import struct
from typing import Final, NamedTuple

ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"

_VERSION: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 0x10, 0x20
_NO_ID: Final = 0xFFFFFFFF

Named = tuple[tuple[int, int], ...]
"""(id, permissions) pairs, ascending."""


class AclList(NamedTuple):
    """One list; None where an entry is absent."""

    users: Named = ()
    groups: Named = ()
    user_obj: int | None = None
    group_obj: int | None = None
    other: int | None = None
    mask: int | None = None


def parse(value: bytes) -> AclList:
    """The kernel's form, read (ValueError when it is not one)."""
    if len(value) < _VERSION.size or _VERSION.unpack_from(value)[0] != 2:  # noqa: PLR2004  # layout
        raise ValueError("not a version 2 access control list")
    if (len(value) - _VERSION.size) % _ENTRY.size:
        raise ValueError("an access control list that ends inside an entry")
    users: list[tuple[int, int]] = []
    groups: list[tuple[int, int]] = []
    single: dict[int, int] = {}
    for tag, permissions, identifier in _ENTRY.iter_unpack(value[_VERSION.size :]):
        if tag == _USER:
            users.append((identifier, permissions))
        elif tag == _GROUP:
            groups.append((identifier, permissions))
        else:
            single[tag] = permissions
    return AclList(
        users=tuple(sorted(users)),
        groups=tuple(sorted(groups)),
        user_obj=single.get(_USER_OBJ),
        group_obj=single.get(_GROUP_OBJ),
        other=single.get(_OTHER),
        mask=single.get(_MASK),
    )


def build(acl: AclList) -> bytes:
    """The kernel's form of a list, entries in the order it insists on."""
    entries: list[tuple[int, int | None, int]] = [(_USER_OBJ, acl.user_obj, _NO_ID)]
    entries += [(_USER, permissions, uid) for uid, permissions in sorted(acl.users)]
    entries.append((_GROUP_OBJ, acl.group_obj, _NO_ID))
    entries += [(_GROUP, permissions, gid) for gid, permissions in sorted(acl.groups)]
    entries += [(_MASK, acl.mask, _NO_ID), (_OTHER, acl.other, _NO_ID)]
    return _VERSION.pack(2) + b"".join(
        _ENTRY.pack(tag, permissions & 7, identifier)
        for tag, permissions, identifier in entries
        if permissions is not None
    )
