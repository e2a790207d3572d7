"""Back up the disks of a running QEMU machine: one moment, only what changed, retries that go on."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.block.bit_set import BitSet
from holdfast.block.chunk_plan import FullReason, ImageFacts
from holdfast.block.dirty_bitmap import bits_for
from holdfast.block.fleecing import FleecingRecord, image_name
from holdfast.block.guest_agent import frozen
from holdfast.block.nbd_pull import NbdSource, PullOutcome, pull_image
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.partial_image import PartialImage
from holdfast.block.qmp import Qmp, QmpRefused
from holdfast.block.vm_chain import (
    DiskPlan,
    bitmap_epochs,
    bitmap_name,
    bitmap_tag,
    chunks_to_read,
    plan_disk,
)
from holdfast.block.vm_disks import VmDisk, find_disks, flush_host_cache, refuse_iothreads
from holdfast.block.vm_graph import (
    CBW_TIMEOUT_S,
    GRANULARITY_BYTES,
    LIMIT_BYTES_MIN,
    GuestCare,
    VmGraph,
    clean_machine,
    graph_for,
    make_fleecing_image,
    saved_name,
)
from holdfast.block.vm_record import DiskChain, VmRecord, VmRecords
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.session import (
    DEFAULT_SETTINGS,
    BackupSession,
    SessionSettings,
    SessionSummary,
    free_second,
)
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, DamagedData, HoldfastError, NothingMatched
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import BackupType, GroupId, Namespace
from holdfast.operations.progress import Progress

MACHINE_BLOB: Final = "machine.json.blob"
CONFIG_BLOB: Final = "qemu-server.conf.blob"
_CONFIG_BYTES_MAX: Final = 1 << 20
_ABOUT: Final = ("query-version", "query-name", "query-uuid", "query-block", "query-pci")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmBackupRequest:
    """What to back up, where to.

    Attributes:
        name: of the machine, as it was added.
        fleecing_dir: where scratch images go; empty for the state directory.
        fleecing_bytes_max: space the scratch image of a disk may take; 0 for any.
        cbw_timeout_s: how long a guest's write waits for its old data to be saved; 0 for ever.
    """

    name: str
    ns: Namespace = field(default_factory=Namespace)
    settings: SessionSettings = DEFAULT_SETTINGS
    fleecing_dir: str = ""
    fleecing_bytes_max: int = 0
    cbw_timeout_s: int = CBW_TIMEOUT_S
    owner: str = "root@pam"
    notes: str = ""

    @property
    def care(self) -> GuestCare:
        """What it says of the guest (BadRequest)."""
        limit = self.fleecing_bytes_max
        if 0 < limit < LIMIT_BYTES_MIN or self.cbw_timeout_s < 0:
            raise BadRequest(
                f"a fleecing limit is at least {LIMIT_BYTES_MIN} bytes, a time-out 0 s"
            )
        whole = limit - limit % GRANULARITY_BYTES
        return GuestCare(timeout_s=self.cbw_timeout_s, limit_bytes=whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskOutcome:
    """One disk of a finished backup; `full_reason` says why all of it was read."""

    name: str
    size_bytes: int
    read_bytes: int
    full_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VmBackupOutcome:
    """A finished backup of a machine."""

    summary: SessionSummary
    disks: tuple[DiskOutcome, ...]
    duration_s: float


@dataclass(slots=True, kw_only=True)
class _Run:
    """One attempt and what it has to put back."""

    request: VmBackupRequest
    records: VmRecords
    record: VmRecord
    store: Datastore
    session: BackupSession
    progress: Progress
    tell: Callable[[str], None]
    tag: str
    key: str
    qmp: Qmp
    plans: list[DiskPlan] = field(default_factory=list)

    @property
    def now(self) -> int:
        return self.record.epoch

    @property
    def chains(self) -> dict[str, DiskChain]:
        return self.record.stores.setdefault(self.key, {})

    def partial_path(self, disk: str) -> str:
        return self.records.path(self.record.name, f".{self.tag}.{disk}.partial")

    def fleecing_record(self) -> FleecingRecord:
        return FleecingRecord(self.records.path(self.record.name, ".fleecing"))

    def socket_path(self) -> str:
        return self.records.socket_path(self.record.name)


def back_up_vm(
    store: Datastore,
    records: VmRecords,
    request: VmBackupRequest,
    progress: Progress,
    *,
    clock: Clock = SYSTEM_CLOCK,
    tell: Callable[[str], None] = lambda _text: None,
) -> VmBackupOutcome:
    """Take one snapshot of a machine.

    Args:
        store: where to.
        records: what is known of machines.
        request: which machine, and how.
        progress: told how far it is.
        clock: the time.
        tell: told, before anything is read, why and how much when it is more than the changes.

    Raises:
        NotFound: no such machine. Busy: another run works on it.
        TemporaryFailure: its QEMU does not answer.
        HoldfastError: QEMU, a disk or the store failed; what was stored serves the next run.
    """
    with records.locked(request.name):
        return asyncio.run(_back_up(store, records, request, progress, clock=clock, tell=tell))


async def _back_up(
    store: Datastore,
    records: VmRecords,
    request: VmBackupRequest,
    progress: Progress,
    *,
    clock: Clock,
    tell: Callable[[str], None],
) -> VmBackupOutcome:
    started = clock.monotonic_s()
    record = records.load(request.name)
    qmp = await Qmp.connect(record.qmp)
    try:
        await clean_up(qmp, records, record, progress)
        group = GroupId(BackupType.VM, record.name, request.ns)
        key = f"{store.base}|{request.ns}"
        now_s = free_second(store, group, clock)
        with BackupSession.start(
            store, group, now_s, settings=request.settings, owner=request.owner, clock=clock
        ) as session:
            run = _Run(
                request=request,
                records=records,
                record=record,
                store=store,
                session=session,
                progress=progress,
                tell=tell,
                tag=bitmap_tag(record.mark, key),
                key=key,
                qmp=qmp,
            )
            outcomes = await _attempt(run)
            summary = session.finish(notes=request.notes)
        await _accept(run, str(summary.snapshot))
        duration = clock.monotonic_s() - started
        return VmBackupOutcome(summary=summary, disks=tuple(outcomes), duration_s=duration)
    finally:
        await qmp.close()


async def clean_up(qmp: Qmp, records: VmRecords, record: VmRecord, progress: Progress) -> list[str]:
    """Remove what earlier runs left in the machine and on the disk; what was found."""
    found = await clean_machine(
        qmp, stop_server=record.serves, filters=record.filters, resume=record.pauses
    )
    fleecing = FleecingRecord(records.path(record.name, ".fleecing"))
    images = fleecing.images()
    for warning in fleecing.clean():
        progress.warn(warning)
    found += [f"image {path}" for path in images if path not in fleecing.images()]
    if record.serves or record.filters or record.pauses:
        record.serves, record.filters, record.pauses = False, {}, False
        records.save(record)
    records.remove_socket(record.name)
    return found


async def _attempt(run: _Run) -> list[DiskOutcome]:
    """From the first question to the last byte; leaves nothing in the machine."""
    disks = await find_disks(run.qmp)
    if not disks:
        raise NothingMatched(f"machine {run.record.name} has no disk that could be backed up")
    await refuse_iothreads(run.qmp, disks)
    graph = await graph_for(run.qmp, disks, run.request.care)
    run.record.epoch += 1
    run.plans = [_plan(run, disk) for disk in disks]
    for plan in run.plans:
        run.chains[plan.disk.name] = plan.chain
        _tell(run, plan)
    run.record.serves, run.record.filters = True, graph.filters
    run.records.save(run.record)  # before the machine is touched
    about = await _about_machine(run.qmp)
    with ExitStack() as sources:
        try:
            await _start(run, graph)
            opened = []
            for plan in run.plans:
                source = sources.enter_context(_source(run, graph, plan))
                opened.append(await asyncio.to_thread(_open, run, plan, source))
            outcomes = [await asyncio.to_thread(_pull, run, disk) for disk in opened]
            _store_blobs(run, about)
            return outcomes
        finally:  # exports first, while our connections are still open
            await clean_up(run.qmp, run.records, run.record, run.progress)


def _plan(run: _Run, disk: VmDisk) -> DiskPlan:
    chain = run.chains.get(disk.name) or DiskChain(node=disk.node, size_bytes=disk.size_bytes)
    reason = _why_no_base(run, disk, chain)
    partial = _partial(run, disk, chain)
    return plan_disk(disk, chain, tag=run.tag, now=run.now, reason=reason, partial=partial)


def _crypt(settings: SessionSettings) -> str:
    key = settings.key.fingerprint if settings.key is not None else ""
    return f"{settings.crypt_mode.value}{key}"


def _why_no_base(run: _Run, disk: VmDisk, chain: DiskChain) -> FullReason | None:
    base = run.session.base
    if base is None:
        has_failed = run.session.base_dropped_reason is not None
        return FullReason.VERIFY_FAILED if has_failed else FullReason.NO_PREVIOUS
    index = base.index(f"{archive_name(disk.name)}.fidx")
    if index is None or not chain.base:
        return FullReason.NO_PREVIOUS
    checks = (
        (chain.crypt == _crypt(run.request.settings), FullReason.CRYPT_MODE),
        (index.size_bytes == disk.size_bytes == chain.size_bytes, FullReason.IMAGE_SIZE),
        (chain.node == disk.node, FullReason.IDENTITY),
        (chain.base == str(base.snapshot), FullReason.BITMAP_BASE),
    )
    return next((reason for holds, reason in checks if not holds), None)


def _partial(run: _Run, disk: VmDisk, chain: DiskChain) -> PartialImage | None:
    """What failed runs stored, when it still belongs to this disk and chain."""
    try:
        partial = PartialImage.load(run.partial_path(disk.name))
    except DamagedData as error:
        run.progress.warn(f"{error.message}; it is not used")
        return None
    facts = _facts(run, disk)
    if partial is None or partial.facts != facts or partial.base != chain.base:
        return None
    return partial


def _facts(run: _Run, disk: VmDisk) -> ImageFacts:
    return ImageFacts(
        size_bytes=disk.size_bytes,
        chunk_bytes=CHUNK_BYTES,
        crypt=_crypt(run.request.settings),
        identity=disk.node,
    )


def archive_name(disk: str) -> str:
    """The archive that holds a disk."""
    return f"drive-{disk}.img"


def _tell(run: _Run, plan: DiskPlan) -> None:
    """Say before it starts why everything is read, and what it costs."""
    if plan.reason is None:
        return
    size = plan.disk.size_bytes
    cost = f"all {size} bytes of disk {plan.disk.name} are read"
    if plan.partial is not None:
        cost = f"disk {plan.disk.name} is read but for what the failed run stored"
    run.tell(f"{cost}: {plan.reason.sentence}")


async def _about_machine(qmp: Qmp) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for command in _ABOUT:
        with suppress(QmpRefused):
            about[command.removeprefix("query-")] = await qmp.run(command)
    return about


async def _start(run: _Run, graph: VmGraph) -> None:
    """Scratch images, the moment itself, the exports."""
    directory = run.request.fleecing_dir or run.records.directory
    fleecing, images = run.fleecing_record(), []
    for number, disk in enumerate(graph.disks):
        path = os.path.join(directory, image_name(run.record.name, number, "qcow2"))
        with files.explained(f"recording {path}"):
            fleecing.intend(path)
        make_fleecing_image(path, disk.size_bytes, limit_bytes=graph.care.limit_bytes)
        images.append(path)
    await graph.attach_fleecing(images)
    if graph.pauses:
        await asyncio.to_thread(flush_host_cache, graph.disks)
        run.record.pauses = True
        run.records.save(run.record)
    async with frozen(run.record.agent) as warning:
        await graph.start([action for plan in run.plans for action in plan.actions])
    if graph.pauses:
        run.record.pauses = False
        run.records.save(run.record)
    if warning:
        run.progress.warn(warning)
    bitmaps = [[bitmap_name(run.tag, e) for e in plan.frozen] for plan in run.plans]
    await graph.serve(run.socket_path(), bitmaps)


def _source(run: _Run, graph: VmGraph, plan: DiskPlan) -> NbdSource:
    path, saved = run.socket_path(), None
    if graph.exports_saved:
        saved = NbdAddress(export=saved_name(plan.disk), socket_path=path)
    return NbdSource(
        NbdAddress(export=plan.disk.name, socket_path=path),
        bitmaps=[bitmap_name(run.tag, epoch) for epoch in plan.frozen],
        discard_bytes=graph.discard_bytes,
        saved=saved,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A disk whose past is exported, and what of it has to be read."""

    plan: DiskPlan
    source: NbdSource
    refresh: BitSet
    partial: PartialImage


