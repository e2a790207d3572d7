"""Question: how long do guests wait while QEMU itself backs their disk up to a slow target?

    python -m bench.qemu_latency [--work DIR]

The last question of bench.block_copy, asked to qemu-storage-daemon: a job with its own filter straight to
a target that takes 100 ms for each write, and one that reads from a copy-before-write filter with a scratch
file. One worker; bench.guest_writer is the guest. Prints a table.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.guest_writer import CHUNK, SIZE, WRITES, Latency, guest_latency
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.qmp import Qmp

_WRITES_SLOW: Final = 100  # of those that wait for the target


@contextmanager
def _running(command: Sequence[str], path: Path) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        while not path.exists():
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended at once")
            threading.Event().wait(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def _daemon(work: Path, *, fleecing: bool) -> list[str]:
    top = "cbw" if fleecing else "disk"
    filtered = [
        f"driver=file,node-name=scratch,filename={work}/scratch",
        "driver=copy-before-write,node-name=cbw,file=disk,target=scratch",
        "driver=snapshot-access,node-name=past,file=cbw",
    ]
    nodes = [
        f"driver=file,node-name=disk,filename={work}/disk",
        f"driver=nbd,node-name=slow,server.type=unix,server.path={work}/slow.sock",
        *(filtered if fleecing else ()),
    ]
    command = ["qemu-storage-daemon"]
    for node in nodes:
        command += ["--blockdev", node]
    command += ["--nbd-server", f"addr.type=unix,addr.path={work}/guest.sock"]
    command += ["--export", f"type=nbd,id=e,node-name={top},name=d,writable=on"]
    command += ["--chardev", f"socket,id=q,path={work}/qmp.sock,server=on,wait=off"]
    return [*command, "--monitor", "chardev=q"]


async def _start_job(work: Path, source: str) -> Qmp:
    qmp = await Qmp.connect(str(work / "qmp.sock"))
    job = {
        "job-id": "bench",
        "device": source,
        "target": "slow",
        "sync": "full",
        "x-perf": {"max-workers": 1},
    }
    await qmp.run("blockdev-backup", job)
    return qmp


async def latency(work: Path, *, fleecing: bool) -> Latency:
    """Waits of a guest's writes while a job of QEMU runs."""
    for name in ("disk", "scratch"):
        path = work / name
        path.unlink(missing_ok=True)
        path.touch()
        os.truncate(path, SIZE)
    with (work / "disk").open("r+b") as disk:
        for number in range(SIZE // CHUNK):
            disk.seek(number * CHUNK)
            disk.write(os.urandom(65536))
    slow = ["nbdkit", "-f", "-U", f"{work}/slow.sock", "--filter=delay", "memory", str(SIZE)]
    with (
        _running([*slow, "wdelay=100ms"], work / "slow.sock"),
        _running(_daemon(work, fleecing=fleecing), work / "qmp.sock"),
    ):
        qmp = await _start_job(work, "past" if fleecing else "disk")
        address = NbdAddress(export="d", socket_path=str(work / "guest.sock"))
        found = await guest_latency(address, WRITES if fleecing else _WRITES_SLOW)
        await qmp.run("job-cancel", {"id": "bench"})
        await qmp.close()
    for name in ("slow.sock", "qmp.sock", "guest.sock"):
        (work / name).unlink(missing_ok=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=None)
    work = Path(tempfile.mkdtemp(dir=parser.parse_args().work))
    try:
        rows = []
        for name, fleecing in (("with a scratch image", True), ("straight to the target", False)):
            found = asyncio.run(latency(work, fleecing=fleecing))
            rows.append(f"| QEMU, {name} | {found.p50_ms} | {found.p99_ms} |")
    finally:
        shutil.rmtree(work)
    print("| guest's write of 4 KiB | p50 ms | p99 ms |\n|---|--:|--:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
