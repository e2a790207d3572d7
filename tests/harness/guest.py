"""A small Linux that boots in an emulated machine: a file system, an agent, and writes that tell.

Its parts are Debian's kernel for virtual machines, busybox and qemu-guest-agent, unpacked below
ROOT by `.ci/run` and never run on this host. /dev/vda is mounted as ext4 and written all the time;
/dev/vdb and /dev/vdc take write n of a fixed sequence in turn, each only after the one before.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from holdfast.units import MIB

ROOT: Final = Path(os.environ.get("HOLDFAST_GUEST_ROOT", "/var/cache/holdfast-guest"))
BLOCKS: Final = 64  # of 512 bytes in the sequence, spread over the disk
DISK_BYTES: Final = 64 * MIB
_MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_console")
_INIT: Final = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
mount -t ext4 /dev/vda /disk
mkdir -p /disk/etc /var/run
cat /disk/etc/motd 2>/dev/null
echo disk: backed up > /disk/etc/motd
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat $port/name)" = org.qemu.guest_agent.0 ]; then device=/dev/${{port##*/}}; fi
done
qemu-ga --method virtio-serial --path $device --statedir /var/run &
(n=0; while true; do n=$((n+1)); echo $n > /disk/file$((n%9)); mkdir -p /disk/d$((n%50))/$n; done) &
echo guest is up
n=0
while true; do
    n=$((n+1))
    if [ $((n%2)) = 0 ]; then disk=/dev/vdb; else disk=/dev/vdc; fi
    at=$((n*31%{BLOCKS}*{DISK_BYTES // BLOCKS // 512}))
    printf '%-512d' $n | dd of=$disk bs=512 seek=$at oflag=direct conv=notrunc 2>/dev/null
done
"""


def parts() -> Path:
    """Where the guest's parts are; skips without them, which continuous integration may not."""
    if not list(ROOT.glob("boot/vmlinuz-*")):
        if os.environ.get("CI"):
            pytest.fail(f"{ROOT} has no kernel")
        pytest.skip(f"no kernel below {ROOT}: .ci/run puts one there")
    return ROOT


def _entry(name: str, mode: int, data: bytes, number: int) -> Iterator[bytes]:
    """One file of an archive in the format `newc` of cpio."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    for part in (header, data):
        yield part + bytes(-len(part) % 4)


def _with_needed(names: tuple[str, ...], found: dict[str, Path]) -> Iterator[str]:
    """Modules and what they depend on, in the order of loading; others are part of the kernel."""
    for name in names:
        if name not in found:
            continue
        depends = re.search(rb"\0depends=([^\0]*)\0", found[name].read_bytes())
        needed = depends[1].decode().split(",") if depends and depends[1] else []
        yield from _with_needed(tuple(one.replace("-", "_") for one in needed), found)
        yield name


@cache
def initramfs(directory: Path) -> Path:
    """The guest's root file system."""
    root = parts()
    agent = root / "usr/sbin/qemu-ga"
    found = {path.stem.replace("-", "_"): path for path in root.glob("lib/modules/**/*.ko")}
    modules = list(dict.fromkeys(_with_needed(_MODULES, found)))
    contents: dict[str, bytes] = {
        "init": _INIT.encode(),
        "bin/busybox": (root / "bin/busybox").read_bytes(),
        "bin/qemu-ga": agent.read_bytes(),
        "modules/order": " ".join(modules).encode(),
    }
    for name in modules:
        contents[f"modules/{name}.ko"] = found[name].read_bytes()
    listed = subprocess.run(["ldd", str(agent)], capture_output=True, text=True, check=True)
    for library in re.findall(r"(/\S+)", listed.stdout):
        contents[library.lstrip("/")] = Path(library).read_bytes()
    folders = {"proc", "sys", "dev", "disk", "var", "tmp"}
    folders |= {str(parent) for name in contents for parent in Path(name).parents}
    target, number = directory / "initramfs", 0
    with target.open("wb") as out:
        for name in sorted(folders - {"."}):
            out.writelines(_entry(name, 0o040755, b"", number := number + 1))
        for name, data in contents.items():
            out.writelines(_entry(name, 0o100755, data, number := number + 1))
        out.writelines(_entry("TRAILER!!!", 0, b"", 0))
    return target


def make_disks(directory: Path) -> list[Path]:
    """An empty ext4 and two disks of zeros."""
    disks = [directory / name for name in ("vda.raw", "vdb.raw", "vdc.raw")]
    for disk in disks:
        with disk.open("wb") as out:
            out.truncate(DISK_BYTES)
    subprocess.run([shutil.which("mkfs.ext4") or "mkfs.ext4", "-q", str(disks[0])], check=True)
    return disks


def machine_options(directory: Path) -> list[str]:
    """What QEMU needs besides the disks to boot the guest and to reach its agent."""
    kernel = max(parts().glob("boot/vmlinuz-*"))
    return [
        *("-kernel", str(kernel), "-initrd", str(initramfs(directory)), "-m", "256"),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
        *("-serial", f"file:{directory / 'console'}", "-device", "virtio-serial-pci"),
        *("-chardev", f"socket,path={directory / 'agent'},server=on,wait=off,id=agent"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
    ]


def _written(last: int, parity: int) -> list[int]:
    """What a disk holds in its blocks after write `last` of the sequence."""
    blocks = [0] * BLOCKS
    for number in range(1, last + 1):
        if number % 2 == parity:
            blocks[number * 31 % BLOCKS] = number
    return blocks


def _held(disk: bytes) -> list[int]:
    step = DISK_BYTES // BLOCKS
    return [int(disk[at : at + 16].strip(b" \0") or 0) for at in range(0, DISK_BYTES, step)]


def sequence(*disks: bytes) -> int:
    """The last write of the sequence that the disks hold, having checked that they hold no other.

    The writes are repeated up to the last one found: any that is missing, or is there though an
    earlier one is not, makes a difference. Several disks are held to one moment.
    """
    held = [_held(disk) for disk in disks]
    last = max(max(numbers) for numbers in held)
    assert held == [_written(last, parity) for parity in range(len(disks))]
    return last