def _open(run: _Run, plan: DiskPlan, source: NbdSource) -> _Open:
    """Ask what was written, and let go of the rest: guests write there at full speed again."""
    disk = plan.disk
    if source.size_bytes != disk.size_bytes:
        raise HoldfastError(f"disk {disk.name} changed its size while the backup began")
    dirty = {
        epoch: source.dirty_chunks(bitmap_name(run.tag, epoch), CHUNK_BYTES)
        for epoch in plan.frozen
    }
    count = bits_for(disk.size_bytes, CHUNK_BYTES)
    refresh = chunks_to_read(plan, dirty, count=count, now=run.now)
    partial = plan.partial or PartialImage.empty(
        _facts(run, disk), base=plan.chain.base, owner=run.tag
    )
    _read_lost_chunks_again(run, partial, refresh)
    rest = BitSet.full(count)
    rest.subtract(refresh)
    source.let_go(rest, CHUNK_BYTES)
    return _Open(plan=plan, source=source, refresh=refresh, partial=partial)


def _pull(run: _Run, opened: _Open) -> DiskOutcome:
    """Copy one disk into the session; a failure keeps what is stored for the next run."""
    plan, partial, disk = opened.plan, opened.partial, opened.plan.disk
    writer = run.session.image(f"{archive_name(disk.name)}.fidx", disk.size_bytes)
    run.progress.phase(f"disk {disk.name}")
    run.progress.total(bytes=disk.size_bytes)
    try:
        outcome: PullOutcome = pull_image(
            opened.source,
            writer,
            refresh=opened.refresh,
            partial=partial,
            point=run.now,
            advance=lambda size: run.progress.advance(bytes=size),
        )
    finally:  # another disk may fail after this one succeeded
        with files.explained("keeping what was stored"):
            partial.save(run.partial_path(disk.name))
    reason = plan.reason.sentence if plan.reason is not None else None
    return DiskOutcome(
        name=disk.name,
        size_bytes=disk.size_bytes,
        read_bytes=outcome.read_bytes,
        full_reason=reason,
    )


