"""Checks of a store: layout, permissions, owner, locks, space, and what its manifests say."""

import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from holdfast.config.stores import StoreSettings
from holdfast.datastore.manifest import VerifyResult
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import Busy, HoldfastError
from holdfast.host import files
from holdfast.host.locks import LockMode
from holdfast.operations.findings import Finding, Level
from holdfast.operations.host_checks import check_free_space
from holdfast.operations.snapshots import SnapshotSummary, summaries
from holdfast.units import DAY

CHUNK_DIRECTORIES: Final = 65_536
_UNFINISHED_S: Final = 1 * DAY
_FUTURE_S: Final = 60


def check_store(settings: StoreSettings) -> Iterator[Finding]:
    """Everything that can be known of a store without reading its chunks or writing anything."""
    area = f"store {settings.name}"
    try:
        store = Datastore.open(
            settings.path, Access.READ_ONLY, name=settings.name, options=settings.options
        )
    except HoldfastError as error:
        advice = error.hint or "mount its disk, or correct its path in the configuration"
        yield Finding(level=Level.PROBLEM, area=area, message=str(error), advice=advice)
        return
    yield from _check_layout(area, store)
    yield from _check_owner(area, store, settings)
    yield from check_free_space(area, store.base)
    yield from _check_locks(area, store)
    yield from _check_snapshots(area, store)


def _check_layout(area: str, store: Datastore) -> Iterator[Finding]:
    chunks = os.path.join(store.base, ".chunks")
    with files.explained(f"listing {chunks}"), files.scanned(chunks) as entries:
        count = sum(1 for entry in entries if len(entry.name) == 4)  # noqa: PLR2004  # hex digits
    if count < CHUNK_DIRECTORIES:
        yield Finding(
            level=Level.PROBLEM,
            area=area,
            message=f"{CHUNK_DIRECTORIES - count:,} of the {CHUNK_DIRECTORIES:,} chunk directories"
            " are missing",
            advice="was it copied without empty directories? run a verify before trusting it",
        )
    else:
        yield Finding(
            level=Level.GOOD, area=area, message=f"{store.base} is laid out as it should be"
        )
    if not os.path.exists(os.path.join(store.base, ".lock")):
        yield Finding(
            level=Level.WARNING,
            area=area,
            message="its lock file .lock is missing",
            advice="the next backup makes it again",
        )


def _check_owner(area: str, store: Datastore, settings: StoreSettings) -> Iterator[Finding]:
    chunks = os.stat(os.path.join(store.base, ".chunks"))
    first = os.path.join(store.base, ".chunks", "0000")
    if os.path.isdir(first) and os.stat(first).st_uid != chunks.st_uid:
        yield Finding(
            level=Level.PROBLEM,
            area=area,
            message="its chunk directories belong to different users",
            advice=f"chown -R --reference={store.base}/.chunks {store.base}/.chunks",
        )
    if chunks.st_mode & stat.S_IWOTH:
        yield Finding(
            level=Level.PROBLEM,
            area=area,
            message="everybody may write to it",
            advice=f"chmod o-w {store.base}/.chunks",
        )
    if not settings.is_read_only and not os.access(
        os.path.join(store.base, ".chunks"), os.W_OK | os.X_OK
    ):
        yield Finding(
            level=Level.WARNING,
            area=area,
            message="this user cannot write to it",
            advice="run backups as its owner, or say read-only = true in the configuration",
        )


def _check_locks(area: str, store: Datastore) -> Iterator[Finding]:
    try:
        start_s = store.store_lock.oldest_writer()
    except (HoldfastError, OSError):  # no lock file yet, told above
        return
    if start_s is not None:
        hours = (time.time() - start_s) / 3600
        yield Finding(
            level=Level.WARNING if hours > 24 else Level.GOOD,  # noqa: PLR2004  # a day
            area=area,
            message=f"a backup has been running for {hours:.1f} hours",
            advice="gc keeps everything since then; see `holdfast task list`",
        )


def _check_snapshots(area: str, store: Datastore) -> Iterator[Finding]:
    try:
        found = [summary for ns in store.namespaces() for summary in summaries(store, ns, None)]
    except HoldfastError as error:
        advice = error.hint or "repair the directory it names"
        yield Finding(level=Level.PROBLEM, area=area, message=str(error), advice=advice)
        return
    now_s = time.time()
    yield from (
        finding for summary in found for finding in _of_snapshot(area, store, summary, now_s)
    )
    groups = {summary.snapshot.group for summary in found}
    yield Finding(
        level=Level.GOOD, area=area, message=f"snapshots: {len(found):,}, groups: {len(groups):,}"
    )


def _of_snapshot(
    area: str, store: Datastore, summary: SnapshotSummary, now_s: float
) -> Iterator[Finding]:
    snapshot = summary.snapshot
    if summary.damage is not None:
        yield Finding(
            level=Level.DAMAGE,
            area=area,
            message=f"{snapshot}: {summary.damage}",
            advice="its data cannot be found any more; forget it after looking at the disk",
        )
    if summary.verify_state is not None and summary.verify_state.state is VerifyResult.FAILED:
        advice = f"`holdfast verify --json {snapshot}`, then `holdfast affected DIGEST`"
        message = f"{snapshot} failed its last verification"
        yield Finding(level=Level.DAMAGE, area=area, message=message, advice=advice)
    is_old = now_s - snapshot.time_s > _UNFINISHED_S
    if summary.is_unfinished and is_old and not _is_in_use(store, summary):
        message = f"{snapshot} was never finished and nobody works on it"
        advice = f"`holdfast forget {snapshot}`"
        yield Finding(level=Level.WARNING, area=area, message=message, advice=advice)
    if snapshot.time_s > now_s + _FUTURE_S:
        message = f"{snapshot} lies in the future"
        advice = "one of the clocks was or is wrong; retention counts it as the newest"
        yield Finding(level=Level.WARNING, area=area, message=message, advice=advice)


def _is_in_use(store: Datastore, summary: SnapshotSummary) -> bool:
    """Whether a shared lock on the snapshot cannot be had; looks without taking it for long."""
    try:
        with store.locks.snapshot(summary.snapshot, LockMode.SHARED):
            return False
    except Busy:
        return True
    except HoldfastError:
        return False
