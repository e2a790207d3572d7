"""A real QEMU with virtio disks and no guest: writes are put in at the device."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Machine:
    """qemu-system-x86_64, emulated, paused before its firmware runs."""

    def __init__(
        self, directory: Path, disks: Sequence[Path], *extra: str, first_slot: int = 0
    ) -> None:
        self.directory = directory
        self.qmp = str(directory / "qmp.sock")
        self._own = str(directory / "own.sock")
        command = ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "64", "-nodefaults"]
        command += ["-display", "none", "-S"]
        for path in (self.qmp, self._own):
            command += ["-qmp", f"unix:{path},server=on,wait=off"]
        for number, disk in enumerate(disks):
            kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
            node = f"driver={kind},node-name=disk{number},discard=unmap,file.driver=file"
            command += ["-blockdev", f"{node},file.filename={disk},file.discard=unmap"]
            device = f"virtio-blk-pci,drive=disk{number},id=vd{number}"
            if first_slot:
                device += f",addr={first_slot + number}"
            command += ["-device", device]
        self.process = subprocess.Popen(
            [*command, *extra], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._turn = threading.Lock()
        self._talk = self._connect()
        self.run("qmp_capabilities")

    def _connect(self) -> socket.socket:
        talk = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                output, _none = self.process.communicate()
                raise AssertionError(output.decode())
            if talk.connect_ex(self._own) == 0:
                self._lines = talk.makefile("rb")
                self._lines.readline()
                return talk
            threading.Event().wait(0.02)
        raise AssertionError("QEMU did not start")

    def run(self, command: str, **arguments: object) -> Any:
        request = {"execute": command, "arguments": arguments}
        with self._turn:  # guests write from the threads of a backup
            self._talk.sendall(json.dumps(request).encode() + b"\n")
            while True:
                answer = json.loads(self._lines.readline())
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise AssertionError(answer["error"])

    def guest(self, disk: int, line: str) -> None:
        """Do what the guest's driver would, such as `write -P 7 1M 64k`."""
        hmp = f'qemu-io -d /machine/peripheral/vd{disk}/virtio-backend "{line}"'
        text = self.run("human-monitor-command", **{"command-line": hmp})
        assert "rror" not in text, text
        assert "failed" not in text, text

    def nodes(self) -> list[str]:
        found = self.run("query-named-block-nodes", flat=True)
        return sorted(node["node-name"] for node in found)

    def bitmaps(self, disk: int) -> dict[str, dict[str, Any]]:
        for node in self.run("query-named-block-nodes", flat=True):
            if node["node-name"] == f"disk{disk}":
                return {b["name"]: b for b in node.get("dirty-bitmaps", ())}
        raise AssertionError("no such disk")

    def quit(self) -> None:
        """End in good order: bitmaps are saved."""
        self.run("quit")
        self._close()

    def kill(self) -> None:
        """Power loss, as far as bitmaps are concerned."""
        self.process.kill()
        self._close()

    def _close(self) -> None:
        self.process.communicate()
        self._lines.close()
        self._talk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self._close()
