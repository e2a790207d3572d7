"""What stands in the way of recovering a cluster, each in a sentence that says what it means."""

import os
from typing import Final

from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.errors import HoldfastError, NotFound
from holdfast.host import files
from holdfast.ids import epoch_to_name
from holdfast.operations.pg_view import (
    BaseSeen,
    ClusterStatus,
    History,
    Problem,
    Severity,
    describe,
)
from holdfast.postgres.wal_catalogue import STREAM_NAME, WalCatalogue, same_content
from holdfast.postgres.wal_names import segment_name
from holdfast.postgres.wal_stage import WalStage, each_staged

BACKLOG_S_MAX: Final = 900
_NAMED_MAX: Final = 5


class Judge:
    """Adds to `problems` what is wrong with a cluster."""

    def __init__(
        self,
        status: ClusterStatus,
        problems: list[Problem],
        identifiers: dict[str, list[str]],
    ) -> None:
        """`identifiers`: who says that the cluster is which, by system identifier."""
        self._status = status
        self._problems = problems
        self._identifiers = identifiers

    def _say(self, severity: Severity, text: str) -> None:
        self._problems.append(Problem(severity, text))

    def history_and_bases(self) -> None:
        """What follows from lists alone."""
        status = self._status
        self._identity()
        for batch, reason in status.catalogue.unreadable:
            self._say(
                Severity.DAMAGED,
                f"{batch} cannot be read: {reason}; recovery stops wherever it needs one of its "
                "segments",
            )
        self._chains(status.bases)
        for history in status.histories:
            self._history(history, is_present=history is status.histories[-1])
        self._conflicts(status.catalogue)

    def _identity(self) -> None:
        if len(self._identifiers) > 1:
            whose = "; ".join(
                f"{identifier}: {_some(names)}" for identifier, names in self._identifiers.items()
            )
            self._say(
                Severity.DAMAGED,
                f"this archive mixes clusters, and WAL of one never fits a base of another ({whose})",
            )

    def _chains(self, bases: list[BaseSeen]) -> None:
        there = {str(base.snapshot) for base in bases}
        for base in bases:
            lost = [name for name in base.chain if name not in there]
            if lost:
                self._say(
                    Severity.DAMAGED,
                    f"{base.snapshot} builds on {lost[0]}, which is gone: it cannot be restored",
                )

    def _history(self, history: History, *, is_present: bool) -> None:
        if is_present and not history.bases:
            self._say(
                Severity.DAMAGED,
                "the present history has no base backup: nothing of it can be recovered; "
                "run `holdfast wal full-sync`",
            )
        for timeline in history.wal.without_history():
            has_base = any(base.position.timeline == timeline for base in history.bases)
            self._say(
                Severity.WARNING if has_base else Severity.DAMAGED,
                f"timeline {timeline} is archived without its {timeline:08X}.history: recovery "
                + ("of older base backups " if has_base else "")
                + "cannot follow to it",
            )
        for one in history.reaches:
            if not one.is_consistent:
                self._say(
                    Severity.DAMAGED,
                    f"{one.base.name} lacks WAL of its own time: it cannot be made consistent",
                )
        self._gaps(history)

    def _gaps(self, history: History) -> None:
        size = history.wal.segment_bytes
        for timeline in sorted({one.timeline for one in history.windows}):
            mine = [one for one in history.windows if one.timeline == timeline]
            if not any(one.missing for one in mine):
                continue
            first = next(one.missing for one in mine if one.missing)
            self._say(
                Severity.DAMAGED,
                f"segment {segment_name(*first, size)} is missing: {describe(mine)}",
            )

    def _conflicts(self, catalogue: WalCatalogue) -> None:
        for name, entries in catalogue.entries.items():
            for generation in {entry.generation for entry in entries}:
                mine = [entry for entry in entries if entry.generation == generation]
                if not same_content(mine):
                    self._say(Severity.DAMAGED, f"{name} is archived twice with different contents")

    def chunks(self, store: Datastore, key: EncryptionKey | None) -> None:
        """Every chunk of the WAL has to be there; what is in them is for `verify` to read."""
        chunks = ChunkStore.of(store)
        for batch in sorted(
            {entry.batch for entry in self._status.catalogue}, key=lambda one: one.time_s
        ):
            try:
                index = store.open_index(batch, STREAM_NAME, key=key)
            except NotFound:
                continue
            except HoldfastError as error:
                self._say(Severity.DAMAGED, f"{batch}: {error.message}")
                continue
            lost = sum(not os.path.exists(chunks.path(digest)) for digest in index.digests())
            if lost:
                self._say(
                    Severity.DAMAGED,
                    f"{batch} lacks {lost} of its chunks: recovery stops at the first of them",
                )

    def stage(self, stage: WalStage, now_s: float) -> None:
        """What waits, and for how long."""
        for text in stage_backlog(stage, now_s):
            self._say(Severity.WARNING, text)


def stage_backlog(stage: WalStage, now_s: float) -> list[str]:
    """Sentences about files that wait for longer than a quarter of an hour (HoldfastError)."""
    waiting: list[float] = []
    for generation, names in each_staged(stage):
        for name in names:
            try:
                waiting.append(os.stat(generation.staged_path(name)).st_ctime)
            except FileNotFoundError:
                continue
    found = []
    if waiting and now_s - min(waiting) > BACKLOG_S_MAX:
        found.append(
            f"{len(waiting)} WAL files wait on the stage, the oldest since "
            f"{epoch_to_name(int(min(waiting)))}: see {stage.path}/sync.log"
        )
    ready = _ready_since(stage.settings.data_directory)
    if ready and now_s - min(ready) > BACKLOG_S_MAX:
        found.append(
            f"the server waits to hand over {len(ready)} WAL files, the oldest since "
            f"{epoch_to_name(int(min(ready)))}: is its archive_command right?"
        )
    return found


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED_MAX])
    return shown if len(names) <= _NAMED_MAX else f"{shown} and {len(names) - _NAMED_MAX} more"


def _ready_since(data_directory: str) -> list[float]:
    """When each file that waits for the archive_command began to; empty when that is not readable."""
    try:
        with files.scanned(os.path.join(data_directory, "pg_wal", "archive_status")) as entries:
            return [
                entry.stat(follow_symlinks=False).st_mtime
                for entry in entries
                if entry.name.endswith(".ready")
            ]
    except OSError:
        return []
