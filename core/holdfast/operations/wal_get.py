"""Give a WAL file back to a server that recovers.

A server takes "not in the archive" for the end of the WAL and ends its recovery as if all were
well. So that answer is only given when it is certain: every index of the archive could be read, and
there is no hole around the file that was asked for.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, HoldfastError, Refused
from holdfast.host import files
from holdfast.postgres.staged_file import PIECE_BYTES, staged_content
from holdfast.postgres.wal_catalogue import STREAM_NAME, WalCatalogue, WalEntry, same_content
from holdfast.postgres.wal_names import WalKind, WalName, parse_wal_name
from holdfast.postgres.wal_stage import STREAM_DIRECTORY, WalStage, each_staged

MODE: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRequest:
    """Which file, and where from.

    Attributes:
        name: the server's `%f`.
        target: the server's `%p`.
        stage: looked into first, when there is one.
        open_archive: opens the store and reads what it has; called only when the stage does not do.
        generation: which history; None when there is only one, or all agree.
        allows_gap: say "not in the archive" also of a file that is missing between others.
    """

    name: str
    target: str
    stage: WalStage | None
    open_archive: "Callable[[], Archive]"
    generation: int | None = None
    allows_gap: bool = False


@dataclass(frozen=True, slots=True)
class Archive:
    """The store's side: what it has, and how to read it."""

    store: Datastore
    catalogue: WalCatalogue
    key: EncryptionKey | None = None


def get(request: GetRequest) -> bool:
    """Put the file at the target; False when the archive certainly has no such file.

    Raises:
        BadRequest: the name is none of a WAL file.
        Refused: it is missing between others, or there are several and none was chosen.
        DamagedData: what the archive has is not what was archived.
        HoldfastError: the archive or the target cannot be used.
    """
    name = parse_wal_name(request.name)
    if _from_stage(request, name):
        return True
    archive = request.open_archive()
    entry = _choose(archive.catalogue, name, request.generation)
    if entry is not None:
        _from_store(request, archive, entry)
        return True
    if _from_stream(request, name):
        return True
    if archive.catalogue.unreadable:
        batch, reason = archive.catalogue.unreadable[0]
        raise HoldfastError(f"whether {name.text} is archived is unknown: {batch}: {reason}")
    if not request.allows_gap:
        _refuse_gap(request, archive.catalogue, name)
    return False


def _from_stage(request: GetRequest, name: WalName) -> bool:
    if request.stage is None:
        return False
    with files.explained(f"looking into the WAL stage {request.stage.path}"):
        generations = request.stage.generations()
    for generation in reversed(generations):
        is_wanted = request.generation in (None, generation.time_s)
        if not (is_wanted or name.kind is WalKind.HISTORY) or not generation.is_staged(name.text):
            continue
        is_alone = len(generations) == 1 and not generation.went_back
        if request.generation is None and not is_alone and name.kind is not WalKind.HISTORY:
            raise Refused(
                f"time went back in this archive, and nobody said which history {name.text} is of",
                hint=f"add --generation {generations[-1].name} for the newest; see `wal get --help`",
            )
        try:
            with open(generation.staged_path(name.text), "rb") as staged:
                _write(request.target, staged_content(staged.fileno(), name.text))
        except FileNotFoundError:  # carried away just now: the store has it
            continue
        return True
    return False


def _from_stream(request: GetRequest, name: WalName) -> bool:
    """The segment that `wal stream` was receiving last: all there is of it, up to its zeros.

    It is of the present history only. A server that still writes to it does no harm: what was not
    written completely does not pass the server's own check of each record.
    """
    stage = request.stage
    if stage is None or name.kind is not WalKind.SEGMENT:
        return False
    current = stage.current()
    if current is None or request.generation not in (None, current.time_s):
        return False
    directory = os.path.join(stage.path, STREAM_DIRECTORY)
    for ending in ("", ".partial"):
        path = os.path.join(directory, name.text + ending)
        try:
            with open(path, "rb") as received:
                _write(request.target, iter(partial(received.read, PIECE_BYTES), b""))
        except FileNotFoundError:
            continue
        return True
    return False


def _choose(catalogue: WalCatalogue, name: WalName, generation: int | None) -> WalEntry | None:
    """The entry to read; None when there is none (Refused: there are several)."""
    entries = catalogue.entries.get(name.text, [])
    if generation is not None:
        mine = [entry for entry in entries if entry.generation == generation]
        if not mine and name.kind is WalKind.HISTORY:
            mine = [entry for entry in entries if entry.generation < generation]
        entries = mine
    if not entries:
        return None
    newest = max(entry.generation for entry in entries)
    if name.kind is not WalKind.HISTORY and not same_content(entries):
        raise Refused(
            f"the archive has {name.text} with different contents, from histories "
            + ", ".join(str(one) for one in sorted({entry.generation for entry in entries})),
            hint=f"add --generation {newest} for the newest",
        )
    return next(entry for entry in entries if entry.generation == newest)


def _from_store(request: GetRequest, archive: Archive, entry: WalEntry) -> None:
    what = f"{entry.name.text} in {entry.batch}"
    with StreamReader.of(archive.store, entry.batch, STREAM_NAME, key=archive.key) as reader:
        if entry.offset + entry.size > reader.size:
            raise DamagedData(what, "it lies beyond the end of its batch")
        pieces = reader.pieces(entry.offset, entry.offset + entry.size)
        _write(request.target, _checked(pieces, entry.sha256, what))


def _checked(pieces: Iterable[memoryview], sha256: str, what: str) -> Iterator[memoryview]:
    """The pieces; DamagedData after the last when they are not what was archived."""
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
        yield piece
    if hasher.hexdigest() != sha256:
        raise DamagedData(what, "its content has another digest")


def _write(target: str, pieces: Iterable[bytes | memoryview]) -> None:
    """All of `pieces` under `target`, which shows nothing before they were all good."""
    temporary = f"{target}.holdfast-{os.getpid()}"
    with files.explained(f"writing {target}"):
        with suppress(FileNotFoundError):
            files.unlink(temporary)
        fd = files.create(temporary, mode=MODE)
        try:
            try:
                for piece in pieces:
                    files.write_all(fd, [piece], path=temporary)
            finally:
                os.close(fd)
            files.rename(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _refuse_gap(request: GetRequest, catalogue: WalCatalogue, name: WalName) -> None:
    """Refuse to call a file absent that has neighbours on both sides on its timeline (Refused)."""
    if name.kind is not WalKind.SEGMENT:
        return
    known = [
        entry.name
        for entry in catalogue
        if request.generation is None or entry.generation == request.generation
    ]
    if request.stage is not None:
        for generation, names in each_staged(request.stage):
            if request.generation is None or generation.time_s == request.generation:
                known += [parse_wal_name(text) for text in names]
    same_line = [
        (one.high, one.low)
        for one in known
        if one.kind is WalKind.SEGMENT and one.timeline == name.timeline
    ]
    wanted = (name.high, name.low)
    if any(one < wanted for one in same_line) and any(one > wanted for one in same_line):
        raise Refused(
            f"{name.text} is missing although older and newer segments of its timeline are there",
            hint="recovery would end here without a word; see `holdfast pg check`, --allow-gap",
        )