def _read_lost_chunks_again(run: _Run, partial: PartialImage, refresh: BitSet) -> None:
    """Chunks of a partial image that the store has lost meanwhile are read again."""
    chunks = ChunkStore.of(run.store)
    wanted = partial.held()
    wanted.subtract(refresh)
    for number in wanted.numbers().tolist():
        digest = partial.digest(number)
        if digest and not chunks.touch(digest):
            refresh.set(number, number + 1)


def _store_blobs(run: _Run, about: dict[str, Any]) -> None:
    run.session.blob(MACHINE_BLOB, json.dumps(about, indent=1, sort_keys=True).encode())
    if run.record.config:
        with files.explained(f"reading {run.record.config}"):
            data = files.read_file(run.record.config, size_max=_CONFIG_BYTES_MAX)
        run.session.blob(CONFIG_BLOB, data)


async def _accept(run: _Run, snapshot: str) -> None:
    """The snapshot is published: note it, then drop bitmaps nobody needs any more."""
    for plan in run.plans:
        chain = run.chains[plan.disk.name]
        chain.base, chain.base_epoch = snapshot, run.now
        chain.crypt = _crypt(run.request.settings)
        chain.epochs, chain.starts = [run.now], {}
    with files.explained("noting the snapshot"):
        run.records.save(run.record)
        for plan in run.plans:
            with suppress(FileNotFoundError):
                files.unlink(run.partial_path(plan.disk.name))
    await _drop_bitmaps(run.qmp, await find_disks(run.qmp), run.tag, before=run.now)


async def drop_all_bitmaps(qmp: Qmp, record: VmRecord) -> None:
    """Remove whatever records for this machine's backups, in every store."""
    disks = await find_disks(qmp)
    for key in record.stores:
        await _drop_bitmaps(qmp, disks, bitmap_tag(record.mark, key), before=record.epoch + 1)


async def _drop_bitmaps(qmp: Qmp, disks: Sequence[VmDisk], tag: str, *, before: int) -> None:
    actions = [
        ("block-dirty-bitmap-remove", {"node": disk.node, "name": bitmap_name(tag, epoch)})
        for disk in disks
        for epoch in bitmap_epochs(disk, tag)
        if epoch < before
    ]
    if actions:
        await qmp.transaction([*actions])
