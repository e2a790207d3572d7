"""The reading side: stores, snapshots, tasks and jobs, never written to.

Stores are opened READ_ONLY, so even a mistake here cannot write: no lock file, no access time.
Every method reads files and is called from threads only, never from the event loop.
"""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from holdfast.config.settings import Settings
from holdfast.config.stores import StoreSettings
from holdfast.datastore.gc_status import read_status
from holdfast.datastore.manifest import MANIFEST_NAME
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import BadRequest, HoldfastError, NotFound
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import GroupId, SnapshotId
from holdfast.jobs import job_state
from holdfast.jobs.journal import Journal
from holdfast.upid import Upid
from holdfast_tui.model.jobs import Job, JobBoard
from holdfast_tui.model.snapshots import Catalogue, SnapshotRow, VerifyCounts
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import TaskBoard
from holdfast_tui.options import Options

TASKS_SHOWN = 2000
UPCOMING_SHOWN = 8
_BATCH = 500
Room = Callable[[str], os.statvfs_result]


class Reader:
    """Everything the screens read. Safe to call from several threads.

    Attributes:
        options: of this run.
        clock: what the screens take for now.
        room: how large a file system is, and how full.
        keys: files with the keys of encrypted snapshots that somebody named in this run, by store,
            and their passphrases; empty for none.
        journal: for reading tasks and logs.
    """

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock = SYSTEM_CLOCK,
        room: Room = os.statvfs,
    ) -> None:
        self.options = options
        self.clock = clock
        self.room = room
        self.keys: dict[str, tuple[str, bytes]] = {}
        self.journal = Journal(options.state_dir)
        self._lock = threading.Lock()
        self._stores: dict[str, Datastore] = {}
        self._catalogues: dict[str, dict[SnapshotId, tuple[tuple[int, ...], SnapshotRow]]] = {}

    # Configuration --------------------------------------------------------------------------------

    def settings(self) -> Settings:
        """The configuration as it is now (BadRequest with file and line)."""
        return Settings.read(self.options.config)

    def store_settings(self) -> list[StoreSettings]:
        """The stores of this run: the one that was named, or all configured ones (HoldfastError)."""
        settings = self.settings()
        if self.options.store is not None:
            return [settings.store(self.options.store)]
        if settings.stores:
            return list(settings.stores.values())
        try:
            return [settings.store(None)]
        except BadRequest:
            return []

    def store_word(self, name: str) -> str:
        """What --store wants for the store called `name`: its name, or its path (HoldfastError)."""
        if name in self.settings().stores:
            return name
        return self.settings_of(name).path

    def settings_of(self, name: str) -> StoreSettings:
        """One of this run's stores (NotFound)."""
        for settings in self.store_settings():
            if settings.name == name:
                return settings
        raise NotFound(f"no store called {name!r}", hint=f"see {self.options.config}")

    def open(self, name: str) -> Datastore:
        """The store, READ_ONLY (NotFound, HoldfastError)."""
        settings = self.settings_of(name)
        with self._lock:
            store = self._stores.get(name)
            if store is None or store.base != os.path.realpath(settings.path):
                store = Datastore.open(
                    settings.path, Access.READ_ONLY, name=name, options=settings.options
                )
                self._stores[name] = store
            return store

    def first_facts(self) -> list[StoreFacts]:
        """What is known of the stores before their snapshots are read; empty when nothing is."""
        try:
            return [self.store_facts(settings) for settings in self.store_settings()]
        except HoldfastError:
            return []  # whoever reads next says why

    def key_path(self, store: str) -> str:
        """The key file for a store's snapshots; empty for none (HoldfastError)."""
        if store in self.keys:
            return self.keys[store][0]
        return self.options.keyfile or self.settings_of(store).keyfile or ""

    # Stores ---------------------------------------------------------------------------------------

    def store_facts(self, settings: StoreSettings) -> StoreFacts:
        """What is known without reading its snapshots; an unusable store says why."""
        facts = StoreFacts(
            name=settings.name,
            path=settings.path,
            comment=settings.comment,
            refusal=self._refusal(settings),
            read_at=self.clock.now_s(),
        )
        try:
            store = self.open(settings.name)
            room = self.room(store.base)
        except HoldfastError as error:
            return replace(facts, error=str(error), hint=error.hint or "")
        except OSError as error:
            return replace(facts, error=f"{settings.path}: {error.strerror}")
        facts = replace(
            facts, total=room.f_blocks * room.f_frsize, free=room.f_bavail * room.f_frsize
        )
        status = read_status(store.base)
        if status is None:
            return facts
        return replace(
            facts,
            stored=status.disk_bytes,
            logical=status.index_data_bytes,
            chunks=status.disk_chunks,
            pending=status.pending_bytes,
            removed=status.removed_bytes,
            bad_chunks=status.still_bad,
            last_gc=_start_of(status.upid),
            last_gc_upid=status.upid or "",
        )

    def _refusal(self, settings: StoreSettings) -> str:
        if self.options.read_only:
            return self.options.read_only
        if settings.is_read_only:
            return f"{settings.name} is configured as read-only"
        if not os.access(os.path.join(settings.path, ".chunks"), os.W_OK | os.X_OK):
            return f"you may not write to {settings.path}"
        return ""

    def with_counts(self, facts: StoreFacts, catalogue: Catalogue) -> StoreFacts:
        """The same with what its snapshots add up to."""
        counts = VerifyCounts.of(catalogue.rows, self.clock.now_s())
        return replace(
            facts,
            snapshots=catalogue.count,
            groups=len(catalogue.groups),
            failed=counts.failed,
            old=counts.old,
            never=counts.never,
            unfinished=counts.unfinished,
            damaged=counts.damaged,
            last_verify=counts.last_verify,
            last_backup=counts.last_backup,
        )

    # Snapshots ------------------------------------------------------------------------------------

    def catalogue(self, name: str) -> Catalogue:
        """All snapshots of a store (HoldfastError)."""
        *_parts, whole = self.catalogue_parts(name)
        return whole

    def catalogue_parts(self, name: str) -> Iterator[Catalogue]:
        """The same in growing parts, so that the first ones can be shown early (HoldfastError).

        Manifests that have not changed since the last time are not read again.
        """
        from holdfast.operations.snapshots import summarise

        store = self.open(name)
        names: dict[GroupId, list[SnapshotId]] = {}
        for ns in store.namespaces():
            for group in store.groups(ns):
                try:
                    names[group] = list(reversed(store.snapshots(group)))
                except NotFound:
                    continue
        total = sum(map(len, names.values()))
        known = self._catalogues.get(name, {})
        found: dict[SnapshotId, tuple[tuple[int, ...], SnapshotRow]] = {}
        groups: dict[GroupId, tuple[SnapshotRow, ...]] = {}
        fresh = 0
        for group, snapshots in names.items():
            rows = []
            for snapshot in snapshots:
                signature = _signature(store, snapshot)
                before = known.get(snapshot)
                if before is not None and before[0] == signature:
                    row = before[1]
                else:
                    try:
                        row = SnapshotRow(summarise(store, snapshot))
                    except NotFound:  # removed meanwhile
                        continue
                    fresh += 1
                found[snapshot] = (signature, row)
                rows.append(row)
            if rows:
                groups[group] = tuple(rows)
            if fresh >= _BATCH:
                fresh = 0
                yield Catalogue(name, dict(groups), is_complete=False, done=len(found), total=total)
        with self._lock:
            self._catalogues[name] = found
        yield Catalogue(name, groups, done=len(found), total=total)

    # Tasks and jobs -------------------------------------------------------------------------------

    def tasks(self) -> TaskBoard:
        """The journal as it is now; what cannot be read is said in the board."""
        now_s = self.clock.now_s()
        try:
            return TaskBoard.of(self.journal.tasks(limit=TASKS_SHOWN), now_s)
        except (OSError, HoldfastError) as error:
            return TaskBoard(read_at=now_s, error=_sentence(error))

    def jobs(self) -> JobBoard:
        """The configured jobs; a mistake in the configuration is said in the board."""
        from holdfast.jobs.schedule import next_run_s
        from holdfast.operations.job_plan import overdue, plan_of

        now_s = self.clock.now_s()
        try:
            settings = self.settings()
        except HoldfastError as error:
            return JobBoard(read_at=now_s, error=str(error), hint=error.hint or "")
        jobs = []
        for job in settings.jobs.values():
            state = job_state.read(self.options.state_dir, job.name)
            if not state.created and not state.started:  # no scheduler has looked at it yet
                state = replace(state, created=int(now_s))
            plan = plan_of(job)
            upcoming: tuple[int, ...] = ()
            late: list[str] = []
            if job.enabled:
                first = next_run_s(plan, state, now_s)
                later = islice(_times(plan.events, max(now_s, first or 0)), UPCOMING_SHOWN)
                upcoming = tuple(([first] if first is not None else []) + list(later))
                late = [_short(finding.message) for finding in overdue(job, state, now_s)]
            owed, running = _flags(self.options.state_dir, job.name)
            jobs.append(
                Job(
                    settings=job,
                    state=state,
                    upcoming=upcoming,
                    is_running=running,
                    is_owed=owed,
                    late=tuple(late),
                )
            )
        return JobBoard(tuple(jobs), now_s, by_name={job.name: job for job in jobs})


