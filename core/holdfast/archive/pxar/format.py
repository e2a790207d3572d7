"""The items a pxar archive is made of.

Little-endian. Every item is a type (u64), its whole size including these 16 bytes (u64), and the
content. Type values are SipHash-2-4 of a phrase; source: Proxmox pxar library, format version 2.
Story: docs/formats/pxar.md

    ENTRY (56)   mode u64, flags u64, uid u32, gid u32, mtime i64 s, mtime u32 ns, zero u32
    ENTRY_V1     mode u64, flags u64, uid u32, gid u32, mtime u64 ns since 1970; read only
    FILENAME     name, NUL                      SYMLINK       target, NUL
    XATTR        name, NUL, value               DEVICE        major u64, minor u64
    ACL_USER, ACL_GROUP, ACL_DEFAULT_USER, ACL_DEFAULT_GROUP  id u64, permissions u64
    ACL_GROUP_OBJ  permissions u64              FCAPS         value of security.capability
    ACL_DEFAULT  owner, group, other, mask: u64 each, 2^64 - 1 when absent
    QUOTA_PROJID id u64                         HARDLINK      distance u64, path, NUL
    PAYLOAD      the bytes of a file            PAYLOAD_REF   offset u64, size u64
    GOODBYE      the table of a directory, see goodbye.py
"""

import stat as stat_bits
import struct
from enum import StrEnum
from typing import Final, NamedTuple

from siphash24 import siphash24

from holdfast.units import KIB, MIB

FORMAT_VERSION: Final = 0x730F6C75DF16A40D  # __PROXMOX_FORMAT_VERSION__
PRELUDE: Final = 0xE309D79D9F7B771B  # __PROXMOX_FORMAT_PRELUDE__
ENTRY: Final = 0xD5956474E588ACEF  # __PROXMOX_FORMAT_ENTRY_V2__
ENTRY_V1: Final = 0x11DA850A1C1CCEFF  # __PROXMOX_FORMAT_ENTRY__
FILENAME: Final = 0x16701121063917B3  # __PROXMOX_FORMAT_FILENAME__
SYMLINK: Final = 0x27F971E7DBF5DC5F  # __PROXMOX_FORMAT_SYMLINK__
DEVICE: Final = 0x9FC9E906586D5CE9  # __PROXMOX_FORMAT_DEVICE__
HARDLINK: Final = 0x51269C8422BD7275  # __PROXMOX_FORMAT_HARDLINK__
XATTR: Final = 0x0DAB0229B57DCD03  # __PROXMOX_FORMAT_XATTR__
ACL_USER: Final = 0x2CE8540A457D55B8  # __PROXMOX_FORMAT_ACL_USER__
ACL_GROUP: Final = 0x136E3ECEB04C03AB  # __PROXMOX_FORMAT_ACL_GROUP__
ACL_GROUP_OBJ: Final = 0x10868031E9582876  # __PROXMOX_FORMAT_ACL_GROUP_OBJ__
ACL_DEFAULT: Final = 0xBBBB13415A6896F5  # __PROXMOX_FORMAT_ACL_DEFAULT__
ACL_DEFAULT_USER: Final = 0xC89357B40532CD1F  # __PROXMOX_FORMAT_ACL_DEFAULT_USER__
ACL_DEFAULT_GROUP: Final = 0xF90A8A5816038FFE  # __PROXMOX_FORMAT_ACL_DEFAULT_GROUP__
FCAPS: Final = 0x2DA9DD9DB5F7FB67  # __PROXMOX_FORMAT_FCAPS__
QUOTA_PROJID: Final = 0xE07540E82F7D1CBB  # __PROXMOX_FORMAT_QUOTA_PROJID__
PAYLOAD: Final = 0x28147A1B0B7C1A25  # __PROXMOX_FORMAT_PXAR_PAYLOAD__
PAYLOAD_REF: Final = 0x419D3D6BC4BA977E  # __PROXMOX_FORMAT_PXAR_PAYLOAD_REF__
GOODBYE: Final = 0x2FEC4FA642D5731D  # __PROXMOX_FORMAT_GOODBYE__
GOODBYE_TAIL_MARKER: Final = 0xEF5EED5B753E1555  # __PROXMOX_FORMAT_PXAR_GOODBYE_TAIL_MARKER__
PAYLOAD_START_MARKER: Final = 0x834C68C2194A4ED2  # __PROXMOX_FORMAT_PXAR_PAYLOAD_START_MARKER__
PAYLOAD_TAIL_MARKER: Final = 0x6C72B78B984C81B5  # __PROXMOX_FORMAT_PXAR_PAYLOAD_TAIL_MARKER__

HEADER: Final = struct.Struct("<QQ")
STAT: Final = struct.Struct("<QQIIqI4x")
STAT_V1: Final = struct.Struct("<QQIIQ")
PAIR: Final = struct.Struct("<QQ")
NUMBER: Final = struct.Struct("<Q")
QUADRUPLE: Final = struct.Struct("<QQQQ")
ROW: Final = struct.Struct("<QQQ")
ENTRY_ITEM: Final = struct.Struct("<QQQQIIqI4x")
REF_ITEM: Final = struct.Struct("<QQQQ")
assert (HEADER.size, STAT.size, STAT_V1.size, ROW.size) == (16, 40, 32, 24)

HEADER_BYTES: Final = 16
ENTRY_BYTES: Final = 56
REF_BYTES: Final = 32
ROW_BYTES: Final = 24
NAME_BYTES_MAX: Final = 4096
XATTR_NAME_BYTES_MAX: Final = 255
XATTR_BYTES_MAX: Final = XATTR_NAME_BYTES_MAX + 64 * KIB
PRELUDE_BYTES_MAX: Final = 16 * MIB  # ours: the format has no limit
ABSENT: Final = (1 << 64) - 1

