"""Backups of a real QEMU machine with virtio disks: full, incremental, failed, retried, killed."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.qemu import Machine
from tests.harness.stores import empty_store

from holdfast.block.bit_set import BitSet
from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_protocol import NbdError
from holdfast.block.nbd_pull import NbdSource
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.partial_image import PartialImage
from holdfast.block.qmp import Qmp
from holdfast.block.vm_record import VmRecord, VmRecords
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, Refused, TemporaryFailure
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.ids import SnapshotId
from holdfast.operations.progress import NullProgress
from holdfast.operations.vm_backup import VmBackupOutcome, VmBackupRequest, back_up_vm
from holdfast.operations.vm_machines import remove_machine
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

    def __init__(self, directory: Path, store: Datastore, *extra: str) -> None:
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
        self.machine = self.start(*extra)

    def start(self, *extra: str) -> Machine:
        return Machine(self.directory, self.disks, *extra)

    def add(self) -> None:
        self.records.save(VmRecord(name=self.name, qmp=self.machine.qmp))

    def back_up(self, **options: Any) -> VmBackupOutcome:
        request = VmBackupRequest(name=self.name, **options)
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
def store() -> Iterator[Datastore]:
    with empty_store() as store:
        yield store


@pytest.fixture
def setup(tmp_path: Path, store: Datastore) -> Iterator[Setup]:
    made = Setup(tmp_path, store)
    made.add()
    with made.machine:
        yield made
        if made.machine.process.poll() is None:
            assert made.is_clean()


OLDER = """
from holdfast.block.qmp import Qmp
async def knows_no_filters(self, driver): return set()
Qmp.options_of = knows_no_filters
"""


@pytest.fixture(params=["filters", "jobs"])
def shape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of keeping the past; without its filters this QEMU is like an older one."""
    if request.param == "jobs":

        async def knows_no_filters(_self: Qmp, _driver: str) -> set[str]:
            return set()

        monkeypatch.setattr(Qmp, "options_of", knows_no_filters)
    return str(request.param)


@pytest.mark.usefixtures("shape")
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


def test_a_machine_known_under_two_names_has_bitmaps_for_each(setup: Setup) -> None:
    guest, first = setup.machine.guest, setup.name
    setup.name = "other"
    setup.add()
    taken: dict[str, VmBackupOutcome] = {}
    for number in range(3):
        for name in (first, "other"):
            setup.name = name
            guest(0, f"write -P {number * 2 + len(taken) + 1} {number * 8}M 100k")
            taken[name] = setup.back_up()
            setup.check(taken[name], setup.now())
    assert [disk.full_reason for one in taken.values() for disk in one.disks] == [None] * 4

    remove_machine(setup.records, "other", NullProgress())

    assert [len(setup.machine.bitmaps(disk)) for disk in (0, 1)] == [1, 1]
    setup.name = "other"
    setup.add()  # known again
    setup.check(setup.back_up(), setup.now())


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


