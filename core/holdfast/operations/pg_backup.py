"""Base backups of a running PostgreSQL cluster: full ones, and differentials relative to another.

The files are read while the server goes on writing (see pg_source.py); replaying the WAL of that
time makes a consistent cluster of what was read. That WAL is stored with them, so a snapshot can be
restored by itself. If anything fails the session ends, which ends the backup in the server, and
nothing of the snapshot stays.

Steps as the manual asks for (Continuous Archiving, Making a Base Backup Using the Low Level API).
"""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

from holdfast.archive.change_detection import ChangeDetection
from holdfast.archive.open import OpenSnapshot
from holdfast.archive.tree_backup import TreeSource, back_up_split
from holdfast.archive.walk import TreeWalk
from holdfast.archive.walk_rules import WalkRules
from holdfast.datastore.session import (
    DEFAULT_SETTINGS,
    BackupSession,
    SessionSettings,
    SessionSummary,
    free_second,
)
from holdfast.datastore.store import Datastore
from holdfast.errors import Refused, TemporaryFailure
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId, name_to_epoch
from holdfast.operations.pg_chain import read_record
from holdfast.operations.pg_native import NativeSource, native_refusal
from holdfast.operations.pg_parent import open_parent
from holdfast.operations.pg_source import (
    LocalSource,
    Sender,
    Source,
    StreamedSource,
    Way,
    remove_scratch,
)
from holdfast.operations.pg_tree import ClusterTrees, Parent
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
from holdfast.postgres.changed_blocks import cluster_refusal, lsn_refusal, parent_refusal
from holdfast.postgres.control_file import ControlFile, read_control_bytes
from holdfast.postgres.data_directory import Found, Kind, Scan
from holdfast.postgres.pages import BadPage
from holdfast.postgres.relation_reader import PageCheck
from holdfast.postgres.server import Row, Server
from holdfast.postgres.wal_names import (
    history_name,
    last_segment_before,
    segment_name,
    segment_of,
)
from holdfast.shown import printable
from holdfast.units import MIB

OLDEST_VERSION: Final = 130_000
_WARNINGS_MAX: Final = 1000
_HISTORY_BYTES_MAX: Final = 1 * MIB
_WAL_WAIT_S: Final = 60
_WAL_STEP_S: Final = 0.2
_TIMELINE_DIGITS: Final = 8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBackupRequest:
    """What to back up, and how.

    Attributes:
        cluster: what it is called; the id of the group.
        connection: libpq connection string or URI; empty for the environment's.
        parent: snapshot that a differential is relative to; None for a full backup.
        by_lsn: decide by page LSN where that is safe.
        fast: have the checkpoint made at once instead of over some minutes.
        include_wal: store the WAL without which the backup is worth nothing; otherwise wait until
            the server has archived it.
        way: read the files where they lie, or have the server send them, into a directory below
            `scratch` first: all of them by STREAM, only the changed blocks by NATIVE.
        scratch: empty for the system's place for temporary files.
    """

    cluster: str
    connection: str = ""
    ns: Namespace = field(default_factory=Namespace)
    parent: SnapshotId | None = None
    by_lsn: bool = False
    fast: bool = True
    include_wal: bool = True
    way: Way = Way.LOCAL
    scratch: str = ""
    settings: SessionSettings = DEFAULT_SETTINGS
    comment: str = ""
    owner: str = "root@pam"

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
        run = _Run(store, request, progress, server=server, facts=facts, clock=clock)
        run.open_parent(stack)
        run.open_source(stack)
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
    if facts["failing_wal"] and not request.include_wal:
        raise Refused(
            f"archiving fails since {facts['failing_wal']}, and the backup needs its WAL",
            hint="see the server's log, or store the WAL with the backup",
        )
    return facts


