"""Backups of a machine whose own operating system writes, frozen through its agent or not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.harness import guest
from tests.harness.qemu import Machine

from holdfast.block import vm_graph
from holdfast.block.qmp import Qmp
from holdfast.block.vm_disks import VmDisk
from holdfast.block.vm_graph import FilterGraph, GuestCare
from holdfast.block.vm_record import VmRecord, VmRecords
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.ids import SnapshotId
from holdfast.operations.progress import NullProgress
from holdfast.operations.vm_backup import VmBackupRequest, back_up_vm

pytestmark = pytest.mark.slow
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class Warnings(NullProgress):
    """Keeps what a person would be warned of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def _wait_for(console: Path, text: str) -> None:
    for _number in range(1200):
        if console.exists() and text in console.read_text(errors="replace"):
            return
        SYSTEM_CLOCK.wait(0.1)
    raise AssertionError(console.read_text(errors="replace") if console.exists() else "no console")


class Booted:
    """A guest that is up, and a store."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        self.directory = directory
        self.machine = machine
        self.store = Datastore.create(str(directory / "store"))
        self.records = VmRecords(str(directory / "state"))
        self.records.save(VmRecord(name="crash", qmp=machine.qmp))
        self.records.save(VmRecord(name="frozen", qmp=machine.qmp, agent=str(directory / "agent")))

    def back_up(self, name: str) -> SnapshotId:
        progress = Warnings()
        request = VmBackupRequest(name=name)
        outcome = back_up_vm(self.store, self.records, request, progress)
        assert progress.said == []
        assert self.machine.run("query-status")["running"]
        return outcome.summary.snapshot

    def content(self, snapshot: SnapshotId, disk: int) -> bytes:
        index = self.store.open_index(snapshot, f"drive-vd{disk}.img.fidx")
        return b"".join(StreamReader(index, ChunkReader(ChunkStore.of(self.store))).pieces())

    def last_write(self, snapshot: SnapshotId) -> int:
        return guest.sequence(self.content(snapshot, 1), self.content(snapshot, 2))

    def command(self, *words: str) -> list[str]:
        start = [sys.executable, "-m", "holdfast", "--store", self.store.base, "--state-dir"]
        return [*start, str(self.directory / "state"), "--json", *words]

    def said(self, *words: str) -> Any:
        done = subprocess.run(self.command(*words), capture_output=True, check=False, env=ENV)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def served(self, *words: str) -> Iterator[str]:
        """The address of `nbd serve` with these arguments."""
        command = self.command("nbd", "serve", *words)
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENV) as server:
            assert server.stdout is not None
            try:
                yield json.loads(server.stdout.readline())["uri"]
            finally:
                server.terminate()
        assert server.returncode == 0


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    directory = tmp_path_factory.mktemp("guest")
    disks = guest.make_disks(directory)
    with Machine(directory, disks, *guest.machine_options(directory)) as machine:
        made = Booted(directory, machine)
        machine.run("cont")
        _wait_for(directory / "console", "guest is up")
        yield made


def _journal_is_open(image: Path) -> bool:
    """Whether an ext4 was in use without being frozen: its journal has to be replayed."""
    done = subprocess.run(
        ["dumpe2fs", "-h", str(image)], capture_output=True, text=True, check=True
    )
    return "needs_recovery" in done.stdout


def test_all_disks_are_of_one_moment_while_the_guest_writes(booted: Booted) -> None:
    last, numbers = booted.back_up("crash"), list[int]()
    for _round in range(6):
        numbers.append(booted.last_write(last))
        SYSTEM_CLOCK.wait(0.5)
        last = booted.back_up("crash")
    assert numbers == sorted(set(numbers))
    assert numbers[0]
    image = booted.directory / "crash.img"
    image.write_bytes(booted.content(last, 0))
    assert _journal_is_open(image)


class _Unpaused(FilterGraph):
    """As for a machine with one disk."""

    def __init__(self, qmp: Qmp, disks: Sequence[VmDisk], care: GuestCare) -> None:
        super().__init__(qmp, disks, care)
        self.pauses = False


def test_one_disk_is_of_one_moment_without_a_pause(
    booted: Booted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the disks by itself: bitmaps and filter change while the guest writes."""
    monkeypatch.setattr(vm_graph, "FilterGraph", _Unpaused)
    numbers = list[int]()
    for _round in range(6):
        snapshot = booted.back_up("crash")
        numbers.append(guest.sequence(booted.content(snapshot, 1)))
        SYSTEM_CLOCK.wait(0.5)
    assert numbers == sorted(set(numbers))


def test_a_frozen_file_system_is_clean_in_the_backup_and_goes_on(booted: Booted) -> None:
    first = booted.back_up("frozen")
    image = booted.directory / "frozen.img"
    image.write_bytes(booted.content(first, 0))
    assert not _journal_is_open(image)
    done = subprocess.run(["e2fsck", "-fn", str(image)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    SYSTEM_CLOCK.wait(0.5)
    second = booted.back_up("frozen")
    assert booted.content(second, 0) != booted.content(first, 0)
    assert booted.last_write(second) > booted.last_write(first)


def test_a_machine_starts_from_its_backup_and_the_backup_stays(booted: Booted) -> None:
    snapshot = booted.back_up("frozen")
    before = booted.content(snapshot, 0)
    place = booted.directory / "second"
    place.mkdir()
    words = (str(snapshot), "drive-vd0.img", "--socket", str(place / "nbd"))
    with booted.served(*words, "--overlay", str(place / "overlay")) as uri:
        spare = guest.make_disks(place)[1:]
        node = "driver=raw,node-name=first,file.driver=nbd,file.server.type=unix"
        first = [f"{node},file.server.path={place / 'nbd'},file.export=drive-vd0.img"]
        options = ["-blockdev", *first, "-device", "virtio-blk-pci,drive=first,addr=3"]
        more = guest.machine_options(place)
        with Machine(place, spare, *options, *more, first_slot=4) as machine:
            machine.run("cont")
            _wait_for(place / "console", "guest is up")
            _wait_for(place / "console", "disk: backed up")
        assert uri
    assert booted.content(snapshot, 0) == before
    assert not (place / "overlay").exists()


def test_a_disk_of_a_running_machine_is_restored_over_nbd(booted: Booted) -> None:
    """QEMU itself exports a spare disk of the machine that goes on meanwhile."""
    snapshot = booted.back_up("frozen")
    spare = booted.directory / "spare.raw"
    spare.write_bytes(b"\xff" * guest.DISK_BYTES)
    run = booted.machine.run
    run(
        "blockdev-add",
        **{
            "driver": "raw",
            "node-name": "spare",
            "file": {"driver": "file", "filename": str(spare)},
        },
    )
    path = str(booted.directory / "restore.sock")
    run("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
    run("block-export-add", type="nbd", id="r", writable=True, **{"node-name": "spare"})
    uri = f"nbd+unix:///spare?socket={path}"
    booted.said("vm", "restore", str(snapshot), "vd2", uri)
    run("nbd-server-stop")
    run("blockdev-del", **{"node-name": "spare"})
    assert spare.read_bytes() == booted.content(snapshot, 2)
    assert booted.machine.run("query-status")["running"]