@pytest.mark.usefixtures("shape")
def test_what_the_guest_writes_meanwhile_is_not_in_the_backup(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = setup.machine.guest
    guest(0, "write -P 1 0 64M")
    moment = setup.now()
    read_into, at = NbdSource.read_into, iter(range(1000))

    def reading(self: NbdSource, offset: int, view: memoryview) -> None:
        number = next(at)
        if number < 16:  # below, at and above what is being read
            guest(0, f"write -P {number + 10} {(number * 7 % 16) * 4 + 1}M 200k")
            guest(1, f"write -z {number * 500}k 100k")
        read_into(self, offset, view)

    monkeypatch.setattr(NbdSource, "read_into", reading)
    full = setup.back_up()
    setup.check(full, moment)
    moment = setup.now()
    second = setup.back_up()
    setup.check(second, moment)
    assert [disk.full_reason for disk in second.disks] == [None, None]


def test_what_the_guest_makes_zero_meanwhile_is_not_zero_in_the_backup(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU 7.2 says so, in its block status and in what it answers to reads."""
    guest = setup.machine.guest
    guest(0, "write -P 1 0 40M")
    moment, done = setup.now(), list[int]()
    zero_ranges, read_into = NbdSource.zero_ranges, NbdSource.read_into

    def looking(self: NbdSource, chunks: BitSet, chunk_bytes: int) -> list[tuple[int, int]]:
        if not done:
            guest(0, "write -z 0 8M")
            guest(0, "write -z 12M 64k")
            guest(0, "discard 16M 192k")
        return zero_ranges(self, chunks, chunk_bytes)

    def reading(self: NbdSource, offset: int, view: memoryview) -> None:
        if self.address.export == "vd0":
            done.append(offset)
            guest(0, f"write -z {offset // 1024}k 128k")
        read_into(self, offset, view)

    monkeypatch.setattr(NbdSource, "zero_ranges", looking)
    monkeypatch.setattr(NbdSource, "read_into", reading)
    setup.check(setup.back_up(), moment)
    assert len(done) == 10  # what always was a hole was not read


def _scratch_bytes(setup: Setup) -> int:
    images = (setup.directory / "state" / "vm").glob("*fleece*.qcow2")
    return sum(path.stat().st_blocks * 512 for path in images)


def test_scratch_space_is_let_go_as_the_backup_reads(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = setup.machine.guest
    guest(0, "write -P 1 0 64M")
    setup.back_up()
    guest(0, "write -P 2 0 20M")
    moment = setup.now()
    zero_ranges, read_into, sizes = NbdSource.zero_ranges, NbdSource.read_into, list[int]()

    def looking(self: NbdSource, chunks: BitSet, chunk_bytes: int) -> list[tuple[int, int]]:
        if not sizes:
            guest(0, "write -P 3 40M 24M")  # clean since the last one: nothing to save
            sizes.append(_scratch_bytes(setup))
            guest(0, "write -P 4 4M 16M")
            sizes.append(_scratch_bytes(setup))
        return zero_ranges(self, chunks, chunk_bytes)

    def reading(self: NbdSource, offset: int, view: memoryview) -> None:
        read_into(self, offset, view)
        sizes.append(_scratch_bytes(setup))

    monkeypatch.setattr(NbdSource, "zero_ranges", looking)
    monkeypatch.setattr(NbdSource, "read_into", reading)
    incremental = setup.back_up()
    setup.check(incremental, moment)
    assert sizes[0] < MIB
    assert sizes[1] > 15 * MIB
    assert sizes[-1] < 5 * MIB


def test_a_limit_of_scratch_space_ends_the_backup_and_not_the_guest(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = setup.machine.guest
    guest(0, "write -P 1 0 64M")
    read_into, done, limit = NbdSource.read_into, list[int](), 4 * MIB

    def reading(self: NbdSource, offset: int, view: memoryview) -> None:
        if not done:
            guest(0, "write -P 2 30M 30M")  # fails when QEMU fails it
            done.append(_scratch_bytes(setup))
        read_into(self, offset, view)

    with monkeypatch.context() as patch:
        patch.setattr(NbdSource, "read_into", reading)
        with pytest.raises(TemporaryFailure, match="given up and the guest went on"):
            setup.back_up(fleecing_bytes_max=limit)
    assert 0 < done[0] <= limit
    assert setup.is_clean()
    retry = setup.back_up(fleecing_bytes_max=limit)
    setup.check(retry, setup.now())
    with pytest.raises(BadRequest, match="at least"):
        setup.back_up(fleecing_bytes_max=1000)


def test_a_limit_is_refused_where_it_would_fail_the_guest(setup: Setup, shape: str) -> None:
    if shape == "filters":
        setup.back_up(fleecing_bytes_max=MIB)
        return
    with pytest.raises(Refused, match="fail the guest's writes"):
        setup.back_up(fleecing_bytes_max=MIB)


def test_a_guest_waits_for_its_old_data_no_longer_than_was_said(
    tmp_path: Path, store: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading old data takes three seconds, the guest waits for one."""
    slow = tmp_path / "slow.sock"
    command = ["nbdkit", "-f", "-U", str(slow), "--filter=delay", "memory", "16M", "rdelay=3"]
    with subprocess.Popen(command) as nbdkit:
        while not slow.exists():
            SYSTEM_CLOCK.wait(0.02)
        node = "driver=raw,node-name=disk2,file.driver=nbd,file.server.type=unix"
        block = ["-blockdev", f"{node},file.server.path={slow}"]
        setup = Setup(tmp_path, store, *block, "-device", "virtio-blk-pci,drive=disk2,id=vd2")
        setup.add()
        with setup.machine:
            setup.machine.guest(2, "write -P 1 0 1M")
            setup.machine.guest(2, "write -P 1 8M 1M")
            read_into, waits = NbdSource.read_into, list[float]()

            def reading(self: NbdSource, offset: int, view: memoryview) -> None:
                if self.address.export == "vd2" and not waits:
                    start = time.monotonic()
                    setup.machine.guest(2, "write -P 2 8M 64k")
                    waits.append(time.monotonic() - start)
                read_into(self, offset, view)

            monkeypatch.setattr(NbdSource, "read_into", reading)
            with pytest.raises(TemporaryFailure, match="the guest went on"):
                setup.back_up(cbw_timeout_s=1)
            assert 0.9 < waits[0] < 2.9
            assert setup.is_clean()
        nbdkit.terminate()


def test_a_machine_with_many_disks_is_backed_up(tmp_path: Path, store: Datastore) -> None:
    """More connections than servers usually take: each disk is asked and read on its own."""
    extra = []
    for number in range(2, 14):
        disk = tmp_path / f"more{number}"
        disk.write_bytes(random.Random(number).randbytes(5 * MIB))
        node = f"driver=raw,node-name=disk{number},file.driver=file,file.filename={disk}"
        extra += ["-blockdev", node, "-device", f"virtio-blk-pci,drive=disk{number},id=vd{number}"]
    setup = Setup(tmp_path, store, *extra)
    setup.add()
    with setup.machine:
        outcome = setup.back_up()
        assert len(outcome.disks) == 14
        for number in range(2, 14):
            content = (tmp_path / f"more{number}").read_bytes()
            assert setup.content(outcome.summary.snapshot, number) == content
        assert setup.is_clean()


@pytest.mark.usefixtures("shape")
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
    path = next((setup.directory / "state" / "vm").glob("*vd0.partial"))
    partial = PartialImage.load(str(path))
    assert partial is not None
    stored = set(partial.held().numbers().tolist())
    assert stored
    guest(0, "write -P 99 1M 64k")
    guest(0, "write -P 98 60M 64k")
    retry = setup.back_up()
    setup.check(retry, setup.now())
    assert retry.disks[0].full_reason is None
    wanted = set(range(14)) - stored | {0, 15}  # not stored, or written since; nothing else
    assert retry.disks[0].read_bytes == len(wanted) * CHUNK_BYTES
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


def test_why_everything_is_read_is_said_before_it_is(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, read_into = list[str](), NbdSource.read_into

    def reading(self: NbdSource, offset: int, view: memoryview) -> None:
        assert len(said) == 2
        read_into(self, offset, view)

    monkeypatch.setattr(NbdSource, "read_into", reading)
    request = VmBackupRequest(name=setup.name)
    for _run in range(2):
        progress = NullProgress()
        back_up_vm(
            setup.store, setup.records, request, progress, clock=setup.clock, tell=said.append
        )
    reason = "there is no previous snapshot of this disk"
    assert said == [
        f"all {SIZE} bytes of disk vd0 are read: {reason}",
        f"all {SMALL} bytes of disk vd1 are read: {reason}",
    ]


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


def test_a_backup_killed_in_the_middle_is_cleaned_up(setup: Setup, shape: str) -> None:
    """The process dies with the graph in place; the machine lives on and the next run goes on."""
    setup.machine.guest(0, "write -P 1 0 64M")
    script = (OLDER if shape == "jobs" else "") + (
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
    expected = "job" if shape == "jobs" else "node bk-cbw"
    assert any(name.startswith(expected) for name in removed)
    assert any(name.startswith("export") for name in removed)
    assert setup.is_clean()
    assert _said(setup, "vm", "cleanup", setup.name) == {"removed": []}
    done = setup.back_up()
    setup.check(done, setup.now())


@pytest.mark.slow
def test_a_backup_killed_at_any_command_leaves_nothing_that_is_not_removed(setup: Setup) -> None:
    """The machine runs, is killed off at one QMP command after the other, and always goes on."""
    setup.machine.run("cont")
    setup.machine.guest(0, "write -P 1 0 64M")
    script = (
        "import os, sys\n"
        "from holdfast.block.qmp import Qmp\n"
        "run, left = Qmp.run, [int(sys.argv[1])]\n"
        "async def dying(self, command, arguments=None):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), 9)\n"
        "    return await run(self, command, arguments)\n"
        "Qmp.run = dying\n"
        "from holdfast.cli.main import main\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    words = _cli(setup, "vm", "backup", setup.name)[3:]
    deaths, paused, commands = 0, 0, 10
    while True:
        command = [sys.executable, "-c", script, str(commands), *words]
        done = subprocess.run(command, capture_output=True, check=False, env=ENV)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        deaths += 1
        paused += setup.machine.run("query-status")["status"] == "paused"
        setup.machine.guest(0, f"write -P {deaths} {deaths * 2}M 64k")
        if deaths % 3:  # otherwise the next run finds it all
            _said(setup, "vm", "cleanup", setup.name)
            assert setup.is_clean()
            assert setup.machine.run("query-status")["running"]
        commands += 3
    assert deaths > 8
    assert paused
    assert setup.machine.run("query-status")["running"]
    assert setup.is_clean()
    setup.clock.seconds = time.time()
    last = setup.back_up()
    setup.check(last, setup.now())


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
    assert {"on-cbw-error", "file"} <= await qmp.options_of("copy-before-write")
    assert await qmp.options_of("no-such-driver") == set()
    assert await qmp.arguments_of("no-such-command") == set()
    await qmp.close()