def _short(finding: str) -> str:
    """Without the job's name in front, which stands beside it."""
    return finding.partition(": ")[2] or finding


def _times(events: tuple[object, ...], after_s: float) -> Iterator[int]:
    """Further moments of a schedule, in order, after `after_s`."""
    from holdfast.jobs.calendar import CalendarEvent

    moment: float = after_s
    while True:
        upcoming = [
            found
            for event in events
            if isinstance(event, CalendarEvent) and (found := event.next_after(moment)) is not None
        ]
        if not upcoming:
            return
        moment = min(upcoming)
        yield int(moment)


def _flags(state_directory: str, name: str) -> tuple[bool, bool]:
    from holdfast.jobs.request_flags import RequestFlags

    try:
        with RequestFlags.open_to_watch(job_state.flags_path(state_directory, name)) as flags:
            return flags.flags().owed != 0, flags.is_worker_alive()
    except OSError:
        return False, False


def _signature(store: Datastore, snapshot: SnapshotId) -> tuple[int, ...]:
    """Changes whenever a list would show something else."""
    path = store.path_of(snapshot)
    try:
        directory = os.stat(path)
    except OSError:
        return ()
    try:
        manifest = os.stat(os.path.join(path, MANIFEST_NAME))
    except OSError:
        return (directory.st_mtime_ns,)
    return (directory.st_mtime_ns, manifest.st_mtime_ns, manifest.st_size, manifest.st_ino)


def _start_of(upid: str | None) -> int | None:
    try:
        return None if upid is None else Upid.parse(upid).start_s
    except BadRequest:
        return None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'the journal'}: {error.strerror}"
    return str(error)