def _tablespaces(server: Server) -> dict[int, str]:
    """Where tablespaces lie, by OID; those inside of the data directory are part of it."""
    rows = server.rows(_TABLESPACES)
    return {row["oid"]: row["location"] for row in rows if os.path.isabs(row["location"])}


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
        clock: Clock,
    ) -> None:
        self.warnings: list[str] = []
        self._store = store
        self._request = request
        self._progress = progress
        self._server = server
        self._facts = facts
        self._clock = clock
        self._bad_pages: list[dict[str, Any]] = []
        self._source: Source
        self._parent: tuple[BackupRecord, Parent] | None = None

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._progress.warn(message)

    @property
    def _data(self) -> str:
        return self._source.data

    @property
    def _control(self) -> ControlFile:
        return self._source.control

    def open_parent(self, stack: ExitStack) -> None:
        """Open the backup to be relative to; it and what it builds on stay until the end."""
        store, parent = self._store, self._request.parent
        if parent is None:
            return
        stack.enter_context(store.locks.snapshot(parent, LockMode.SHARED))
        opened = stack.enter_context(
            OpenSnapshot(store, parent, self._request.settings.content_key)
        )
        record = read_record(opened)
        for name in record.chain:
            below = SnapshotId(parent.group, name_to_epoch(name))
            stack.enter_context(store.locks.snapshot(below, LockMode.SHARED))
        self._refuse_parent(
            cluster_refusal(record, self._facts["system_identifier"], self._facts["version"])
        )
        self._parent = record, open_parent(opened, since_lsn=None)

    def _refuse_parent(self, refusal: str | None) -> None:
        if refusal is not None:
            raise Refused(f"{self._request.parent} cannot be the parent: {refusal}")

    def open_source(self, stack: ExitStack) -> None:
        """Find out where the files come from (Refused, NotFound, HoldfastError)."""
        request, server = self._request, self._server
        if request.way is Way.NATIVE:
            before = None if self._parent is None else self._parent[0]
            refusal = native_refusal(self._facts, server, before)
            if refusal is not None:
                raise Refused(refusal)
        if request.way is Way.LOCAL:
            self._source = LocalSource(
                server,
                self._facts,
                fast=request.fast,
                holds_wal=request.include_wal,
                warn=self.warn,
            )
            return
        with files.explained("making a scratch directory"):
            scratch = tempfile.mkdtemp(prefix="holdfast-stream-", dir=request.scratch or None)
        stack.callback(remove_scratch, scratch)
        sender = Sender(
            server=server,
            facts=self._facts,
            connection=request.connection,
            scratch=scratch,
            spaces=_tablespaces(server),
            fast=request.fast,
        )
        if request.way is Way.NATIVE:
            self._source = NativeSource(
                sender,
                parent=self._parent,
                warn=self.warn,
                on_file=self._progress.item,
            )
        else:
            self._source = StreamedSource(sender)

    def back_up(self, session: BackupSession, stack: ExitStack) -> BackupRecord:
        """Everything but the manifest."""
        request, server = self._request, self._server
        self._progress.phase("checkpoint" if request.way is Way.LOCAL else "stream")
        start = self._source.begin(f"holdfast {request.cluster}")
        record = self._first_record(start)
        trees = ClusterTrees(
            session,
            self._progress,
            self.warnings,
            check=self._page_check(start),
            ahead=stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="read")),
        )
        if request.parent is not None and self._parent is not None:
            before, parent = self._parent
            self._refuse_parent(parent_refusal(before, record))
            chain = (*before.chain, request.parent.time_name)
            record = replace(record, parent=request.parent.time_name, chain=chain)
            record = self._choose_decision(before, record)
            since = before.start.lsn if record.decision is Decision.LSN else None
            trees.parent = replace(parent, since_lsn=since)
        self._trees(trees, record)
        self._progress.phase("stop")
        session.blob(CONTROL_BLOB, read_control_bytes(self._data))
        stop, label, spaces = self._source.end(start)
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
        if not request.include_wal:
            self._wait_for_archive(last)
        config = self._config_directory()
        if config:
            self._store_config(session, config)
        record = replace(record, counters=trees.counters.as_dict(), warnings=tuple(self._bad_pages))
        session.blob(RECORD_BLOB, record.encode())
        server.close()
        return record

    def _first_record(self, start: Position) -> BackupRecord:
        """What is known before anything is read."""
        facts, control, request = self._facts, self._control, self._request
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
            start=start,
            stop=start,
            parent=None,
            chain=(),
            label=b"",
            tablespace_map=b"",
            tablespaces=tuple(
                Tablespace(oid=oid, location=location, archive=f"tblspc-{oid}")
                for oid, location in _tablespaces(self._server).items()
            ),
            method=self._source.method,
            data_directory=facts["data_directory"],
            config_files=tuple(facts[name] for name in ("config_file", "hba_file", "ident_file")),
            wal_first="",
            wal_last="",
            has_wal=request.include_wal,
        )

    def _choose_decision(self, before: BackupRecord, record: BackupRecord) -> BackupRecord:
        if self._request.way is Way.NATIVE:
            return replace(record, decision=Decision.SUMMARY)
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
            is_native=self._request.way is Way.NATIVE,
            warn=self.warn,
        )
        with files.explained(f"reading {self._data}"):
            trees.archive(DATA_STEM, self._data, scan)
        version = f"PG_{record.major}_{record.catalog_version}".encode()
        for space in record.tablespaces:
            self._progress.phase(space.archive)
            place = self._source.place(space.oid, space.location)
            scan = Scan(
                place,
                prefix=b"pg_tblspc/%d" % space.oid,
                only=frozenset({version}),
                is_delta=is_delta,
                is_native=self._request.way is Way.NATIVE,
                warn=self.warn,
            )
            with files.explained(f"reading tablespace {place}"):
                trees.archive(space.archive, place, scan)

    def _config_directory(self) -> str:
        """Where the configuration lies, when that is not the data directory, and here."""
        if self._request.way is not Way.LOCAL:
            return ""
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

    def _wait_for_archive(self, name: str) -> None:
        """Wait until the server has archived a segment, which is nowhere else."""
        deadline = self._clock.monotonic_s() + _WAL_WAIT_S
        while not self._is_archived(name):
            if self._clock.monotonic_s() > deadline:
                self.warn(f"WAL {name} is not archived yet; without it this backup is worthless")
                return
            self._clock.wait(_WAL_STEP_S)

    def _is_archived(self, name: str) -> bool:
        last = self._server.row("SELECT last_archived_wal AS name FROM pg_stat_archiver")["name"]
        # names of one timeline ascend; `.backup` files carry the name of their first segment
        return bool(last) and last[:_TIMELINE_DIGITS] == name[:_TIMELINE_DIGITS] and last >= name


def _never(_path: bytes, _size: int) -> bool:
    return False
