"""Base backups of a running PostgreSQL cluster: full ones, and differentials relative to another.

The files are read where they lie, between pg_backup_start and pg_backup_stop of one session: the
server goes on writing, and replaying the WAL of that time makes a consistent cluster of what was
read. That WAL is stored with them, so a snapshot can be restored by itself. If anything fails the
session ends, which ends the backup in the server, and nothing of the snapshot stays.

Steps as the manual asks for (Continuous Archiving, Making a Base Backup Using the Low Level API).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

from holdfast.archive.change_detection import ChangeDetection
from holdfast.archive.open import OpenSnapshot
from holdfast.archive.tree_backup import TreeSource, back_up_split
from holdfast.archive.walk import TreeWalk, WalkRules
from holdfast.datastore.session import (
    DEFAULT_SETTINGS,
    BackupSession,
    SessionSettings,
    SessionSummary,
    free_second,
)
from holdfast.datastore.store import Datastore
from holdfast.errors import NotFound, Refused, TemporaryFailure
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId
from holdfast.operations.pg_chain import read_record
from holdfast.operations.pg_parent import open_parent
from holdfast.operations.pg_tree import ClusterTrees
from holdfast.operations.progress import NewBytesProgress, Progress
from holdfast.postgres.backup_record import (
    CONTROL_BLOB,
    RECORD_BLOB,
    UNPROTECTED_KEY,
    BackupRecord,
    BaseKind,
    Decision,
    Position,
    Tablespace,
)
from holdfast.postgres.changed_blocks import lsn_refusal, parent_refusal
from holdfast.postgres.control_file import ControlFile, read_control, read_control_bytes
from holdfast.postgres.data_directory import Found, Kind, Scan
from holdfast.postgres.pages import PAGE_BYTES, BadPage
from holdfast.postgres.relation_reader import PageCheck
from holdfast.postgres.server import QueryFailed, Row, Server, literal
from holdfast.postgres.wal_names import (
    history_name,
    last_segment_before,
    parse_lsn,
    segment_name,
    segment_of,
)
from holdfast.shown import printable
from holdfast.units import MIB

OLDEST_VERSION: Final = 130_000
_NEW_NAMES: Final = 150_000  # pg_backup_start was pg_start_backup before
_WARNINGS_MAX: Final = 1000
_HISTORY_BYTES_MAX: Final = 1 * MIB
_WAL_WAIT_S: Final = 60
_WAL_STEP_S: Final = 0.2
DATA_STEM: Final = "base"
WAL_STEM: Final = "wal"
CONFIG_STEM: Final = "conf"

_FACTS: Final = """
SELECT current_setting('server_version_num')::int AS version,
       current_setting('data_directory') AS data_directory,
       current_setting('config_file') AS config_file,
       current_setting('hba_file') AS hba_file,
       current_setting('ident_file') AS ident_file,
       current_setting('log_directory') AS log_directory,
       current_setting('logging_collector')::bool AS logs,
       current_setting('wal_level') AS wal_level,
       current_setting('archive_mode') AS archive_mode,
       current_setting('wal_log_hints')::bool AS wal_log_hints,
       pg_is_in_recovery() AS in_recovery,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       (SELECT last_failed_wal FROM pg_stat_archiver
         WHERE last_failed_time > coalesce(last_archived_time, '-infinity')) AS failing_wal
"""
_TABLESPACES: Final = """
SELECT oid::bigint AS oid, pg_tablespace_location(oid) AS location FROM pg_tablespace
 WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid
