"""Take from the stage what nobody needs there any more; by the sync, after files have left it.

A generation that is not current goes as soon as no WAL file is in it: everything of it is in the
store. Its `pg_wal` goes first, which fails when a push put a file there just now, and such a push
finds the current generation when it comes too late.

Of the markers in `carried/` the newest of each timeline stay, to recognise a file that the server
hands in again. Before older ones go, `forgotten-TIMELINE` says where they end: a segment from below
counts as known with another content, as it is when time went back that far.
"""

import os
from contextlib import suppress
from typing import Final

from holdfast.errors import BadRequest
from holdfast.host import files
from holdfast.postgres.base_record import NAME as BASE_NAME
from holdfast.postgres.wal_names import WalKind, WalName, parse_wal_name
from holdfast.postgres.wal_stage import BEGAN_NAME, FORGOTTEN_PREFIX, Generation, WalStage

MARKERS_KEPT: Final = 4096  # of segments, on each timeline: a 16 MiB server writes 64 GiB meanwhile


def tidy_stage(stage: WalStage, *, markers_kept: int = MARKERS_KEPT) -> None:
    """Remove old generations and old markers, as far as that is safe (HoldfastError)."""
    current = stage.current()
    if current is None:
        return
    with files.explained(f"tidying the WAL stage {stage.path}"):
        for generation in stage.generations():
            if generation.time_s < current.time_s:
                _remove(generation)
        files.fsync_directory(stage.path)
        _forget(current, markers_kept)


def _remove(generation: Generation) -> None:
    """All of a generation, unless there is a WAL file in it or something unknown."""
    with suppress(FileNotFoundError):  # an earlier attempt got that far
        if os.listdir(generation.wal_path):
            return
        try:
            files.remove_directory(generation.wal_path)
        except OSError:  # a push was faster
            return
    with suppress(FileNotFoundError):
        for name in os.listdir(generation.carried_path):
            files.unlink(os.path.join(generation.carried_path, name))
        files.remove_directory(generation.carried_path)
    names = set(os.listdir(generation.path))
    known = {
        name
        for name in names
        if name in (BEGAN_NAME, BASE_NAME) or name.startswith(FORGOTTEN_PREFIX)
    }
    if names == known:
        for name in known:
            files.unlink(os.path.join(generation.path, name))
        files.remove_directory(generation.path)


def _forget(generation: Generation, markers_kept: int) -> None:
    """The oldest markers of segments, a timeline at a time."""
    lines: dict[int, list[WalName]] = {}
    for text in os.listdir(generation.carried_path):
        with suppress(BadRequest):  # a stranger
            name = parse_wal_name(text)
            if name.kind is WalKind.SEGMENT:
                lines.setdefault(name.timeline, []).append(name)
    for timeline, names in lines.items():
        names.sort(key=lambda name: (name.high, name.low))
        old = names[: max(len(names) - markers_kept, 0)]
        if not old or any(generation.is_staged(name.text) for name in old):
            continue
        generation.forget_before(timeline, names[len(old)].text)
        for name in old:
            files.unlink(os.path.join(generation.carried_path, name.text))
