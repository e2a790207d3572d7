"""Backups of a real QEMU machine with virtio disks: full, incremental, failed, retried, killed."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.qemu import Machine

from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_protocol import NbdError
from holdfast.block.nbd_pull import NbdSource
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.qmp import Qmp
from holdfast.block.vm_record import VmRecord, VmRecords
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.ids import SnapshotId
from holdfast.operations.progress import NullProgress
from holdfast.operations.vm_backup import VmBackupOutcome, VmBackupRequest, back_up_vm
from holdfast.units import MIB

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
SIZE = 64 * MIB
SMALL = 8 * MIB + 512


class LaterClock:
    """Every backup is a minute after the one before."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def now_s(self) -> float:
        self.seconds += 60
        return self.seconds

    def monotonic_s(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


class Setup:
    """A machine with two disks, and a store that all tests share."""

    def __init__(self, directory: Path, store: Datastore) -> None:
        self.directory = directory
        self.name = directory.name[-40:].strip("_")
        self.store = store
        self.disks = [directory / "a.qcow2", directory / "b.raw"]
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", str(self.disks[0]), str(SIZE)], check=True
        )
        self.disks[1].write_bytes(random.Random(3).randbytes(SMALL))
        self.records = VmRecords(str(directory / "state"))
        self.clock = LaterClock()
        self.machine = self.start()

    def start(self, *extra: str) -> Machine:
        return Machine(self.directory, self.disks, *extra)

    def add(self) -> None:
        self.records.save(VmRecord(name=self.name, qmp=self.machine.qmp))

    def back_up(self) -> VmBackupOutcome:
        request = VmBackupRequest(name=self.name)
        return back_up_vm(self.store, self.records, request, NullProgress(), clock=self.clock)

    def content(self, snapshot: SnapshotId, disk: int) -> bytes:
        index = self.store.open_index(snapshot, f"drive-vd{disk}.img.fidx")
        return b"".join(StreamReader(index, ChunkReader(ChunkStore.of(self.store))).pieces())

    def disk_now(self, disk: int) -> bytes:
        """What the guest would read."""
        copy = self.directory / "now"
        command = ["qemu-img", "convert", "-U", "-O", "raw", str(self.disks[disk]), str(copy)]
        self.machine.guest(disk, "flush")
        subprocess.run(command, check=True)
        return copy.read_bytes()

    def check(self, outcome: VmBackupOutcome, expected: list[bytes]) -> None:
        for disk, content in enumerate(expected):
            assert self.content(outcome.summary.snapshot, disk) == content

    def now(self) -> list[bytes]:
        return [self.disk_now(0), self.disk_now(1)]

    def is_clean(self) -> bool:
        nodes = self.machine.nodes()
        left = list((self.directory / "state" / "vm").glob("*fleece*"))
        images = [path for path in left if path.suffix != ".fleecing"]
        return not any(node.startswith("bk-") for node in nodes) and not images


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Datastore:
    return Datastore.create(str(tmp_path_factory.mktemp("vm") / "store"))


@pytest.fixture
def setup(tmp_path: Path, store: Datastore) -> Iterator[Setup]:
    made = Setup(tmp_path, store)
    made.add()
    with made.machine:
        yield made
        if made.machine.process.poll() is None:
            assert made.is_clean()


def test_full_then_incremental_reads_only_what_changed(setup: Setup) -> None:
    guest = setup.machine.guest
    guest(0, "write -P 1 0 20M")
    guest(0, "write -P 2 40M 100k")
    full = setup.back_up()
    setup.check(full, setup.now())
    assert [disk.full_reason is None for disk in full.disks] == [False, False]
    assert full.disks[0].read_bytes < SIZE
    guest(0, "write -P 3 41M 64k")
    guest(0, "write -z 0 4M")
    guest(1, "write -P 4 4194300 8")
    second = setup.back_up()
    setup.check(second, setup.now())
    assert [disk.full_reason for disk in second.disks] == [None, None]
    assert [disk.read_bytes for disk in second.disks] == [CHUNK_BYTES, 2 * CHUNK_BYTES]
    third = setup.back_up()
    assert [disk.read_bytes for disk in third.disks] == [0, 0]
    names = [list(setup.machine.bitmaps(disk)) for disk in (0, 1)]
    assert [len(found) for found in names] == [1, 1]
    about = setup.store.read_blob(third.summary.snapshot, "machine.json.blob")
    assert b"vd0" in about


