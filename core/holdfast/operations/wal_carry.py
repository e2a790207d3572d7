"""Bring WAL files from the stage into the store, a batch at a time; never before a file is safe.

    files of the stage -> one snapshot, finished and flushed -> a marker `carried/NAME -> SHA-256`
    -> (the user's script has run) -> the file leaves the stage
A crash between any two steps leaves a file in both places, which the next run puts right: it is not
stored again when its marker is there, and stored a second time, in the same chunks, when it is not.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from holdfast.chunking.boundaries import FixedCutter
from holdfast.datastore.options import SyncLevel
from holdfast.datastore.session import BackupSession, SessionSettings
from holdfast.datastore.store import Datastore
from holdfast.datastore.stream_writer import StreamWriter
from holdfast.errors import DamagedData, NotFound
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import GroupId, SnapshotId, epoch_to_name
from holdfast.postgres.staged_file import staged_content
from holdfast.postgres.wal_catalogue import INDEX_NAME, STREAM_NAME, WalEntry
from holdfast.postgres.wal_names import WalKind, parse_wal_name
from holdfast.postgres.wal_stage import Generation, WalStage, each_staged
from holdfast.units import MIB

CHUNK_BYTES: Final = 16 * MIB  # the largest a chunk can be: a segment of the default size
BATCH_BYTES_MAX: Final = 4096 * MIB
BATCH_FILES_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What one run brought into the store.

    Attributes:
        batches: the new snapshots.
        segments: how many whole segments.
        file_count: how many files of all kinds.
        staged_bytes: their size on the stage, compressed.
        damaged: sentences about files of the stage that could not be read.
    """

    batches: tuple[SnapshotId, ...] = ()
    segments: int = 0
    file_count: int = 0
    staged_bytes: int = 0
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryTarget:
    """Where WAL goes: an open store, the group, how chunks are made, and whose group it is."""

    store: Datastore
    group: GroupId
    settings: SessionSettings
    owner: str = "root@pam"


@dataclass(slots=True)
class _Batch:
    names: list[str]
    staged_bytes: int = 0


def carry(stage: WalStage, target: CarryTarget, *, clock: Clock = SYSTEM_CLOCK) -> Carried:
    """Store every file of the stage that has no marker yet; each is flushed when this returns.

    Raises:
        HoldfastError: the store or the stage failed; what was finished before stays.
    """
    run = _Run(stage, target, clock)
    for generation, names in each_staged(stage):
        waiting = [name for name in names if generation.carried_digest(name) is None]
        for batch in _batches(generation, waiting):
            run.store(generation, batch)
    return Carried(
        batches=tuple(run.snapshots),
        segments=sum(entry.name.kind is WalKind.SEGMENT for entry in run.entries),
        file_count=len(run.entries),
        staged_bytes=run.staged_bytes,
        damaged=tuple(run.damaged),
    )


def leave_stage(stage: WalStage) -> int:
    """Remove the files that the store has; how many (HoldfastError)."""
    count = 0
    for generation, names in each_staged(stage):
        for name in names:
            if generation.carried_digest(name) is not None:
                with files.explained(f"removing {name} from the stage"):
                    files.unlink(generation.staged_path(name))
                count += 1
    return count


def _batches(generation: Generation, names: list[str]) -> list[_Batch]:
    """The files in order of their names, in bundles that fit into one snapshot."""
    batches: list[_Batch] = []
    for name in names:
        try:
            size = os.stat(generation.staged_path(name)).st_size
        except FileNotFoundError:
            continue
        last = batches[-1] if batches else None
        if (
            last is None
            or len(last.names) >= BATCH_FILES_MAX
            or last.staged_bytes + size > BATCH_BYTES_MAX
        ):
            last = _Batch([])
            batches.append(last)
        last.names.append(name)
        last.staged_bytes += size
    return batches


