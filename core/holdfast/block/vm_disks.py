"""What a running QEMU has to be backed up: its disks, their bitmaps, what can be done to them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from holdfast.block.qmp import Qmp, QmpRefused
from holdfast.errors import Refused
from holdfast.host import files


class BitmapState(Enum):
    RECORDING = "recording"
    DISABLED = "disabled"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True, slots=True)
class VmDisk:
    """A writable disk of a running machine.

    Attributes:
        name: the device's id, which names the archive.
        node: the node the device writes to.
        size_bytes: as the block layer sees it.
        keeps_bitmaps: whether bitmaps survive a restart of the machine.
        bitmaps: the state of each, by name.
        device: the device's path among QEMU's objects, empty when it has none.
        path: the image's file, when it is one.
    """

    name: str
    node: str
    size_bytes: int
    keeps_bitmaps: bool
    bitmaps: Mapping[str, BitmapState]
    device: str = ""
    path: str = ""


async def find_disks(qmp: Qmp) -> list[VmDisk]:
    """The disks a backup is taken of: writable, present, not removable media."""
    nodes = {n["node-name"]: n for n in await qmp.run("query-named-block-nodes", {"flat": True})}
    disks = []
    for number, block in enumerate(await qmp.run("query-block")):
        inserted = block.get("inserted")
        if not inserted or inserted["ro"] or block["removable"] or not inserted.get("node-name"):
            continue
        node = nodes[_below_filters(inserted["node-name"], nodes)]
        image = node["image"]
        specific = image.get("format-specific", {}).get("data", {})
        is_qcow2 = node["drv"] == "qcow2" and specific.get("compat") != "0.10"
        bitmaps = {
            bitmap["name"]: _bitmap_state(bitmap)
            for bitmap in node.get("dirty-bitmaps", ())
            if bitmap.get("name")
        }
        name = _device_name(block) or f"disk{number}"
        size = image["virtual-size"]
        disks.append(
            VmDisk(
                name,
                node["node-name"],
                size,
                is_qcow2,
                bitmaps,
                device=device_path(block),
                path=node["file"],
            )
        )
    return disks


def _bitmap_state(bitmap: Mapping[str, Any]) -> BitmapState:
    if bitmap.get("inconsistent"):
        return BitmapState.INCONSISTENT
    return BitmapState.RECORDING if bitmap["recording"] else BitmapState.DISABLED


def _below_filters(name: str, nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """The first node below filters such as throttles, where bitmaps live."""
    for _depth in range(len(nodes)):
        node = nodes[name]
        is_filter = node["drv"] in ("throttle", "copy-on-read", "copy-before-write", "backup-top")
        below = node.get("image", {}).get("filename") if is_filter else None
        candidates = [n for n, o in nodes.items() if n != name and below and o["file"] == below]
        if not is_filter or not candidates:
            return name
        name = candidates[0]
    return name


def _device_name(block: Mapping[str, Any]) -> str:
    qdev = str(block.get("qdev") or "")
    parts = [part for part in qdev.split("/") if part and part != "virtio-backend"]
    name = parts[-1] if parts else str(block.get("device") or "")
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)


def device_path(block: Mapping[str, Any]) -> str:
    """Where a device of `query-block` is among QEMU's objects, empty for none."""
    path = str(block.get("qdev") or "")
    return path if not path or path.startswith("/") else f"/machine/peripheral/{path}"


async def has_recent_fixes(qmp: Qmp) -> bool:
    """Whether this QEMU has `discard-source`, which came with 9.1.

    Faults that the schema does not show were mended by then: cbw-timeout was kept in 32 bits of
    nanoseconds, a client that left an export of a disk with an iothread ended the process, and
    hbitmap_status() was wrong where a set stretch ends, which concerns what filters say of the past.
    """
    return "discard-source" in await qmp.arguments_of("blockdev-backup")


async def refuse_iothreads(qmp: Qmp, disks: Sequence[VmDisk]) -> None:
    """Refused where a closing NBD client would end QEMU: disks with iothreads, old versions."""
    if await has_recent_fixes(qmp):
        return
    for disk in disks:
        path = disk.device.removesuffix("/virtio-backend")
        try:
            thread = path and await qmp.run("qom-get", {"path": path, "property": "iothread"})
        except QmpRefused:
            continue
        if thread:
            raise Refused(
                f"disk {disk.name} uses an iothread, and this QEMU ends when a backup's connection "
                "to such a disk closes",
                hint="use QEMU 9.1 or newer, or a machine without iothreads",
            )


def flush_host_cache(disks: Sequence[VmDisk]) -> None:
    """Let the host write what it keeps of the images, so that a short pause stays short."""
    for disk in disks:
        try:
            fd = files.open_read(disk.path, extra_flags=os.O_NONBLOCK)
        except OSError:
            continue  # not a file of this host, or not ours to read
        try:
            files.flush_data(fd)
        except OSError:
            pass
        finally:
            os.close(fd)