def _fail_after(monkeypatch: pytest.MonkeyPatch, reads: int) -> None:
    """The store's side of the connection breaks after some chunks."""
    read_into = NbdSource.read_into
    done: list[int] = []

    def failing(self: NbdSource, offset: int, view: memoryview) -> None:
        if len(done) >= reads:
            raise NbdError("the connection broke")
        done.append(offset)
        read_into(self, offset, view)

    monkeypatch.setattr(NbdSource, "read_into", failing)


def test_a_failed_run_is_completed_by_its_retry(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = setup.machine.guest
    guest(0, "write -P 1 0 64M")
    setup.back_up()
    for number in range(14):
        guest(0, f"write -P {number + 10} {number * 4}M 64k")
    with monkeypatch.context() as patch:
        _fail_after(patch, 6)
        with pytest.raises(NbdError, match="connection broke"):
            setup.back_up()
    assert setup.is_clean()
    partial = next((setup.directory / "state" / "vm").glob("*vd0.partial"))
    assert partial.stat().st_size
    guest(0, "write -P 99 1M 64k")
    guest(0, "write -P 98 60M 64k")
    retry = setup.back_up()
    setup.check(retry, setup.now())
    assert retry.disks[0].full_reason is None
    # 14 were dirty; stored ones are not read again, but for those written since
    assert (14 - 6) * CHUNK_BYTES <= retry.disks[0].read_bytes < 14 * CHUNK_BYTES
    assert not list((setup.directory / "state" / "vm").glob("*.partial"))


def test_failures_in_a_row_are_merged_and_nothing_is_lost(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = setup.machine.guest
    rng = random.Random(11)
    setup.back_up()
    for attempt in range(6):
        for _write in range(4):
            guest(0, f"write -P {attempt + 1} {rng.randrange(1000) * 64}k 64k")
        with monkeypatch.context() as patch:
            _fail_after(patch, 1)
            with pytest.raises(NbdError):
                setup.back_up()
        assert len(setup.machine.bitmaps(0)) <= 5
    outcome = setup.back_up()
    setup.check(outcome, setup.now())
    assert outcome.disks[0].full_reason is None
    assert len(setup.machine.bitmaps(0)) == 1


def test_a_failed_first_backup_is_resumed_without_a_base(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.machine.guest(0, "write -P 1 0 64M")
    with monkeypatch.context() as patch:
        _fail_after(patch, 9)
        with pytest.raises(NbdError):
            setup.back_up()
    setup.machine.guest(0, "write -P 2 50M 64k")
    retry = setup.back_up()
    setup.check(retry, setup.now())
    assert retry.disks[0].read_bytes <= SIZE - 6 * CHUNK_BYTES


def test_a_restarted_machine_keeps_bitmaps_where_the_format_can(setup: Setup) -> None:
    setup.machine.guest(0, "write -P 1 0 64M")
    setup.back_up()
    setup.machine.guest(0, "write -P 2 8M 64k")
    setup.machine.quit()
    setup.machine = setup.start()
    with setup.machine:
        outcome = setup.back_up()
        setup.check(outcome, setup.now())
    assert outcome.disks[0].full_reason is None
    assert outcome.disks[0].read_bytes == CHUNK_BYTES
    assert "gone" in (outcome.disks[1].full_reason or "")


def test_a_killed_machine_is_read_in_full_and_told_why(setup: Setup) -> None:
    setup.machine.guest(0, "write -P 1 0 16M")
    setup.back_up()
    setup.machine.quit()
    setup.machine = setup.start()
    setup.machine.guest(0, "write -P 2 8M 64k")
    setup.machine.kill()
    setup.machine = setup.start()
    with setup.machine:
        outcome = setup.back_up()
        setup.check(outcome, setup.now())
        again = setup.back_up()
    assert "inconsistent" in (outcome.disks[0].full_reason or "")
    assert again.disks[0].full_reason is None


def _cli(setup: Setup, *words: str) -> list[str]:
    state = str(setup.directory / "state")
    start = [sys.executable, "-m", "holdfast", "--store", setup.store.base, "--state-dir", state]
    return [*start, "--json", *words]


def _said(setup: Setup, *words: str) -> Any:
    done = subprocess.run(_cli(setup, *words), capture_output=True, text=True, check=False, env=ENV)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_line_adds_lists_backs_up_serves_and_restores(setup: Setup) -> None:
    setup.records.remove(setup.name)
    added = _said(setup, "vm", "add", setup.name, "--qmp", setup.machine.qmp)
    assert [disk["name"] for disk in added["disks"]] == ["vd0", "vd1"]
    assert _said(setup, "vm", "list")[0]["disks"] == added["disks"]
    setup.machine.guest(0, "write -P 5 10M 3M")
    done = _said(setup, "vm", "backup", setup.name)
    expected = setup.now()
    target = setup.directory / "restored"
    _said(setup, "vm", "restore", done["snapshot"], "vd1", str(target))
    assert target.read_bytes() == expected[1]
    overlay, path = setup.directory / "overlay", setup.directory / "serve.sock"
    words = ["nbd", "serve", done["snapshot"], "drive-vd0.img", "--socket", str(path)]
    with subprocess.Popen(
        _cli(setup, *words, "--overlay", str(overlay)), stdout=subprocess.PIPE, env=ENV
    ) as server:
        assert server.stdout is not None
        uri = json.loads(server.stdout.readline())["uri"]
        with NbdClient.connect(NbdAddress.parse(uri)) as client:
            assert client.read(0, SIZE) == expected[0]
            client.write(10 * MIB + 5, b"changed")
            client.write_zeroes(11 * MIB, 100_000)
            after = bytearray(expected[0])
            after[10 * MIB + 5 : 10 * MIB + 12] = b"changed"
            after[11 * MIB : 11 * MIB + 100_000] = bytes(100_000)
            assert client.read(0, SIZE) == after
            restored = _said(setup, "vm", "restore", done["snapshot"], "vd0", uri)
            assert restored["written_bytes"] + restored["zero_bytes"] == SIZE
            assert client.read(0, SIZE) == expected[0]
        server.terminate()
    assert server.returncode == 0
    assert not overlay.exists()


def test_a_backup_killed_in_the_middle_is_cleaned_up(setup: Setup) -> None:
    """The process dies with the graph in place; the machine lives on and the next run goes on."""
    setup.machine.guest(0, "write -P 1 0 64M")
    script = (
        "import os, sys\n"
        "from holdfast.block.nbd_pull import NbdSource\n"
        "read, seen = NbdSource.read_into, []\n"
        "def dying(self, offset, view):\n"
        "    seen.append(offset)\n"
        "    if len(seen) == 5: os.kill(os.getpid(), 9)\n"
        "    read(self, offset, view)\n"
        "NbdSource.read_into = dying\n"
        "from holdfast.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    words = _cli(setup, "vm", "backup", setup.name)
    command = [sys.executable, "-c", script, *words[3:]]
    killed = subprocess.run(command, capture_output=True, check=False, env=ENV)
    assert killed.returncode == -9, killed.stderr
    assert "bk-fleece0" in setup.machine.nodes()
    setup.machine.guest(0, "write -P 2 30M 64k")
    removed = _said(setup, "vm", "cleanup", setup.name)["removed"]
    assert any(name.startswith("job") for name in removed)
    assert any(name.startswith("export") for name in removed)
    assert setup.is_clean()
    assert _said(setup, "vm", "cleanup", setup.name) == {"removed": []}
    done = setup.back_up()
    setup.check(done, setup.now())


def test_a_removed_snapshot_is_no_base_any_more(setup: Setup) -> None:
    setup.machine.guest(0, "write -P 1 0 8M")
    first = setup.back_up()
    second = setup.back_up()
    setup.store.remove_snapshot(second.summary.snapshot)
    third = setup.back_up()
    setup.check(third, setup.now())
    assert "another snapshot" in (third.disks[0].full_reason or "")
    assert setup.store.exists(first.summary.snapshot)


async def test_features_are_read_from_the_schema(setup: Setup) -> None:
    qmp = await Qmp.connect(setup.machine.qmp)
    arguments = await qmp.arguments_of("blockdev-backup")
    assert {"sync", "bitmap-mode", "filter-node-name"} <= arguments
    assert "no-such-thing" not in arguments
    assert await qmp.arguments_of("no-such-command") == set()
    await qmp.close()