"""
_NOW: Final = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBackupRequest:
    """What to back up, and how.

    Attributes:
        cluster: what it is called; the id of the group.
        connection: libpq connection string or URI; empty for the environment's.
        parent: snapshot that a differential is relative to; None for a full backup.
        by_lsn: decide by page LSN where that is safe.
        fast: have the checkpoint made at once instead of over some minutes.
        include_wal: store the WAL without which the backup is worth nothing.
        force: go on although the server's archiving fails.
        wait_for_wal: asked until it says that the archive has a segment, when WAL is not stored
            here; None not to wait.
    """

    cluster: str
    connection: str = ""
    ns: Namespace = field(default_factory=Namespace)
    parent: SnapshotId | None = None
    by_lsn: bool = False
    fast: bool = True
    include_wal: bool = True
    force: bool = False
    settings: SessionSettings = DEFAULT_SETTINGS
    comment: str = ""
    owner: str = "root@pam"
    wait_for_wal: Callable[[str], bool] | None = None

    @property
    def group(self) -> GroupId:
        return GroupId(BackupType.HOST, self.cluster, self.ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBackupOutcome:
    """A finished base backup."""

    summary: SessionSummary
    record: BackupRecord
    duration_s: float
    warnings: tuple[str, ...]


def back_up_cluster(
    store: Datastore, request: PgBackupRequest, progress: Progress, *, clock: Clock = SYSTEM_CLOCK
) -> PgBackupOutcome:
    """Take one base backup; it is there completely or not at all.

    Raises:
        TemporaryFailure: the server does not answer, or ended meanwhile.
        Refused: not this host's server, a standby, a parent of another cluster, failing archiving.
        NotFound: no psql, no data directory, no such parent.
        Busy: the cluster is being backed up already.
        HoldfastError: a file cannot be read, or the store's disk failed.
    """
    began_s = clock.monotonic_s()
    with ExitStack() as stack:
        server = stack.enter_context(Server(request.connection))
        facts = _facts(server, request)
        control = _control(facts)
        run = _Run(
            store, request, progress, server=server, facts=facts, control=control, clock=clock
        )
        session = stack.enter_context(
            BackupSession.start(
                store,
                request.group,
                free_second(store, request.group, clock),
                settings=request.settings,
                owner=request.owner,
                clock=clock,
            )
        )
        if isinstance(progress, NewBytesProgress):
            progress.watch_new_bytes(lambda: session.stats.size)
        if session.base_dropped_reason is not None:
            run.warn(session.base_dropped_reason)
        record = run.back_up(session, stack)
        progress.phase("finish")
        summary = session.finish(
            notes=request.comment, unprotected={UNPROTECTED_KEY: record.summary()}
        )
    return PgBackupOutcome(
        summary=summary,
        record=record,
        duration_s=clock.monotonic_s() - began_s,
        warnings=(*run.warnings, *summary.warnings),
    )


def _facts(server: Server, request: PgBackupRequest) -> Row:
    """What the server says of itself, when nothing speaks against a backup (Refused)."""
    facts = server.row(_FACTS)
    version = facts["version"]
    if version < OLDEST_VERSION:
        raise Refused(f"PostgreSQL {version // 10_000} is too old: 13 is the oldest supported")
    if facts["in_recovery"]:
        raise Refused("this server is a standby; base backups are taken from the primary")
    if facts["wal_level"] == "minimal":
        raise Refused("wal_level is minimal, with which no backup can be made whole")
    if facts["failing_wal"] and not request.force and not request.include_wal:
        raise Refused(
            f"archiving fails since {facts['failing_wal']}, and the backup needs its WAL",
            hint="see the server's log, or store the WAL with the backup",
        )
    return facts


def _control(facts: Row) -> ControlFile:
    """The control file, which proves that the directory is the server's (Refused, NotFound)."""
    directory = facts["data_directory"]
    try:
        control = read_control(directory)
    except FileNotFoundError:
        raise NotFound(
            f"{printable(os.fsencode(directory))} is not on this machine",
            hint="back up a cluster on the host it runs on",
        ) from None
    except OSError as error:
        raise files.as_holdfast_error(error, f"reading the control file of {directory}") from error
    if str(control.system_identifier) != facts["system_identifier"]:
        raise Refused(
            f"{directory} on this machine is of another cluster than the server that answers",
            hint="back up a cluster on the host it runs on",
        )
    if control.block_bytes != PAGE_BYTES:
        raise Refused(f"this server has pages of {control.block_bytes} bytes; only 8192 are known")
    return control


