import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.tree_streams import restore, write_split

from holdfast.archive import inode_flags
from holdfast.archive.features import Feature
from holdfast.archive.file_systems import file_system_of


def flags_of(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        raw = fcntl.ioctl(fd, inode_flags.GET_FLAGS, bytes(8))
    finally:
        os.close(fd)
    return inode_flags.from_kernel(int.from_bytes(raw, "little"))


def set_flags(path: Path, value: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        raw = fcntl.ioctl(fd, inode_flags.GET_FLAGS, bytes(8))
        own = int.from_bytes(raw, "little") & ~inode_flags.KERNEL_CHATTR_MASK  # the file system's
        fcntl.ioctl(fd, inode_flags.SET_FLAGS, (own | value).to_bytes(8, "little"))
    finally:
        os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    for name in ("quiet", "fixed", "log"):
        (root / "sub" / name).write_text(name)
    paths = [here / "sub" / name for here in (root, tmp_path / "back") for name in ("fixed", "log")]
    try:
        set_flags(root / "sub" / "quiet", 0x80)
        set_flags(root / "sub" / "fixed", 0x10)
        set_flags(root / "sub" / "log", 0x20)
        yield root
    except OSError as error:
        pytest.skip(f"no attribute flags here: {error}")
    finally:
        for path in paths:
            if path.exists():
                set_flags(path, 0)


def test_attribute_flags_come_back(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "back"
    target.mkdir()

    outcome = restore(write_split(str(tree)), str(target))

    assert outcome.warnings == []
    assert flags_of(target / "sub" / "quiet") == Feature.FLAG_NOATIME
    assert flags_of(target / "sub" / "fixed") == Feature.FLAG_IMMUTABLE
    assert flags_of(target / "sub" / "log") == Feature.FLAG_APPEND
    assert (target / "sub" / "fixed").read_text() == "fixed"


def test_translation_to_the_kernel_and_back_keeps_every_flag() -> None:
    every = inode_flags.from_kernel(inode_flags.KERNEL_CHATTR_MASK)

    assert inode_flags.chattr_of(every) == inode_flags.KERNEL_CHATTR_MASK
    assert every & ~Feature.FLAG_NODUMP == inode_flags.RESTORED


def test_proc_is_virtual_and_the_disk_is_not(tmp_path: Path) -> None:
    for path, is_virtual in ((Path("/proc"), True), (tmp_path, False)):
        fd = os.open(path, os.O_RDONLY)
        try:
            assert file_system_of(fd).is_virtual is is_virtual
        finally:
            os.close(fd)
