"""What a cluster can be recovered to, and what stands in the way: the view behind list and check."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, HoldfastError, NotFound
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId
from holdfast.operations.pg_drill import last_drill
from holdfast.operations.pg_problems import Judge
from holdfast.operations.pg_view import BaseSeen, ClusterStatus, History, Problem, Severity
from holdfast.postgres.recoverability import Base, WalSet, reaches, windows
from holdfast.postgres.staged_file import staged_content
from holdfast.postgres.text_files import Ancestor, parse_history
from holdfast.postgres.wal_catalogue import (
    STREAM_NAME,
    WalCatalogue,
    WalEntry,
    wal_group,
)
from holdfast.postgres.wal_names import (
    SEGMENT_BYTES_DEFAULT,
    WalKind,
    is_segment_size,
    parse_lsn,
    parse_wal_name,
)
from holdfast.postgres.wal_stage import WalStage, each_staged

_HISTORY_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest:
    """Which cluster, where its backups are, and the stage if it is on this machine."""

    store: Datastore
    cluster: str
    ns: Namespace
    key: EncryptionKey | None = None
    stage: WalStage | None = None
    cache_path: str | None = None


def look(request: StatusRequest, *, clock: Clock = SYSTEM_CLOCK) -> ClusterStatus:
    """Read what there is; nothing is changed.

    Raises:
        NotFound: the store has neither base backups nor WAL of the cluster.
        HoldfastError: it cannot be listed.
    """
    return _Look(request, clock).run()


class _Look:
    """One look at a cluster."""

    def __init__(self, request: StatusRequest, clock: Clock) -> None:
        self._request = request
        self._store = request.store
        self._clock = clock
        self._problems: list[Problem] = []
        self._identifiers: dict[str, list[str]] = {}
        self._sizes: set[int] = set()

    def run(self) -> ClusterStatus:
        request = self._request
        group = wal_group(request.cluster, request.ns)
        catalogue = WalCatalogue.load(
            self._store, group, key=request.key, cache_path=request.cache_path
        )
        bases = list(self._bases())
        batches = {entry.batch for entry in catalogue}
        if not bases and not batches and not catalogue.unreadable and request.stage is None:
            raise NotFound(
                f"the store has no base backup and no WAL of {request.cluster}",
                hint="`holdfast wal init` and `holdfast pg backup` make some",
            )
        self._read_batches(batches)
        size = self._segment_bytes()
        histories = self._histories(catalogue, size)
        self._assign(bases, histories)
        status = ClusterStatus(request.cluster, size, bases, histories, catalogue)
        for history in histories:
            history.reaches = reaches([one.position for one in history.bases], history.wal)
            history.windows = windows(history.reaches)
        judge = Judge(status, self._problems, self._identifiers)
        judge.history_and_bases()
        judge.chunks(self._store, request.key)
        if request.stage is not None:
            judge.stage(request.stage, self._clock.now_s())
        status.problems = sorted(self._problems, key=lambda one: one.severity)
        return status

    def _say(self, severity: Severity, text: str) -> None:
        self._problems.append(Problem(severity, text))

    # Reading --------------------------------------------------------------------------------------

    def _bases(self) -> Iterator[BaseSeen]:
        group = GroupId(BackupType.HOST, self._request.cluster, self._request.ns)
        if not self._store.exists(group):
            return
        for snapshot in self._store.snapshots(group):
            if not self._store.is_finished(snapshot):
                continue
            try:
                unprotected = self._store.manifest(snapshot).unprotected
                about = unprotected.get("pg")
                if about is None:
                    self._say(Severity.WARNING, f"{snapshot} is no base backup of a cluster")
                    continue
                base = _base_seen(snapshot, about, last_drill(dict(unprotected)))
            except NotFound:
                continue
            except HoldfastError as error:
                self._say(Severity.DAMAGED, f"{snapshot} cannot be used: {error.message}")
                continue
            self._identifiers.setdefault(base.system_identifier, []).append(str(snapshot))
            yield base

    def _read_batches(self, batches: set[SnapshotId]) -> None:
        for batch in sorted(batches, key=lambda one: one.time_s):
            try:
                about: Any = self._store.manifest(batch).unprotected.get("pg")
                identifier, size = str(about["system_identifier"]), int(about["wal_segment_size"])
            except NotFound:
                continue
            except (HoldfastError, TypeError, KeyError, ValueError):
                self._say(Severity.DAMAGED, f"the manifest of {batch} does not say whose WAL it is")
                continue
            self._identifiers.setdefault(identifier, []).append(str(batch))
            if is_segment_size(size):
                self._sizes.add(size)

    def _segment_bytes(self) -> int:
        stage = self._request.stage
        if stage is not None:
            self._sizes.add(stage.settings.segment_bytes)
            self._identifiers.setdefault(str(stage.settings.system_identifier), []).append(
                f"the stage {stage.path}"
            )
        if len(self._sizes) > 1:
            self._say(Severity.DAMAGED, "the archive mixes WAL segments of different sizes")
        return max(self._sizes, default=SEGMENT_BYTES_DEFAULT)

    def _histories(self, catalogue: WalCatalogue, size: int) -> list[History]:
        found: dict[int, History] = {}

        def history(generation: int) -> History:
            return found.setdefault(generation, History(generation, WalSet(size)))

        ancestors: list[tuple[int, int, tuple[Ancestor, ...]]] = []
        for entry in catalogue:
            if entry.name.kind is WalKind.SEGMENT:
                wal = history(entry.generation).wal
                wal.add(entry.name.timeline, entry.name.segment(size), entry.archived_at)
            elif entry.name.kind is WalKind.HISTORY:
                with_reason = self._history_file(entry)
                if with_reason is not None:
                    ancestors.append((entry.generation, entry.name.timeline, with_reason))
        if self._request.stage is not None:
            ancestors += self._add_staged(self._request.stage, history, size)
        for generation, timeline, line in sorted(ancestors, key=lambda one: one[0]):
            for one in found.values():
                if one.generation >= generation:
                    one.wal.ancestors[timeline] = line
        return [found[generation] for generation in sorted(found)]

    def _add_staged(
        self, stage: WalStage, history: "Any", size: int
    ) -> list[tuple[int, int, tuple[Ancestor, ...]]]:
        """Files that are on the stage only, as if the store had them."""
        ancestors = []
        for generation, names in each_staged(stage):
            for text in names:
                name = parse_wal_name(text)
                path = generation.staged_path(text)
                try:
                    written_s = int(os.stat(path).st_mtime)
                    if name.kind is WalKind.SEGMENT:
                        wal = history(generation.time_s).wal
                        wal.add(name.timeline, name.segment(size), written_s)
                    elif name.kind is WalKind.HISTORY:
                        with open(path, "rb") as staged:
                            data = b"".join(staged_content(staged.fileno(), text))
                        line = parse_history(data, text)
                        ancestors.append((generation.time_s, name.timeline, line))
                except FileNotFoundError:  # carried just now
                    continue
                except DamagedData as error:
                    self._say(Severity.DAMAGED, f"on the stage: {error.message}")
        return ancestors

    def _history_file(self, entry: WalEntry) -> tuple[Ancestor, ...] | None:
        try:
            if entry.size > _HISTORY_BYTES_MAX:
                raise DamagedData(entry.name.text, f"{entry.size} bytes are too many")
            key = self._request.key
            with StreamReader.of(self._store, entry.batch, STREAM_NAME, key=key) as reader:
                data = reader.read_at(entry.offset, entry.size)
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise DamagedData(entry.name.text, "its content has another digest")
            return parse_history(data, entry.name.text)
        except HoldfastError as error:
            self._say(
                Severity.DAMAGED,
                f"{entry.name.text} cannot be read: {error.message}; recovery cannot follow to "
                f"timeline {entry.name.timeline}",
            )
            return None

    def _assign(self, bases: list[BaseSeen], histories: list[History]) -> None:
        """Each base belongs to the newest history that began no later than it was taken."""
        for number, base in enumerate(bases):
            taken_s = min(base.snapshot.time_s, base.position.stop_s)  # a combined one is newer
            mine = [one for one in histories if one.generation <= taken_s]
            if not mine:
                continue
            bases[number] = replace(base, generation=mine[-1].generation)
            mine[-1].bases.append(bases[number])
        orphans = [base for base in bases if not base.generation]
        if orphans:
            lone = History(0, WalSet(self._segment_bytes()), orphans)
            histories.insert(0, lone)


def _base_seen(snapshot: SnapshotId, about: Any, drill: dict[str, Any] | None) -> BaseSeen:
    """What a manifest says of a base backup (DamagedData)."""

    def full_name(name: object) -> str:
        """Bases of a group name each other by their times."""
        return str(name) if "/" in str(name) else f"{snapshot.group}/{name}"

    try:
        start, stop = about["start"], about["stop"]
        stop_s = int(datetime.fromisoformat(str(stop["time"])).timestamp())
        return BaseSeen(
            snapshot=snapshot,
            kind=str(about["kind"]),
            parent=None if about["parent"] is None else full_name(about["parent"]),
            chain=tuple(map(full_name, about["chain"])),
            system_identifier=str(about["system_identifier"]),
            position=Base(
                name=str(snapshot),
                timeline=int(start["tli"]),
                start_lsn=parse_lsn(str(start["lsn"])),
                stop_lsn=parse_lsn(str(stop["lsn"])),
                stop_s=stop_s,
                has_wal=bool(about.get("wal_included", False)),
            ),
            generation=0,
            proof=None if drill is None else (str(drill.get("time")), str(drill.get("result"))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, HoldfastError) as error:
        raise DamagedData(f"the manifest of {snapshot}", "it does not describe a base") from error