_HASH_KEY: Final = struct.pack("<QQ", 0x83AC3F1CFBB450DB, 0xAA4F1B6879369FBD)
_HASH_MASK: Final = (1 << 64) - 1


class Kind(StrEnum):
    """What an entry of an archive is."""

    DIRECTORY = "dir"
    FILE = "file"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    BLOCK = "block"
    CHAR = "char"
    FIFO = "fifo"
    SOCKET = "socket"


KIND_OF_TYPE_BITS: Final = {
    stat_bits.S_IFDIR: Kind.DIRECTORY,
    stat_bits.S_IFREG: Kind.FILE,
    stat_bits.S_IFLNK: Kind.SYMLINK,
    stat_bits.S_IFBLK: Kind.BLOCK,
    stat_bits.S_IFCHR: Kind.CHAR,
    stat_bits.S_IFIFO: Kind.FIFO,
    stat_bits.S_IFSOCK: Kind.SOCKET,
}


# Named tuples, not dataclasses: one of each is made per file, and they are compared as a whole.


class Stat(NamedTuple):
    """The content of ENTRY. `mtime_ns` is 0..999,999,999 and always added to `mtime_s`."""

    mode: int
    flags: int = 0
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    mtime_ns: int = 0

    @property
    def kind(self) -> Kind | None:
        """By the type bits; None when they name nothing."""
        return KIND_OF_TYPE_BITS.get(stat_bits.S_IFMT(self.mode))


class Xattr(NamedTuple):
    name: bytes
    value: bytes


class AclEntry(NamedTuple):
    """Permissions (r=4, w=2, x=1) of one named user or group."""

    id: int
    perms: int


class AclDefault(NamedTuple):
    """The unnamed entries of a directory's default ACL; ABSENT where there is none."""

    user_obj: int
    group_obj: int
    other: int
    mask: int


class Acl(NamedTuple):
    """What the mode bits do not say. Named entries ascend by id, then permissions."""

    users: tuple[AclEntry, ...] = ()
    groups: tuple[AclEntry, ...] = ()
    group_obj: int | None = None
    default: AclDefault | None = None
    default_users: tuple[AclEntry, ...] = ()
    default_groups: tuple[AclEntry, ...] = ()


class Metadata(NamedTuple):
    """Everything kept about an entry except its name and content."""

    stat: Stat
    xattrs: tuple[Xattr, ...] = ()
    acl: Acl | None = None
    fcaps: bytes | None = None
    projid: int | None = None


def siphash(name: bytes) -> int:
    """The hash of a name in a directory's table."""
    return int(siphash24(name, key=_HASH_KEY).intdigest()) & _HASH_MASK


def name_problem(name: bytes) -> str | None:
    """Why `name` cannot name an entry; None when it can."""
    if not name:
        return "an empty name"
    if len(name) > NAME_BYTES_MAX:
        return f"a name of {len(name)} bytes, more than {NAME_BYTES_MAX}"
    if b"/" in name or b"\0" in name:
        return "a name with a slash or NUL inside"
    return f"the name {name.decode()!r}" if name in (b".", b"..") else None


# Items ---------------------------------------------------------------------------------------


def header(kind: int, content_bytes: int) -> bytes:
    return HEADER.pack(kind, HEADER_BYTES + content_bytes)


def filename_item(name: bytes) -> bytes:
    return HEADER.pack(FILENAME, len(name) + 17) + name + b"\0"


def entry_item(stat: Stat) -> bytes:
    return ENTRY_ITEM.pack(ENTRY, ENTRY_BYTES, *stat)


def symlink_item(target: bytes) -> bytes:
    return HEADER.pack(SYMLINK, len(target) + 17) + target + b"\0"


def device_item(major: int, minor: int) -> bytes:
    return QUADRUPLE.pack(DEVICE, 32, major, minor)


def hardlink_item(distance: int, path: bytes) -> bytes:
    return ROW.pack(HARDLINK, len(path) + 25, distance) + path + b"\0"


def payload_header(size: int) -> bytes:
    return HEADER.pack(PAYLOAD, HEADER_BYTES + size)


def _named(kind: int, entries: tuple[AclEntry, ...]) -> list[bytes]:
    return [QUADRUPLE.pack(kind, 32, entry.id, entry.perms) for entry in entries]


def acl_items(acl: Acl) -> list[bytes]:
    items = _named(ACL_USER, acl.users) + _named(ACL_GROUP, acl.groups)
    if acl.group_obj is not None:
        items.append(ROW.pack(ACL_GROUP_OBJ, 24, acl.group_obj))
    if acl.default is not None:
        items.append(HEADER.pack(ACL_DEFAULT, 48) + QUADRUPLE.pack(*acl.default))
    items += _named(ACL_DEFAULT_USER, acl.default_users)
    items += _named(ACL_DEFAULT_GROUP, acl.default_groups)
    return items


def attributes(metadata: Metadata) -> bytes:
    """All items between ENTRY and what ends the entry, in the order the format demands."""
    items = [
        header(XATTR, len(name) + 1 + len(value)) + name + b"\0" + value
        for name, value in metadata.xattrs
    ]
    if metadata.acl is not None:
        items += acl_items(metadata.acl)
    if metadata.fcaps is not None:
        items.append(header(FCAPS, len(metadata.fcaps)) + metadata.fcaps)
    if metadata.projid:
        items.append(ROW.pack(QUOTA_PROJID, 24, metadata.projid))
    return b"".join(items)
