"""Prove that a backup is worth something: restore it, recover it, check it, write down that it went.

Everything happens in a scratch directory with a private server that archives nothing; both are gone
afterwards. What was found goes into `unprotected.pg_drills` of the snapshot, newest last, so that
lists can show when a backup was last proved, how long it took and until when it reached.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, DamagedData, HoldfastError
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import SnapshotId
from holdfast.operations.pg_chain import BaseChain, recorded_owner
from holdfast.operations.pg_private_server import PrivateServer, find_programs, server_owner
from holdfast.operations.pg_restore import PgRestoreRequest, restore_cluster
from holdfast.operations.progress import Progress
from holdfast.postgres.backup_manifest import manifest_of
from holdfast.postgres.control_file import CONTROL_NAME
from holdfast.postgres.recovery import LABEL_NAME, MAP_NAME, RecoverySettings, map_of
from holdfast.postgres.server import Row
from holdfast.shown import printable

DRILLS_KEY: Final = "pg_drills"
KEPT_MAX: Final = 10
_SAID_MAX: Final = 300
_OK, _SKIPPED = "ok", "skipped"

_STATE: Final = """
SELECT pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC' AS until,
       pg_current_wal_lsn()::text AS lsn,
       (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline
"""
_DATABASES: Final = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1"
_INVISIBLE: Final = """
SELECT count(*)::int AS n FROM pg_class c, pg_check_visible(c.oid)
 WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequest:
    """What to prove, and how.

    Attributes:
        recovery: where the WAL comes from and how far to go; the server always opens at the end.
        scratch: directory to restore below; empty for the system's place for temporary files.
        programs: directory of the server's programs; empty to look for them.
        user: a superuser of the cluster.
        wait_s: how long recovery may take.
        records: write the result into the store.
    """

    snapshot: SnapshotId
    recovery: RecoverySettings
    scratch: str = ""
    programs: str = ""
    user: str = "postgres"
    wait_s: float = 3600.0
    records: bool = True
    key: EncryptionKey | None = None


@dataclass(slots=True, kw_only=True)
class Drill:
    """How it went.

    Attributes:
        recovered_until: time of the last transaction replayed, RFC 3339; None if there was none.
        checks: what was checked: "ok", "skipped: why" or what was found.
    """

    snapshot: SnapshotId
    time: str
    duration_s: float = 0.0
    recovered_until: str | None = None
    recovered_lsn: str = ""
    timeline: int = 0
    checks: dict[str, str] = field(default_factory=dict)

    @property
    def has_failed(self) -> bool:
        return any(not text.startswith((_OK, _SKIPPED)) for text in self.checks.values())

    @property
    def has_skipped(self) -> bool:
        return any(text.startswith(_SKIPPED) for text in self.checks.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "time": self.time,
            "duration_s": round(self.duration_s, 3),
            "result": "failed" if self.has_failed else "ok",
            "recovered_until": self.recovered_until,
            "recovered_lsn": self.recovered_lsn,
            "timeline": self.timeline,
            "checks": dict(self.checks),
        }


def drill(
    store: Datastore, request: DrillRequest, progress: Progress, *, clock: Clock = SYSTEM_CLOCK
) -> Drill:
    """Do it; a backup that cannot be recovered is a result with failed checks, not an error.

    Raises:
        NotFound: no such base backup, or the server's programs are not installed.
        NoSpace: the scratch directory has not enough.
        HoldfastError: the scratch directory cannot be made, or the result not be written.
    """
    began_s = clock.monotonic_s()
    now = datetime.fromtimestamp(clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = Drill(snapshot=request.snapshot, time=now)
    with BaseChain(store, request.snapshot, request.key) as chain:
        programs = find_programs(chain.record.major, request.programs)
    owner = server_owner(recorded_owner(store, request.snapshot, request.key))
    with files.explained("making a scratch directory"):
        scratch = tempfile.mkdtemp(prefix="holdfast-drill-", dir=request.scratch or None)
        if owner is not None:
            os.chown(scratch, *owner)
    try:
        _in_scratch(
            store, request, progress, result, scratch=scratch, programs=programs, owner=owner
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        result.duration_s = clock.monotonic_s() - began_s
    if request.records:
        store.update_unprotected(request.snapshot, lambda about: _remember(about, result))
    return result


def _in_scratch(
    store: Datastore,
    request: DrillRequest,
    progress: Progress,
    result: Drill,
    *,
    scratch: str,
    programs: str,
    owner: tuple[int, int] | None,
) -> None:
    data = os.path.join(scratch, "data")
    try:
        manifest = _restore(store, request, progress, scratch=scratch, owner=owner)
    except DamagedData as error:
        result.checks["restore"] = error.message
        return
    result.checks["restore"] = _OK
    server = PrivateServer(programs, data, owner=owner, user=request.user)
    with server:
        progress.phase("check files")
        _check_files(server, data, manifest, result)
        progress.phase("recover")
        try:
            server.start(wait_s=request.wait_s)
            with server.session("postgres") as session:
                _note_state(session.row(_STATE), result)
                databases = [row["datname"] for row in session.rows(_DATABASES)]
        except HoldfastError as error:
            result.checks["recovery"] = error.message
            return
        result.checks["recovery"] = _OK
        progress.phase("check tables")
        _check_tables(server, request.user, result)
        _check_visibility(server, databases, result)
        progress.phase("check pages")
        server.stop()
        _check_pages(server, data, result)


def _restore(
    store: Datastore,
    request: DrillRequest,
    progress: Progress,
    *,
    scratch: str,
    owner: tuple[int, int] | None,
) -> bytes:
    """Lay everything out below `scratch`; the text of a backup manifest of it."""
    with BaseChain(store, request.snapshot, request.key) as chain:
        record = chain.record
        spaces = {
            space.oid: os.path.join(scratch, f"tablespace-{space.oid}")
            for space in record.tablespaces
        }
        others = [(LABEL_NAME, record.label), (CONTROL_NAME, chain.control())]
        if spaces:
            others.append((MAP_NAME, map_of(spaces)))
        lines = (line for line in chain.lines() if not line.path.startswith(b"pg_tblspc/"))
        manifest = manifest_of(record, lines, others)
    restore_cluster(
        store,
        PgRestoreRequest(
            snapshot=request.snapshot,
            target=os.path.join(scratch, "data"),
            spaces=spaces,
            recovery=request.recovery,
            owner=owner,
            key=request.key,
        ),
        progress,
    )
    return manifest


# Checks -------------------------------------------------------------------------------------------


def _check_files(server: PrivateServer, data: str, manifest: bytes, result: Drill) -> None:
    """Every file against what was read during the backup, by the server's own tool."""
    name = "pg_verifybackup"
    if not server.has(name):
        result.checks[name] = f"{_SKIPPED}: not installed"
        return
    path = f"{data}.manifest"
    with files.explained(f"writing {path}"):
        files.replace_file(path, [manifest], mode=0o644)
    result.checks[name] = _said(*server.run(name, ["-n", "-e", "-m", path, data]))


def _note_state(state: Row, result: Drill) -> None:
    until = state["until"]
    result.recovered_until = None if until is None else f"{until}Z"
    result.recovered_lsn, result.timeline = state["lsn"], int(state["timeline"])


def _check_tables(server: PrivateServer, user: str, result: Drill) -> None:
    name = "pg_amcheck"
    if not server.has(name):
        result.checks[name] = f"{_SKIPPED}: not installed"
        return
    words = ["-U", user, "--all", "--heapallindexed", "--install-missing"]
    result.checks[name] = _said(*server.run(name, words))


def _check_visibility(server: PrivateServer, databases: list[str], result: Drill) -> None:
    """Rows that the visibility map calls visible to all and that are not: amcheck misses those."""
    found = 0
    for database in databases:
        try:
            with server.session(database) as session:
                session.execute("CREATE EXTENSION IF NOT EXISTS pg_visibility")
                found += session.row(_INVISIBLE)["n"]
        except HoldfastError as error:
            result.checks["pg_check_visible"] = f"{_SKIPPED}: {error.message}"
            return
    result.checks["pg_check_visible"] = _OK if not found else f"{found} rows are not visible to all"


def _check_pages(server: PrivateServer, data: str, result: Drill) -> None:
    name = "pg_checksums"
    if not server.has(name):
        result.checks[name] = f"{_SKIPPED}: not installed"
        return
    code, said = server.run(name, ["--check", "-D", data])
    if code and "not enabled" in said:
        result.checks[name] = f"{_SKIPPED}: the cluster has no checksums"
    else:
        result.checks[name] = _said(code, said)


def _said(code: int, said: str) -> str:
    if code == 0:
        return _OK
    text = printable(" ".join(said.split()).encode("utf-8", "surrogateescape"))
    return f"exit code {code}: {text[:_SAID_MAX]}"


# The record ---------------------------------------------------------------------------------------


def _remember(about: dict[str, Any], result: Drill) -> None:
    before = about.get(DRILLS_KEY)
    kept = before if isinstance(before, list) else []
    about[DRILLS_KEY] = [*kept, result.to_json()][-KEPT_MAX:]


def last_drill(about: dict[str, Any]) -> dict[str, Any] | None:
    """The newest result in a manifest's `unprotected` part, None without one."""
    found = about.get(DRILLS_KEY)
    if not isinstance(found, list) or not found or not isinstance(found[-1], dict):
        return None
    return dict(found[-1])


def check_wait(text: str) -> float:
    """Seconds that recovery may take (BadRequest)."""
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"{text!r} is no number of seconds") from None
    if not 0 < value <= 1e7:  # noqa: PLR2004  # four months
        raise BadRequest(f"{text} seconds cannot be waited for")
    return value