class _Run:
    """One base backup on its way."""

    def __init__(
        self,
        store: Datastore,
        request: PgBackupRequest,
        progress: Progress,
        *,
        server: Server,
        facts: Row,
        control: ControlFile,
        clock: Clock,
    ) -> None:
        self.warnings: list[str] = []
        self._store = store
        self._request = request
        self._progress = progress
        self._server = server
        self._facts = facts
        self._control = control
        self._clock = clock
        self._bad_pages: list[dict[str, Any]] = []
        self._data = facts["data_directory"]

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._progress.warn(message)

    def back_up(self, session: BackupSession, stack: ExitStack) -> BackupRecord:
        """Everything but the manifest."""
        request, server = self._request, self._server
        record = self._first_record()
        parent_snapshot: OpenSnapshot | None = None
        chain: tuple[str, ...] = ()
        if request.parent is not None:
            parent_snapshot = stack.enter_context(
                OpenSnapshot(self._store, request.parent, request.settings.content_key)
            )
            before = read_record(parent_snapshot)
            refusal = parent_refusal(before, record)
            if refusal is not None:
                raise Refused(f"{request.parent} cannot be the parent: {refusal}")
            chain = (*before.chain, request.parent.time_name)
            record = replace(record, parent=request.parent.time_name, chain=chain)
        if request.include_wal:
            self._hold_wal()
        self._progress.phase("checkpoint")
        start = self._begin_in_server(record)
        record = replace(record, start=start, tablespaces=self._tablespaces())
        trees = ClusterTrees(
            session,
            self._progress,
            self.warnings,
            check=self._page_check(start),
            ahead=stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="read")),
        )
        if parent_snapshot is not None:
            record = self._choose_decision(read_record(parent_snapshot), record)
            since = None
            if record.decision is Decision.LSN:
                since = read_record(parent_snapshot).start.lsn
            trees.parent = open_parent(parent_snapshot, since_lsn=since)
        self._trees(trees, record)
        self._progress.phase("stop")
        session.blob(CONTROL_BLOB, read_control_bytes(self._data))
        stop, label, spaces = self._end_in_server(start)
        first, last = self._wal_range(start, stop)
        record = replace(
            record,
            stop=stop,
            label=label,
            tablespace_map=spaces,
            wal_first=first,
            wal_last=last,
            timeline_history=self._history(start.timeline),
        )
        if request.include_wal:
            self._store_wal(trees, record)
        trees.close()
        if not request.include_wal and request.wait_for_wal is not None:
            self._wait_for_archive(request.wait_for_wal, last)
        config = self._config_directory()
        if config:
            self._store_config(session, config)
        record = replace(record, counters=trees.counters.as_dict(), warnings=tuple(self._bad_pages))
        session.blob(RECORD_BLOB, record.encode())
        server.close()
        return record

    # Beginning and end in the server --------------------------------------------------------------

    def _first_record(self) -> BackupRecord:
        """What is known before anything is read."""
        facts, control, request = self._facts, self._control, self._request
        nowhere = Position(lsn=0, timeline=control.timeline, time="")
        return BackupRecord(
            kind=BaseKind.FULL if request.parent is None else BaseKind.DIFFERENTIAL,
            cluster=request.cluster,
            system_identifier=facts["system_identifier"],
            server_version=facts["version"],
            catalog_version=control.catalog_version,
            control_version=control.control_version,
            block_bytes=control.block_bytes,
            segment_blocks=control.segment_blocks,
            wal_segment_bytes=control.wal_segment_bytes,
            has_checksums=control.has_checksums,
            has_wal_log_hints=facts["wal_log_hints"],
            decision=Decision.DIGEST,
            start=nowhere,
            stop=nowhere,
            parent=None,
            chain=(),
            label=b"",
            tablespace_map=b"",
            tablespaces=(),
            data_directory=self._data,
            config_files=tuple(facts[name] for name in ("config_file", "hba_file", "ident_file")),
            wal_first="",
            wal_last="",
            has_wal=request.include_wal,
        )

    def _hold_wal(self) -> None:
        """Keep the server from recycling WAL that is still to be read."""
        name = literal(f"holdfast_{os.getpid()}")
        try:
            self._server.row(f"SELECT pg_create_physical_replication_slot({name}, true, true)")
        except QueryFailed as error:
            self.warn(
                f"no temporary replication slot, so WAL may be gone before it is stored: {error}"
            )

    def _begin_in_server(self, record: BackupRecord) -> Position:
        label = literal(f"holdfast {record.cluster}")
        fast = "true" if self._request.fast else "false"
        if self._facts["version"] >= _NEW_NAMES:
            call = f"pg_backup_start({label}, {fast})"
        else:
            call = f"pg_start_backup({label}, {fast}, false)"
        row = self._server.row(f"SELECT {call}::text AS lsn, {_NOW} AS time")
        timeline = read_control(self._data).timeline
        return Position(lsn=parse_lsn(row["lsn"]), timeline=timeline, time=row["time"])

    def _end_in_server(self, start: Position) -> tuple[Position, bytes, bytes]:
        """Position of the end, and the bytes of label and tablespace map.

        The server is not asked to wait for archiving: a wait that is broken off loses the label.
        """
        if self._facts["version"] >= _NEW_NAMES:
            call = "pg_backup_stop(false)"
        else:
            call = "pg_stop_backup(false, false)"
        columns = f"lsn::text, labelfile, coalesce(spcmapfile, '') AS spcmapfile, {_NOW} AS time"
        row = self._server.row(f"SELECT {columns} FROM {call}")  # noqa: S608  # words of ours
        stop = Position(lsn=parse_lsn(row["lsn"]), timeline=start.timeline, time=row["time"])
        label = row["labelfile"].encode("utf-8", "surrogateescape")
        if f"START TIMELINE: {start.timeline}\n".encode() not in label:
            raise TemporaryFailure("the timeline changed while the backup was taken; take it again")
        return stop, label, row["spcmapfile"].encode("utf-8", "surrogateescape")

    def _choose_decision(self, before: BackupRecord, record: BackupRecord) -> BackupRecord:
        if not self._request.by_lsn:
            return record
        refusal = lsn_refusal(before, record)
        if refusal is None:
            return replace(record, decision=Decision.LSN)
        self.warn(f"blocks are compared by digest, because {refusal}")
        return record

    def _page_check(self, start: Position) -> PageCheck | None:
        if not self._control.has_checksums:
            return None
        return PageCheck(
            before_lsn=start.lsn,
            segment_blocks=self._control.segment_blocks,
            report=self._report_page,
        )

    def _report_page(self, path: bytes, bad: BadPage) -> None:
        self.warn(f"{printable(path)}: block {bad.block} is damaged: its checksum is wrong")
        if len(self._bad_pages) < _WARNINGS_MAX:
            self._bad_pages.append(
                {
                    "path": os.fsdecode(path),
                    "block": bad.block,
                    "stored": bad.stored,
                    "computed": bad.computed,
                }
            )

    # Files ----------------------------------------------------------------------------------------

    def _tablespaces(self) -> tuple[Tablespace, ...]:
        return tuple(
            Tablespace(
                oid=row["oid"],
                location=row["location"],
                archive=f"tblspc-{row['oid']}",
            )
            for row in self._server.rows(_TABLESPACES)
            if os.path.isabs(row["location"])  # the others lie inside of the data directory
        )

    def _trees(self, trees: ClusterTrees, record: BackupRecord) -> None:
        self._progress.phase(DATA_STEM)
        is_delta = trees.parent.is_delta if trees.parent is not None else _never
        skipped: set[bytes] = set()
        if self._facts["logs"]:
            skipped.add(os.fsencode(self._facts["log_directory"]).strip(b"/"))
        scan = Scan(
            self._data,
            is_delta=is_delta,
            skipped_directories=frozenset(skipped),
            warn=self.warn,
        )
        with files.explained(f"reading {self._data}"):
            trees.archive(DATA_STEM, self._data, scan)
        version = f"PG_{record.major}_{record.catalog_version}".encode()
        for space in record.tablespaces:
            self._progress.phase(space.archive)
            scan = Scan(
                space.location,
                prefix=b"pg_tblspc/%d" % space.oid,
                only=frozenset({version}),
                is_delta=is_delta,
                warn=self.warn,
            )
            with files.explained(f"reading tablespace {space.location}"):
                trees.archive(space.archive, space.location, scan)

    def _config_directory(self) -> str:
        """Where the configuration lies, when that is not the data directory."""
        directory: str = os.path.dirname(self._facts["config_file"] or "")
        is_inside = os.path.commonpath([directory or "/", self._data]) == self._data
        return "" if is_inside else directory

    def _store_config(self, session: BackupSession, directory: str) -> None:
        self._progress.phase(CONFIG_STEM)
        rules = WalkRules()
        root = os.fsencode(directory)
        source = TreeSource(
            name=f"{CONFIG_STEM}.pxar",
            root=root,
            events=TreeWalk(root, rules).batches(),
            rules=rules,
        )
        back_up_split(session, source, ChangeDetection.DATA, self._progress, self.warnings)

    # WAL ------------------------------------------------------------------------------------------

    def _wal_range(self, start: Position, stop: Position) -> tuple[str, str]:
        size = self._control.wal_segment_bytes
        first, last = segment_of(start.lsn, size), last_segment_before(stop.lsn, size)
        return (
            segment_name(start.timeline, first, size),
            segment_name(start.timeline, last, size),
        )

    def _history(self, timeline: int) -> str | None:
        if timeline == 1:
            return None
        path = os.path.join(self._data, "pg_wal", history_name(timeline))
        try:
            return files.read_file(path, size_max=_HISTORY_BYTES_MAX).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.warn(f"the history of timeline {timeline} cannot be read: {error}")
            return None

    def _store_wal(self, trees: ClusterTrees, record: BackupRecord) -> None:
        """The segments from start to stop, and the history of their timeline, as `wal.pxar`."""
        self._progress.phase(WAL_STEM)
        size = record.wal_segment_bytes
        first = segment_of(record.start.lsn, size)
        last = last_segment_before(record.stop.lsn, size)
        directory = os.path.join(self._data, "pg_wal")
        names = [
            segment_name(record.start.timeline, number, size) for number in range(first, last + 1)
        ]
        if record.timeline_history is not None:
            names.insert(0, history_name(record.start.timeline))
        root = os.stat(directory)
        found = [Found(Kind.BEGIN, b"pg_wal", b"", root)]
        for name in sorted(names):
            path = os.path.join(directory, name)
            try:
                info = os.stat(path)
            except FileNotFoundError:
                raise TemporaryFailure(
                    f"WAL {name}, which the backup needs, was recycled before it could be stored",
                    hint="set wal_keep_size, or let the role create replication slots",
                ) from None
            raw = name.encode()
            found.append(Found(Kind.FILE, b"pg_wal/" + raw, raw, info))
        found.append(Found(Kind.END, b"pg_wal", b"", None))
        trees.archive(WAL_STEM, directory, found, is_listed=False)

    def _wait_for_archive(self, has_segment: Callable[[str], bool], name: str) -> None:
        deadline = self._clock.monotonic_s() + _WAL_WAIT_S
        while not has_segment(name):
            if self._clock.monotonic_s() > deadline:
                self.warn(f"WAL {name} is not archived yet; without it this backup is worthless")
                return
            self._clock.wait(_WAL_STEP_S)


def _never(_path: bytes, _size: int) -> bool:
    return False
