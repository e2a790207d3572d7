"""Inode flags, FAT attributes and project identifiers: what the kernel says and what an archive keeps.

Kernel side, all little-endian, through ioctl on an open file:
    FS_IOC_GETFLAGS / SETFLAGS        u32 of FS_*_FL bits ("chattr flags")
    FS_IOC_FSGETXATTR / FSSETXATTR    struct fsxattr, 28 bytes: u32 xflags, u32 extsize,
                                      u32 nextents, u32 projid, u32 cowextsize, 8 bytes padding
    FAT_IOCTL_GET / SET_ATTRIBUTES    u32 of ATTR_* bits
Archive side: bits 0x2000 .. 0x02000000 of ENTRY.flags. Sources: linux/fs.h, linux/msdos_fs.h; the
pxar format's list of feature flags.
"""

import errno
import fcntl
import struct
from typing import Final

from holdfast.archive.features import (
    CHATTR,
    CHATTR_BITS,
    FAT_ATTRIBUTES,
    FAT_BITS,
    Feature,
    bits_from_flags,
    flags_from_bits,
)

GET_FLAGS: Final = 0x80086601
SET_FLAGS: Final = 0x40086602
GET_PROJECT: Final = 0x801C581F
SET_PROJECT: Final = 0x401C5820
FLAGS_BYTES: Final = 8
PROJECT_BYTES: Final = 28
GET_FAT_ATTRIBUTES: Final = 0x80047210
SET_FAT_ATTRIBUTES: Final = 0x40047211

_U32: Final = struct.Struct("<I")
_FSXATTR: Final = struct.Struct("<IIII12x")
FAT_FLAGS: Final = int(FAT_ATTRIBUTES)
PROJECT_ID_MAX: Final = (1 << 32) - 1

KERNEL_CHATTR_MASK: Final = sum(CHATTR_BITS.values())
# set before a file gets its bytes, since they decide how the bytes are stored
INITIAL: Final = int(
    Feature.FLAG_NOATIME
    | Feature.FLAG_COMPR
    | Feature.FLAG_NOCOW
    | Feature.FLAG_NOCOMP
    | Feature.FLAG_PROJINHERIT
)
# a restore sets everything except "no dump", which is advice to another program
RESTORED: Final = int(CHATTR & ~Feature.FLAG_NODUMP)

# answers that mean "this file system has no such thing"
UNSUPPORTED: Final = frozenset(
    {errno.ENOTTY, errno.ENOSYS, errno.EBADF, errno.EOPNOTSUPP, errno.EINVAL}
)


def from_kernel(chattr: int, fat: int = 0) -> int:
    """ENTRY.flags for what FS_IOC_GETFLAGS and FAT_IOCTL_GET_ATTRIBUTES gave."""
    return int(flags_from_bits(chattr, CHATTR_BITS) | flags_from_bits(fat, FAT_BITS))


def chattr_of(flags: int) -> int:
    """The FS_*_FL bits that ENTRY.flags asks for."""
    return bits_from_flags(flags, CHATTR_BITS)


def read_fat_attributes(fd: int) -> int:
    """ATTR_* bits of a file on FAT or FUSE (OSError)."""
    (value,) = _U32.unpack(fcntl.ioctl(fd, GET_FAT_ATTRIBUTES, bytes(4)))
    return int(value)


def write_fat_attributes(fd: int, flags: int) -> None:
    """Give an open file the HIDDEN, SYSTEM and ARCHIVE bits of ENTRY.flags (OSError)."""
    fcntl.ioctl(fd, SET_FAT_ATTRIBUTES, _U32.pack(bits_from_flags(flags, FAT_BITS)))


def write_flags(fd: int, wanted: int, *, mask: int = RESTORED) -> None:
    """Set those bits of `wanted` that `mask` allows; other bits stay as they are (OSError).

    Nothing is done for an empty set, so flags that a file system gives by itself are not cleared.
    """
    bits = chattr_of(wanted & mask)
    if not bits:
        return
    (current,) = _U32.unpack_from(fcntl.ioctl(fd, GET_FLAGS, bytes(8)))
    new = bits | (current & ~chattr_of(mask))
    if new != current:
        fcntl.ioctl(fd, SET_FLAGS, _U32.pack(new) + bytes(4))


def read_project_id(fd: int) -> int:
    """The project a file's space is accounted to; 0 for none (OSError)."""
    return int(_FSXATTR.unpack(fcntl.ioctl(fd, GET_PROJECT, bytes(28)))[3])


def write_project_id(fd: int, project_id: int) -> None:
    """Account a file to a project, keeping its other extended settings (OSError)."""
    settings = bytearray(fcntl.ioctl(fd, GET_PROJECT, bytes(28)))
    _U32.pack_into(settings, 12, project_id)
    fcntl.ioctl(fd, SET_PROJECT, bytes(settings))