class _DamagedFile(Exception):
    """A file of the stage cannot be read; it must not hold up the others."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class _Run:
    """The batches of one run and what became of them."""

    def __init__(self, stage: WalStage, target: CarryTarget, clock: Clock) -> None:
        self.snapshots: list[SnapshotId] = []
        self.entries: list[WalEntry] = []
        self.damaged: list[str] = []
        self.staged_bytes = 0
        self._stage = stage
        self._target = target
        self._clock = clock

    def store(self, generation: Generation, batch: _Batch) -> None:
        """One snapshot of a batch, without the files of it that are damaged (HoldfastError)."""
        names = list(batch.names)
        while names:
            try:
                entries = self._snapshot(generation, names)
            except _DamagedFile as error:
                self.damaged.append(error.message)
                names.remove(error.name)
                continue
            _mark_carried(generation, entries)
            self.snapshots.append(entries[0].batch)
            self.entries += entries
            self.staged_bytes += batch.staged_bytes
            return

    def _snapshot(self, generation: Generation, names: list[str]) -> list[WalEntry]:
        """Store the files; they are flushed when this returns (_DamagedFile, HoldfastError)."""
        target = self._target
        snapshot = SnapshotId(target.group, _next_second(target, self._clock))
        entries: list[WalEntry] = []
        with BackupSession.start(
            target.store,
            target.group,
            snapshot.time_s,
            settings=target.settings,
            owner=target.owner,
            clock=self._clock,
        ) as session:
            writer = session.stream(STREAM_NAME, cutter=FixedCutter(CHUNK_BYTES))
            for name in names:
                writer.suggest()
                entries.append(_append(writer, generation, name, snapshot))
            writer.close()
            values = [entry.to_json(self._stage.settings.segment_bytes) for entry in entries]
            session.blob(INDEX_NAME, json.dumps(values).encode())
            session.finish(unprotected={"pg": _summary(self._stage, generation, entries)})
        if target.store.options.sync_level is SyncLevel.NONE:
            with files.explained("flushing the store"):
                files.sync_filesystem(target.store.base)
        return entries


def _append(
    writer: StreamWriter, generation: Generation, name: str, snapshot: SnapshotId
) -> WalEntry:
    offset = writer.position
    hasher = hashlib.sha256()
    with files.explained(f"reading {name} of the stage"):
        fd = files.open_read(generation.staged_path(name))
        try:
            archived_at = int(os.fstat(fd).st_mtime)
            for piece in staged_content(fd, name):
                hasher.update(piece)
                writer.write(piece)
        except DamagedData as error:
            raise _DamagedFile(name, error.message) from error
        finally:
            os.close(fd)
    return WalEntry(
        name=parse_wal_name(name),
        generation=generation.time_s,
        offset=offset,
        size=writer.position - offset,
        sha256=hasher.hexdigest(),
        archived_at=max(archived_at, 0),
        batch=snapshot,
    )


def _summary(stage: WalStage, generation: Generation, entries: list[WalEntry]) -> dict[str, Any]:
    """What lists may know without opening the batch's index."""
    segments = [entry.name.text for entry in entries if entry.name.kind is WalKind.SEGMENT]
    return {
        "kind": "wal",
        "cluster": stage.settings.cluster,
        "system_identifier": str(stage.settings.system_identifier),
        "wal_segment_size": stage.settings.segment_bytes,
        "generation": generation.time_s,
        "tli": sorted({entry.name.timeline for entry in entries}),
        "first": segments[0] if segments else None,
        "last": segments[-1] if segments else None,
        "archived_until": epoch_to_name(max(entry.archived_at for entry in entries)),
    }


def _mark_carried(generation: Generation, entries: list[WalEntry]) -> None:
    with files.explained(f"marking what the store has in {generation.path}"):
        for entry in entries:
            with suppress(FileExistsError):
                os.symlink(entry.sha256, os.path.join(generation.carried_path, entry.name.text))
        files.fsync_directory(generation.carried_path)


def _next_second(target: CarryTarget, clock: Clock) -> int:
    """A time no batch has yet: WAL is carried on even when the clock went back."""
    try:
        newest_s = max((one.time_s for one in target.store.snapshots(target.group)), default=0)
    except NotFound:
        newest_s = 0
    now_s = int(clock.now_s())
    if newest_s == now_s:
        clock.wait(max(now_s + 1 - clock.now_s(), 0))
    return max(now_s, newest_s + 1)
