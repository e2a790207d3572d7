"""The block graph of one pull backup inside a running QEMU, and how to take it away again.

Everything of ours is named "bk-...". Where this QEMU can put filters above a disk (asked from its
schema), each disk gets one, and the backup reads the past through it:

    guest -> bk-cbwN (copy-before-write) -> the disk's own node
                 '--- old data --> bk-fleeceN        bk-accessN (snapshot-access) <- NBD export

A write whose old data cannot be saved, or not in time, breaks the snapshot and never the guest; the
reader lets go of what it has read. Filters are put in one after the other, so the moment of one disk
needs an order (new bitmaps begin before it, old ones end after it: bits too many are harmless), and
that of several disks a pause of the machine for a few milliseconds.

Otherwise each disk gets a job, all of them in one transaction together with the bitmaps' changes:

    guest -> bk-filterN (backup job, sync=none) -> the disk's own node
                 '--- old data --> bk-fleeceN (backing = the disk's node) <- NBD export

The scratch image of a disk is a qcow2, which uses space again that was let go; a limit of space is a
raw node of that size below it, so that QEMU itself keeps it.

Everything is found again by its prefix and record, so a run that was killed is cleaned up by the
next one, in the fixed order exports, server, jobs, nodes from the top down, images.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.block.qmp import Qmp, QmpRefused
from holdfast.block.vm_disks import VmDisk, device_path, has_recent_fixes
from holdfast.errors import HoldfastError, NotFound, Refused
from holdfast.host import files
from holdfast.units import MIB

PREFIX: Final = "bk-"
GRANULARITY_BYTES: Final = 65536
LIMIT_BYTES_MIN: Final = 1 * MIB
CBW_TIMEOUT_S: Final = 45
_CBW_TIMEOUT_S_OLD: Final = 4
_FILTER_OPTIONS: Final = {"on-cbw-error", "cbw-timeout"}
Action = tuple[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCare:
    """How a backup treats the guest.

    Attributes:
        timeout_s: how long a write waits for its old data to be saved; 0 for ever.
        limit_bytes: of a scratch image, 0 for the space there is.
    """

    timeout_s: int = CBW_TIMEOUT_S
    limit_bytes: int = 0


def make_fleecing_image(path: str, size_bytes: int, *, limit_bytes: int = 0) -> None:
    """An empty qcow2 of exactly the disk's size (NotFound without qemu-img, HoldfastError)."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", path, str(size_bytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotFound("qemu-img is not installed", hint="install qemu-utils") from None
    if done.returncode:
        raise HoldfastError(f"fleecing image {path} could not be made: {done.stderr.strip()}")
    if limit_bytes:  # the node that keeps the limit cannot grow its file
        with files.explained(f"making fleecing image {path}"):
            fd = files.open_update(path)
            try:
                files.truncate(fd, limit_bytes, path=path)
            finally:
                os.close(fd)


