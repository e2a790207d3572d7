"""What a file system can say about a file, and how its attribute flags are written down.

The mask itself is never stored: it decides what is read at creation and set at restore. Only the
FLAG_* bits appear in ENTRY.flags. Source: Proxmox pxar library; docs/formats/pxar.md, "Feature
flags".
"""

from collections.abc import Mapping
from enum import IntFlag
from typing import Final


class Feature(IntFlag):
    """One thing an archive may keep about an entry."""

    TWO_SEC_TIME = 0x40
    READ_ONLY = 0x80
    PERMISSIONS = 0x100
    SYMLINKS = 0x200
    DEVICE_NODES = 0x400
    FIFOS = 0x800
    SOCKETS = 0x1000
    FLAG_HIDDEN = 0x2000
    FLAG_SYSTEM = 0x4000
    FLAG_ARCHIVE = 0x8000
    FLAG_APPEND = 0x10000
    FLAG_NOATIME = 0x20000
    FLAG_COMPR = 0x40000
    FLAG_NOCOW = 0x80000
    FLAG_NODUMP = 0x100000
    FLAG_DIRSYNC = 0x200000
    FLAG_IMMUTABLE = 0x400000
    FLAG_SYNC = 0x800000
    FLAG_NOCOMP = 0x1000000
    FLAG_PROJINHERIT = 0x2000000
    SUBVOLUME = 0x4000000
    SUBVOLUME_RO = 0x8000000
    XATTRS = 0x10000000
    ACL = 0x20000000
    SELINUX = 0x40000000
    FCAPS = 0x80000000
    QUOTA_PROJID = 0x100000000
    OWNER = 0x200000000
    EXCLUDE_FILE = 0x1000000000000000
    EXCLUDE_SUBMOUNTS = 0x4000000000000000
    EXCLUDE_NODUMP = 0x8000000000000000


CHATTR: Final = Feature(0x3FF0000)
FAT_ATTRIBUTES: Final = Feature(0xE000)
DEFAULT: Final = Feature(0x90000003FFEFFF00)

# Attribute flags of FS_IOC_GETFLAGS and FAT_IOCTL_GET_ATTRIBUTES.
CHATTR_BITS: Final[Mapping[Feature, int]] = {
    Feature.FLAG_APPEND: 0x20,
    Feature.FLAG_NOATIME: 0x80,
    Feature.FLAG_COMPR: 0x4,
    Feature.FLAG_NOCOW: 0x800000,
    Feature.FLAG_NODUMP: 0x40,
    Feature.FLAG_DIRSYNC: 0x10000,
    Feature.FLAG_IMMUTABLE: 0x10,
    Feature.FLAG_SYNC: 0x8,
    Feature.FLAG_NOCOMP: 0x400,
    Feature.FLAG_PROJINHERIT: 0x20000000,
}
FAT_BITS: Final[Mapping[Feature, int]] = {
    Feature.FLAG_HIDDEN: 0x2,
    Feature.FLAG_SYSTEM: 0x4,
    Feature.FLAG_ARCHIVE: 0x20,
}
# Set on a new file before its data: they change how data is stored.
INITIAL_CHATTR_BITS: Final = 0x20800484

MSDOS_MAGIC: Final = 0x4D44
FUSE_MAGIC: Final = 0x65735546
_MASKS: Final[Mapping[int, int]] = {  # by f_type of statfs
    MSDOS_MAGIC: 0xE0C0,
    0xEF53: 0x1F0F31FC0,  # ext2, ext3, ext4
    0x58465342: 0x1F0D31FC0,  # XFS
    0x2FC12FC1: 0x1F0F31FC0,  # ZFS
    0x9123683E: 0xFDFF1FC0,  # btrfs
    0x1021994: 0x60001FC0,  # tmpfs
    FUSE_MAGIC: 0x213FFFFC0,
}
_OTHER_MASK: Final = 0xB0001FC0

# File systems that show the kernel's state, not somebody's data: never read.
VIRTUAL_MAGICS: Final[frozenset[int]] = frozenset(
    {
        0x42494E4D,  # binfmt_misc
        0x63677270,  # cgroup2
        0x27E0EB,  # cgroup
        0x62656570,  # configfs
        0x64626720,  # debugfs
        0x1CD1,  # devpts
        0xDE5E81E4,  # efivarfs
        0x65735543,  # fusectl
        0x958458F6,  # hugetlbfs
        0x19800202,  # mqueue
        0x6E667364,  # nfsd
        0x9FA0,  # proc
        0x6165676C,  # pstore
        0x67596969,  # rpc_pipefs
        0x73636673,  # securityfs
        0xF97CFF8C,  # selinuxfs
        0x43415D53,  # smackfs
        0x62656572,  # sysfs
    }
)


def of_file_system(magic: int) -> Feature:
    """What a file system with this `f_type` keeps."""
    return Feature(_MASKS.get(magic, _OTHER_MASK))


def flags_from_bits(bits: int, table: Mapping[Feature, int]) -> int:
    """ENTRY.flags for the bits an ioctl returned."""
    return sum(feature for feature, bit in table.items() if bits & bit) if bits else 0


def bits_from_flags(flags: int, table: Mapping[Feature, int]) -> int:
    """The bits an ioctl takes for ENTRY.flags."""
    return sum(bit for feature, bit in table.items() if flags & feature) if flags else 0
