"""The machines Holdfast knows: add, list, forget, clean up after a crash."""

import asyncio
import os
from dataclasses import dataclass

from holdfast.block.qmp import Qmp
from holdfast.block.vm_disks import find_disks
from holdfast.block.vm_record import VmRecord, VmRecords, check_name
from holdfast.errors import BadRequest, HoldfastError
from holdfast.operations.progress import Progress
from holdfast.operations.vm_backup import clean_up, drop_all_bitmaps


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine for a list.

    Attributes:
        disks: name and size of each; empty when the machine does not answer.
        problem: why it does not, None when it does.
    """

    name: str
    qmp: str
    disks: tuple[tuple[str, int], ...] = ()
    problem: str | None = None


def add_machine(records: VmRecords, record: VmRecord) -> MachineView:
    """Make a machine known; it need not run.

    Raises:
        BadRequest: the name cannot be used, or is in use.
    """
    check_name(record.name)
    if record.name in records.names():
        raise BadRequest(f"a machine is called {record.name} already")
    record.qmp = os.path.abspath(record.qmp)
    record.agent = os.path.abspath(record.agent) if record.agent else ""
    record.config = os.path.abspath(record.config) if record.config else ""
    records.save(record)
    return look(record)


def look(record: VmRecord) -> MachineView:
    """Ask a machine for its disks."""

    async def ask() -> tuple[tuple[str, int], ...]:
        qmp = await Qmp.connect(record.qmp)
        try:
            return tuple((disk.name, disk.size_bytes) for disk in await find_disks(qmp))
        finally:
            await qmp.close()

    try:
        return MachineView(name=record.name, qmp=record.qmp, disks=asyncio.run(ask()))
    except HoldfastError as error:
        return MachineView(name=record.name, qmp=record.qmp, problem=error.message)


def list_machines(records: VmRecords) -> list[MachineView]:
    return [look(records.load(name)) for name in records.names()]


def remove_machine(records: VmRecords, name: str, progress: Progress) -> None:
    """Forget a machine, and leave nothing in it if it answers.

    Raises:
        NotFound, Busy: there is no such machine, or another run works on it.
    """

    async def clean(record: VmRecord) -> None:
        qmp = await Qmp.connect(record.qmp)
        try:
            await clean_up(qmp, records, record, progress)
            await drop_all_bitmaps(qmp, record)
        finally:
            await qmp.close()

    records.load(name)  # which refuses a name nobody knows before it is locked
    with records.locked(name):
        try:
            asyncio.run(clean(records.load(name)))
        except HoldfastError as error:
            progress.warn(f"its dirty bitmaps, if it has any, stay in it: {error.message}")
        records.remove(name)


def clean_up_machine(records: VmRecords, name: str, progress: Progress) -> list[str]:
    """Remove everything of ours from a machine and its scratch images; what was found.

    Raises:
        NotFound, Busy, TemporaryFailure: see back_up_vm.
    """

    async def clean() -> list[str]:
        record = records.load(name)
        qmp = await Qmp.connect(record.qmp)
        try:
            record.serves = True  # whatever the record says: a server without our exports stays
            return await clean_up(qmp, records, record, progress)
        finally:
            await qmp.close()

    with records.locked(name):
        return asyncio.run(clean())