class VmGraph:
    """What a backup adds to a machine: scratch images and exports; see the two shapes below.

    Attributes:
        disks: in the order of their numbers.
        filters: what `clean_machine` has to know, on record before start().
        pauses: whether start() pauses a machine that runs.
        discard_bytes: the unit in which the reader lets go of what it has read; 0 for not at all.
        exports_saved: whether old data itself is exported, too, as `saved_name`.
    """

    exported = f"{PREFIX}fleece"
    discard_bytes = 0
    exports_saved = False

    def __init__(self, qmp: Qmp, disks: Sequence[VmDisk], care: GuestCare) -> None:
        self.qmp = qmp
        self.disks = disks
        self.care = care
        self.filters: dict[str, list[str]] = {}
        self.pauses = False

    async def check(self) -> None:
        """Refused when this QEMU cannot treat its guest as asked; before anything is made."""

    async def attach_fleecing(self, images: Sequence[str]) -> None:
        """One scratch node per disk (HoldfastError: one has another size than its disk)."""
        for number, (disk, path) in enumerate(zip(self.disks, images, strict=True)):
            file: dict[str, object] = {"driver": "file", "filename": path, "discard": "unmap"}
            if self.care.limit_bytes:
                size = self.care.limit_bytes
                file = {"driver": "raw", "size": size, "discard": "unmap", "file": file}
            node = {
                "driver": "qcow2",
                "node-name": f"{PREFIX}fleece{number}",
                "discard": "unmap",
                "file": file,
                **self._backing(disk),
            }
            await self.qmp.run("blockdev-add", node)
        nodes = await self.qmp.run("query-named-block-nodes", {"flat": True})
        sizes = {node["node-name"]: node["image"]["virtual-size"] for node in nodes}
        for number, disk in enumerate(self.disks):  # a smaller one would end QEMU
            if sizes[f"{PREFIX}fleece{number}"] != sizes.get(disk.node):
                raise HoldfastError(f"disk {disk.name} changed its size while the backup began")

    def _backing(self, disk: VmDisk) -> Mapping[str, object]:
        return {"backing": disk.node}

    async def start(self, bitmap_actions: Sequence[Action]) -> None:
        """The moment, and what happens to the bitmaps at it."""
        raise NotImplementedError

    async def serve(self, socket_path: str, bitmaps: Sequence[Sequence[str]]) -> None:
        """Export the past of every disk with its frozen bitmaps on a unix socket."""
        address = {"type": "unix", "data": {"path": socket_path}}
        start = {"addr": address, "max-connections": 0}  # any number: only we can connect
        await self.qmp.run("nbd-server-start", start)
        for number, disk in enumerate(self.disks):
            export: dict[str, object] = {
                "type": "nbd",
                "id": f"{PREFIX}exp{number}",
                "node-name": f"{self.exported}{number}",
                "name": disk.name,
                "writable": bool(self.discard_bytes),  # only so that it takes TRIM
            }
            if bitmaps[number]:
                export["bitmaps"] = [{"node": disk.node, "name": n} for n in bitmaps[number]]
            await self.qmp.run("block-export-add", export)
            if self.exports_saved:
                saved = {
                    "type": "nbd",
                    "id": f"{PREFIX}saved{number}",
                    "node-name": f"{PREFIX}fleece{number}",
                    "name": saved_name(disk),
                }
                await self.qmp.run("block-export-add", saved)


def saved_name(disk: VmDisk) -> str:
    """The name of the export of a disk's old data."""
    return f"{disk.name}.saved"


