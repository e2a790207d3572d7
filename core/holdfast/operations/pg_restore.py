"""Restore a base backup, ready for the server to recover to where it is told.

The tree is laid out, `backup_label` and `tablespace_map` are those of the backup, the WAL that came
with it goes into `pg_wal`, recovery settings into `postgresql.auto.conf`, and `recovery.signal` asks
the server for an archive recovery, which ends on a new timeline. The control file comes last.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from holdfast.archive.pxar.format import Kind as PxarKind
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, DamagedData, NoSpace, NotFound, Refused
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import SnapshotId
from holdfast.operations.pg_chain import BaseChain, StoredContent
from holdfast.operations.pg_layout import LaidOut, Layout, Places
from holdfast.operations.pg_local import running_server
from holdfast.operations.progress import Progress
from holdfast.postgres.backup_record import BackupRecord
from holdfast.postgres.control_file import read_control
from holdfast.postgres.file_list import Form
from holdfast.postgres.recovery import (
    AUTO_CONF_NAME,
    LABEL_NAME,
    MAP_NAME,
    SIGNAL_NAME,
    RecoverySettings,
    TargetKind,
    auto_conf,
    map_of,
)
from holdfast.postgres.wal_names import parse_lsn, parse_wal_name

_READ_AHEAD: Final = 3
_CONF_BYTES_MAX: Final = 1 << 20
_PRIVATE: Final = 0o700
_SPARE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PgRestoreRequest:
    """What to restore, where to, and how far.

    Attributes:
        target: the data directory to be.
        spaces: directory for each tablespace to go elsewhere, by OID.
        recovery: settings of the server; None lays out files for a start without recovery.signal.
        overwrite: the target may be a stopped cluster, of which only what differs is written.
        owner: uid and gid of everything; None for those of this process.
        discard_wal: throw WAL away that the target has and that was never archived.
    """

    snapshot: SnapshotId
    target: str
    spaces: Mapping[int, str] = field(default_factory=dict)
    recovery: RecoverySettings | None = field(default_factory=RecoverySettings)
    overwrite: bool = False
    owner: tuple[int, int] | None = None
    discard_wal: bool = False
    dry_run: bool = False
    key: EncryptionKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PgRestored:
    """What was restored."""

    record: BackupRecord
    places: Places
    laid_out: LaidOut
    duration_s: float


def restore_cluster(
    store: Datastore, request: PgRestoreRequest, progress: Progress, *, clock: Clock = SYSTEM_CLOCK
) -> PgRestored:
    """Lay the cluster out; nothing is started.

    Raises:
        NotFound: no such base backup, or one it builds on is gone.
        Refused: a server runs there, the target is not empty or another cluster's, the recovery
            target lies before the backup's end, un-archived WAL would be lost.
        DamagedData: content is not what was backed up; the target cannot be started then.
        NoSpace, KeyProblem, HoldfastError.
    """
    began_s = clock.monotonic_s()
    with BaseChain(store, request.snapshot, request.key, read_ahead=_READ_AHEAD) as chain:
        record = chain.record
        if request.recovery is not None:
            check_target(record, request.recovery)
        places = Places(
            data=os.path.abspath(request.target),
            spaces=_space_places(record, request),
            owner=request.owner,
        )
        _check_places(record, places, request)
        progress.phase("restore")
        _measure(chain, places, request, progress)
        if not request.dry_run:
            _make_roots(places)
        layout = Layout(chain, places, progress, is_dry_run=request.dry_run)
        layout.write()
        progress.phase("wal")
        if record.has_wal:
            for name, content in wal_files(chain):
                layout.add_wal(name, content)
        layout.add(LABEL_NAME, record.label)
        if record.tablespaces:
            layout.add(MAP_NAME, map_of(places.spaces))
        if request.recovery is not None:
            before = b""
            with suppress(FileNotFoundError):
                path = os.path.join(places.data, AUTO_CONF_NAME)
                before = files.read_file(path, size_max=_CONF_BYTES_MAX)
            layout.add(AUTO_CONF_NAME, auto_conf(before, request.recovery.settings()))
            layout.add(SIGNAL_NAME, b"")
        layout.close()
    return PgRestored(
        record=record,
        places=places,
        laid_out=layout.outcome,
        duration_s=clock.monotonic_s() - began_s,
    )


def check_target(record: BackupRecord, recovery: RecoverySettings) -> None:
    """A base backup is consistent only at its end: no recovery ends before (Refused)."""
    target = recovery.target
    stop = record.stop
    too_early = False
    if target.kind is TargetKind.LSN and recovery.timeline in ("current", str(stop.timeline)):
        too_early = parse_lsn(target.value) < stop.lsn
    if target.kind is TargetKind.TIME and target.time is not None:
        too_early = target.time < datetime.fromisoformat(stop.time)
    if too_early:
        raise Refused(
            f"this base backup is consistent from {stop.time} on, the target lies before",
            hint="restore an earlier base backup",
        )


def wal_files(chain: BaseChain) -> list[tuple[str, StoredContent]]:
    """Names and contents of the WAL stored with a base backup (DamagedData)."""
    tree = chain.top.tree("wal.pxar")
    found = []
    for entry in tree.accessor.children(tree.accessor.root):
        name = entry.name.decode("ascii", "replace")
        try:
            parse_wal_name(name)
        except BadRequest as error:
            raise DamagedData("wal.pxar", "it holds something that is no WAL") from error
        if entry.kind is PxarKind.FILE:
            found.append((name, StoredContent(tree, entry)))
    return found


# Before anything is written -----------------------------------------------------------------------


def _space_places(record: BackupRecord, request: PgRestoreRequest) -> dict[int, str]:
    """Where every tablespace goes (BadRequest)."""
    known = {space.oid: space.location for space in record.tablespaces}
    for oid in request.spaces:
        if oid not in known:
            there = ", ".join(map(str, known)) or "none"
            raise BadRequest(f"there is no tablespace {oid}", hint=f"the backup has {there}")
    return {
        oid: os.path.abspath(request.spaces.get(oid, location)) for oid, location in known.items()
    }


def _check_places(record: BackupRecord, places: Places, request: PgRestoreRequest) -> None:
    server = running_server(places.data)
    if server is not None:
        raise Refused(
            f"a server (process {server.pid}) runs on {places.data}",
            hint="stop it first, or restore somewhere else",
        )
    is_home = places.data == os.path.abspath(record.data_directory)
    is_known = not _is_empty(places.data)
    if is_known:
        _check_existing(record, places, request)
    for oid, place in places.spaces.items():
        if place == places.data or place.startswith(places.data + os.sep):
            raise Refused(f"tablespace {oid} cannot lie inside of the data directory")
        is_meant = request.overwrite and is_known and (is_home or oid in request.spaces)
        if not is_meant and not _is_empty(place):
            raise Refused(
                f"{place}, the place of tablespace {oid}, is not empty",
                hint=f"give it another place: --tablespace {oid}=DIR",
            )


def _check_existing(record: BackupRecord, places: Places, request: PgRestoreRequest) -> None:
    """A target that is not empty: the same cluster, stopped, and meant (Refused)."""
    data = places.data
    if not request.overwrite:
        raise Refused(f"{data} is not empty", hint="choose an empty directory, or say --overwrite")
    has_version = os.path.exists(os.path.join(data, "PG_VERSION"))
    try:
        there = str(read_control(data).system_identifier)
    except (OSError, DamagedData):
        there = ""  # a restore that was interrupted: it has no control file
    if (there or not has_version) and there != record.system_identifier:
        raise Refused(f"{data} is not empty and not the cluster of this backup")
    waiting = _not_archived(data)
    if waiting and not request.discard_wal:
        raise Refused(
            f"{data} has WAL that was never archived, {waiting[0]} first",
            hint="archive it with `wal push --ready`, copy pg_wal away, or say --discard-wal",
        )


def _not_archived(data: str) -> list[str]:
    try:
        names = os.listdir(os.path.join(data, "pg_wal", "archive_status"))
    except OSError:
        return []
    return sorted(name.removesuffix(".ready") for name in names if name.endswith(".ready"))


def _is_empty(path: str) -> bool:
    """Nothing there, or an empty directory (Refused: something else)."""
    try:
        return not os.listdir(path)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        raise Refused(f"{path} is not a directory") from None


def _measure(
    chain: BaseChain, places: Places, request: PgRestoreRequest, progress: Progress
) -> None:
    """Tell how much it will be, and be sure that there is room (NoSpace)."""
    items = size = 0
    by_root = dict.fromkeys(places.roots(), 0)
    for line in chain.lines():
        items += 1
        size += line.size
        if line.form is not Form.DIRECTORY:
            path = os.fsdecode(places.path(line.path))
            root = next((r for r in places.spaces.values() if path.startswith(r)), places.data)
            by_root[root] += line.size
    progress.total(items=items, bytes=size)
    if request.overwrite or request.dry_run:
        return
    needed: dict[int, int] = {}
    free: dict[int, int] = {}
    for root, count in by_root.items():
        above = root
        while not os.path.exists(above):
            above = os.path.dirname(above)
        device, info = os.stat(above).st_dev, os.statvfs(above)
        needed[device] = needed.get(device, _SPARE_BYTES) + count
        free[device] = info.f_bavail * info.f_frsize
    for device, count in needed.items():
        if count > free[device]:
            raise NoSpace(f"{count} bytes are needed and {free[device]} are free for {places.data}")


def _make_roots(places: Places) -> None:
    for root in places.roots():
        with files.explained(f"making {root}"):
            parent = os.path.dirname(root)
            if not os.path.isdir(parent):
                raise NotFound(f"{parent} does not exist")
            if not os.path.isdir(root):
                files.make_directory(root, mode=_PRIVATE, owner=places.owner)
            elif stat.S_IMODE(os.stat(root).st_mode) != _PRIVATE:
                os.chmod(root, _PRIVATE)
            if places.owner is not None:
                shutil.chown(root, *places.owner)
