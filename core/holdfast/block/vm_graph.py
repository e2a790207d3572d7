"""The block graph of one pull backup inside a running QEMU, and how to take it away again.

Per disk, with everything of ours named "bk-...":

    guest -> bk-filterN (backup job, sync=none) -> the disk's own node
                 '--- old data --> bk-fleeceN (qcow2, backing = the disk's node) <- NBD export

The jobs of all disks start in one transaction together with the bitmaps' changes: one moment for
the whole machine. Everything is found again by its prefix, so a run that was killed is cleaned up
by the next one, in the fixed order exports, server, jobs, nodes, images.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from holdfast.block.qmp import Qmp, QmpRefused
from holdfast.errors import HoldfastError, NotFound, Refused

PREFIX: Final = "bk-"
GRANULARITY_BYTES: Final = 65536
_CONNECTIONS_MAX: Final = 16
_SAFE_IOTHREAD_VERSION: Final = (9, 1)


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
    """

    name: str
    node: str
    size_bytes: int
    keeps_bitmaps: bool
    bitmaps: Mapping[str, BitmapState]


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
        disks.append(VmDisk(name, node["node-name"], size, is_qcow2, bitmaps))
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


async def refuse_iothreads(qmp: Qmp) -> None:
    """Refused where a closing NBD client would end QEMU: disks with iothreads before 9.1."""
    version = (await qmp.run("query-version"))["qemu"]
    if (version["major"], version["minor"]) >= _SAFE_IOTHREAD_VERSION:
        return
    for block in await qmp.run("query-block"):
        path = str(block.get("qdev") or "").removesuffix("/virtio-backend")
        if not path:
            continue
        path = path if path.startswith("/") else f"/machine/peripheral/{path}"
        try:
            thread = await qmp.run("qom-get", {"path": path, "property": "iothread"})
        except QmpRefused:
            continue
        if thread:
            raise Refused(
                f"disk {path} uses an iothread, and this QEMU ({version['major']}."
                f"{version['minor']}) ends when a backup's connection to such a disk closes",
                hint="use QEMU 9.1 or newer, or a machine without iothreads",
            )


def make_fleecing_image(path: str, size_bytes: int) -> None:
    """An empty qcow2 of exactly the disk's size (NotFound without qemu-img)."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", path, str(size_bytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotFound("qemu-img is not installed", hint="install qemu-utils") from None
    if done.returncode:
        raise HoldfastError(f"fleecing image {path} could not be made: {done.stderr.strip()}")


class VmGraph:
    """What a backup adds to a machine."""

    def __init__(self, qmp: Qmp, disks: Sequence[VmDisk]) -> None:
        self.qmp = qmp
        self.disks = disks

    async def attach_fleecing(self, images: Sequence[str]) -> None:
        """One scratch node per disk."""
        for number, (disk, path) in enumerate(zip(self.disks, images, strict=True)):
            node = {
                "driver": "qcow2",
                "node-name": f"{PREFIX}fleece{number}",
                "discard": "unmap",
                "file": {"driver": "file", "filename": path, "discard": "unmap"},
                "backing": disk.node,
            }
            await self.qmp.run("blockdev-add", node)

    async def start(self, bitmap_actions: list[tuple[str, Mapping[str, object]]]) -> None:
        """The moment: all jobs first, so that their nodes stay drained, then the bitmaps."""
        extra: dict[str, object] = {}
        if "on-cbw-error" in await self.qmp.arguments_of("blockdev-backup"):
            extra["on-cbw-error"] = "break-snapshot"  # a full scratch disk never fails the guest
        jobs: list[tuple[str, Mapping[str, object]]] = [
            (
                "blockdev-backup",
                {
                    "job-id": f"{PREFIX}job{number}",
                    "device": disk.node,
                    "target": f"{PREFIX}fleece{number}",
                    "sync": "none",
                    "auto-dismiss": False,
                    "filter-node-name": f"{PREFIX}filter{number}",
                    **extra,
                },
            )
            for number, disk in enumerate(self.disks)
        ]
        await self.qmp.transaction(jobs + bitmap_actions)

    async def serve(self, socket_path: str, bitmaps: Sequence[Sequence[str]]) -> None:
        """Export every scratch node with its frozen bitmaps on a unix socket."""
        address = {"type": "unix", "data": {"path": socket_path}}
        start = {"addr": address, "max-connections": _CONNECTIONS_MAX}
        await self.qmp.run("nbd-server-start", start)
        for number, disk in enumerate(self.disks):
            export: dict[str, object] = {
                "type": "nbd",
                "id": f"{PREFIX}exp{number}",
                "node-name": f"{PREFIX}fleece{number}",
                "name": disk.name,
                "writable": False,
            }
            if bitmaps[number]:
                export["bitmaps"] = [{"node": disk.node, "name": n} for n in bitmaps[number]]
            await self.qmp.run("block-export-add", export)


async def clean_machine(qmp: Qmp, *, stop_server: bool) -> list[str]:
    """Take away everything of ours; what was found, for a log. Safe to repeat."""
    found = []
    exports = await qmp.run("query-block-exports")
    for export in exports:
        name = export["id"]
        if name.startswith(PREFIX):
            found.append(f"export {name}")
            qmp.forget_events()
            await qmp.run("block-export-del", {"id": name, "mode": "hard"})
            await qmp.wait_event("BLOCK_EXPORT_DELETED", lambda d, n=name: d["id"] == n)  # type: ignore[misc]
    if stop_server and all(export["id"].startswith(PREFIX) for export in exports):
        try:
            await qmp.run("nbd-server-stop")
            found.append("NBD server")
        except QmpRefused:
            pass  # it does not run any more
    for job in await qmp.run("query-jobs"):
        if job["id"].startswith(PREFIX):
            found.append(f"job {job['id']}")
            await _end_job(qmp, job["id"], job["status"])
    for node in await qmp.run("query-named-block-nodes", {"flat": True}):
        name = node["node-name"]
        if name.startswith(f"{PREFIX}fleece"):
            found.append(f"node {name}")
            await qmp.run("blockdev-del", {"node-name": name})
    return found


async def _end_job(qmp: Qmp, job: str, status: str) -> None:
    if status != "concluded":
        qmp.forget_events()
        await qmp.run("job-cancel", {"id": job})
        await qmp.wait_event(
            "JOB_STATUS_CHANGE", lambda d: d["id"] == job and d["status"] == "concluded"
        )
    await qmp.run("job-dismiss", {"id": job})