class JobGraph(VmGraph):
    """A job for each disk, for a QEMU without the filters or disks that cannot have one."""

    async def check(self) -> None:
        """Refused when a limit would fail the guest's writes."""
        if self.care.limit_bytes and not await self._can_break():
            raise Refused(
                "this QEMU would fail the guest's writes when the fleecing image reaches a limit",
                hint="leave --fleecing-limit out and give the image room for all that is written",
            )

    async def _can_break(self) -> bool:
        return "on-cbw-error" in await self.qmp.arguments_of("blockdev-backup")

    async def start(self, bitmap_actions: Sequence[Action]) -> None:
        """One transaction: jobs first, so that their nodes stay drained, then the bitmaps."""
        extra = {"on-cbw-error": "break-snapshot"} if await self._can_break() else {}
        jobs: list[Action] = [
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
        await self.qmp.transaction([*jobs, *bitmap_actions])


class FilterGraph(VmGraph):
    """A copy-before-write filter above each disk, and a snapshot-access node on it.

    QEMU 7.2, and perhaps any before 9.1, asks the disk instead of its old data when a question
    begins in saved clusters and ends behind them: what the guest has made zero is told as zero in
    the past, also to the export's own reads. There the old data is exported beside it, for
    NbdSource.
    """

    exported = f"{PREFIX}access"
    discard_bytes = GRANULARITY_BYTES  # clusters of the scratch image; less would end old versions

    def __init__(self, qmp: Qmp, disks: Sequence[VmDisk], care: GuestCare) -> None:
        super().__init__(qmp, disks, care)
        self.filters = {
            f"{PREFIX}cbw{number}": [disk.device, disk.node] for number, disk in enumerate(disks)
        }
        self.pauses = len(disks) > 1

    def _backing(self, _disk: VmDisk) -> Mapping[str, object]:
        return {}

    async def check(self) -> None:
        """Nothing is refused."""
        self.exports_saved = not await has_recent_fixes(self.qmp)

    async def start(self, bitmap_actions: Sequence[Action]) -> None:
        """New bitmaps, filters, the end of old bitmaps; paused meanwhile for several disks."""
        adds = [a for a in bitmap_actions if a[0] == "block-dirty-bitmap-add"]
        rest = [a for a in bitmap_actions if a not in adds]
        timeout_s = await self._timeout_s()
        was_running = self.pauses and (await self.qmp.run("query-status"))["running"]
        if was_running:
            await self.qmp.run("stop")
        try:
            await self.qmp.transaction(adds)
            for number, disk in enumerate(self.disks):
                await self._insert(number, disk, timeout_s)
            if rest:
                await self.qmp.transaction(rest)
        finally:
            if was_running:
                await self.qmp.run("cont")

    async def _timeout_s(self) -> int:
        timeout_s = self.care.timeout_s
        if timeout_s > _CBW_TIMEOUT_S_OLD and not await has_recent_fixes(self.qmp):
            return _CBW_TIMEOUT_S_OLD  # more would wrap around
        return timeout_s

    async def _insert(self, number: int, disk: VmDisk, timeout_s: int) -> None:
        copy_before_write = {
            "driver": "copy-before-write",
            "node-name": f"{PREFIX}cbw{number}",
            "file": disk.node,
            "target": f"{PREFIX}fleece{number}",
            "on-cbw-error": "break-snapshot",
            "cbw-timeout": timeout_s,
        }
        await self.qmp.run("blockdev-add", copy_before_write)
        await _put_drive(self.qmp, disk.device, f"{PREFIX}cbw{number}")
        access = {
            "driver": "snapshot-access",
            "node-name": f"{PREFIX}access{number}",
            "file": f"{PREFIX}cbw{number}",
            "discard": "unmap",
        }
        await self.qmp.run("blockdev-add", access)


async def _put_drive(qmp: Qmp, device: str, node: str) -> None:
    await qmp.run("qom-set", {"path": device, "property": "drive", "value": node})


async def graph_for(qmp: Qmp, disks: Sequence[VmDisk], care: GuestCare) -> VmGraph:
    """The shape that this QEMU and these disks allow.

    Raises:
        Refused: none treats the guest as asked.
    """
    has_filters = await qmp.options_of("copy-before-write") >= _FILTER_OPTIONS
    has_access = bool(await qmp.options_of("snapshot-access"))
    can_filter = has_filters and has_access and await _can_change_drives(qmp, disks)
    graph: VmGraph = (FilterGraph if can_filter else JobGraph)(qmp, disks, care)
    await graph.check()
    return graph


async def _can_change_drives(qmp: Qmp, disks: Sequence[VmDisk]) -> bool:
    for disk in disks:
        properties = await qmp.run("qom-list", {"path": disk.device}) if disk.device else []
        if not any(one["name"] == "drive" for one in properties):
            return False
    return True


async def clean_machine(
    qmp: Qmp, *, stop_server: bool, filters: Mapping[str, Sequence[str]], resume: bool
) -> list[str]:
    """Take away everything of ours; what was found, for a log. Safe to repeat.

    Args:
        qmp: of the machine.
        stop_server: whether the NBD server may be ours.
        filters: on record; see VmRecord.
        resume: whether a pause may be ours.
    """
    found = []
    if resume and (await qmp.run("query-status"))["status"] == "paused":
        found.append("pause")
        await qmp.run("cont")
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
    return found + await _remove_nodes(qmp, filters)


async def _remove_nodes(qmp: Qmp, filters: Mapping[str, Sequence[str]]) -> list[str]:
    nodes = await qmp.run("query-named-block-nodes", {"flat": True})
    names = [node["node-name"] for node in nodes]
    above = {b["inserted"]["node-name"]: b for b in await qmp.run("query-block") if "inserted" in b}
    found = []
    for kind in ("access", "cbw", "fleece"):
        for name in names:
            if not name.startswith(PREFIX + kind):
                continue
            found.append(f"node {name}")
            if name in above:
                device, disk = filters.get(name, ("", ""))
                if not disk or device != device_path(above[name]):
                    raise HoldfastError(
                        f"{name} is above a disk of the machine, but not on record",
                        hint="restart the machine to be rid of it",
                    )
                await _put_drive(qmp, device, disk)
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
