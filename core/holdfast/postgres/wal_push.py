"""Take a WAL file over from the server: compressed and durable on the stage, or an error.

The server may recycle the file as soon as it hears success, so success is only reported once the
file and its directory are flushed. Handed in again (the server does that after a crash), the same
content is a success and another content means that time went back. Then the background sync is
asked for, and started if none runs; it is not waited for.

Start-up of `wal push` is counted in milliseconds: this module imports little.
"""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Final, NamedTuple

import zstandard

from holdfast.errors import HoldfastError, Refused
from holdfast.host import files
from holdfast.host.anonymous import AnonymousFile
from holdfast.postgres.staged_file import PIECE_BYTES, staged_content
from holdfast.postgres.wal_headers import HEADER_BYTES, check_segment, has_header
from holdfast.postgres.wal_names import (
    FIRST_TIMELINE,
    WalKind,
    WalName,
    history_name,
    parse_wal_name,
)
from holdfast.postgres.wal_stage import (
    ARCHIVE,
    LOG_NAME,
    SNAPSHOT,
    SUFFIX,
    Generation,
    WalStage,
)

BATCH_FILES_MAX: Final = 64
TEXT_BYTES_MAX: Final = 1 << 20  # of history and backup files
_ATTEMPTS_MAX: Final = 8
_READY: Final = ".ready"
WORKER_MODULE: Final = "holdfast.cli.wal_worker"


class Pushed(NamedTuple):
    """What became of one file.

    Attributes:
        name: of the WAL file.
        is_new: False when the stage or the store had it already.
        went_back: a new generation was begun because a known name came with another content.
    """

    name: str
    is_new: bool
    went_back: bool


def push(stage_path: str, path: str, *, takes_ready: bool = False) -> None:
    """Store the WAL file `path` and ask for a sync; remarks go to the server's log.

    Args:
        stage_path: the stage.
        path: the file, as the server's `%p` names it.
        takes_ready: store other files as well that the server waits to hand over; it hands them in
            again, and each is then found to be there.

    Raises:
        BadRequest: the name is not one of a WAL file.
        Refused: the file is not what its name says, or of another cluster.
        HoldfastError: it cannot be read, or the stage not be written.
    """
    with WalStage.open(stage_path) as stage:
        done = [store_file(stage, path)]
        _store_missing_history(stage, path)
        if takes_ready:
            done += _store_others(stage, path)
        flags = ARCHIVE
        for pushed in done:
            if pushed.went_back:
                flags |= SNAPSHOT
                _remark(
                    f"{pushed.name} is known with another content: time went back; a new history "
                    "begins, and a full base backup is asked for"
                )
        try:
            ask_for_sync(stage, flags)
        except HoldfastError as error:  # the file is safe all the same
            _remark(error.message)


def _store_missing_history(stage: WalStage, path: str) -> None:
    """A server that was promoted while it did not archive never hands in where its timeline began.

    Its history file still lies beside the segment; without it no older base backup can follow.
    """
    name = parse_wal_name(os.path.basename(path))
    current = stage.current()
    history = history_name(name.timeline)
    if name.timeline == FIRST_TIMELINE or current is None or current.holds(history):
        return
    beside = os.path.join(os.path.dirname(path), history)
    if os.path.exists(beside):
        try:
            store_file(stage, beside)
        except HoldfastError as error:  # the segment is safe all the same
            _remark(error.message)


def _store_others(stage: WalStage, path: str) -> list[Pushed]:
    own = os.path.basename(path)
    others = [one for one in ready_files(os.path.dirname(path)) if os.path.basename(one) != own]
    done = []
    for other in others[:BATCH_FILES_MAX]:
        try:
            done.append(store_file(stage, other))
        except HoldfastError:  # the server hands it in by itself, and is told then
            break
    return done


def _remark(text: str) -> None:
    sys.stderr.write(f"holdfast: wal push: {text}\n")


def ready_files(wal_directory: str) -> list[str]:
    """Every WAL file the server waits to hand over, history files first, then oldest first."""
    status = os.path.join(wal_directory, "archive_status")
    with files.explained(f"listing {status}"):
        names = os.listdir(status)
    ready = [name.removesuffix(_READY) for name in names if name.endswith(_READY)]
    ready.sort(key=lambda name: (not name.endswith(".history"), name))
    return [os.path.join(wal_directory, name) for name in ready]


def store_file(stage: WalStage, path: str) -> Pushed:
    """Store the WAL file `path`; it is durable when this returns (see push)."""
    name = parse_wal_name(os.path.basename(path))
    try:
        fd = files.open_read(path, extra_flags=os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise files.as_holdfast_error(error, f"opening {path}") from error
    try:
        size = _checked_size(stage, name, fd)
        with files.explained(f"storing {name.text}"):
            return _store(stage, name, fd, size)
    finally:
        os.close(fd)


def _checked_size(stage: WalStage, name: WalName, fd: int) -> int:
    """Bytes of the file, which is what its name says (Refused)."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise Refused(f"{name.text} is not a regular file")
    if has_header(name):
        check_segment(
            name,
            os.pread(fd, HEADER_BYTES, 0),
            info.st_size,
            system_identifier=stage.settings.system_identifier,
            segment_bytes=stage.settings.segment_bytes,
        )
    elif not 0 < info.st_size <= TEXT_BYTES_MAX:
        raise Refused(f"{name.text} has {info.st_size} bytes, which no such file has")
    return info.st_size


def _store(stage: WalStage, name: WalName, fd: int, size: int) -> Pushed:
    is_new = went_back = False
    generation = stage.current() or _begin(stage, None)
    for _attempt in range(_ATTEMPTS_MAX):
        is_same = _is_same(generation, name.text, fd, size)
        if is_same is None and generation.is_before(name):
            is_same = False  # time went back once more, further than the last time
        if is_same is None:
            try:
                _publish(generation, name.text, fd, size, level=stage.settings.level)
            except FileExistsError:  # somebody else was faster: compare with that
                continue
            except FileNotFoundError:  # an old generation, which was removed just now
                current = stage.current()
                if current is None or current.name == generation.name:
                    raise
                generation = current
                continue
            is_new = True
        elif not is_same:
            _require_new_generation(stage, name)
            generation, went_back = _begin(stage, generation, first=name.text), True
            continue
        current = stage.current()
        if current is None or current.name == generation.name:
            return Pushed(name.text, is_new, went_back)
        generation = current  # it was switched meanwhile; the file belongs there, too
    raise HoldfastError(f"the archive changed all the time while {name.text} was stored")


def _begin(stage: WalStage, instead_of: Generation | None, *, first: str = "") -> Generation:
    return stage.begin_generation(int(time.time()), instead_of=instead_of, first=first)


def _require_new_generation(stage: WalStage, name: WalName) -> None:
    """Refuse where a known name with another content must not begin a new history (Refused)."""
    if name.kind is WalKind.HISTORY:
        raise Refused(
            f"{name.text} is archived with another content: two servers chose the same timeline",
            hint="let the younger one archive elsewhere, or restore it with a restore_command",
        )
    if stage.settings.on_conflict != "new-generation":
        raise Refused(
            f"{name.text} is archived with another content, and nothing is overwritten",
            hint="was the server restored to an earlier time? then make a new stage for it",
        )


def _publish(generation: Generation, name: str, fd: int, size: int, *, level: int) -> None:
    """Compress the file into the stage (FileExistsError, OSError)."""
    directory = os.open(generation.wal_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with AnonymousFile(directory) as new:
            compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
            target = compressor.compressobj(size=size)
            for piece in _pieces(fd, size, name):
                files.write_all(new.fd, [target.compress(piece)], path=name)
            files.write_all(new.fd, [target.flush()], path=name)
            written = os.fstat(
                fd
            ).st_mtime_ns  # by the server: how far recovery gets with this file
            os.utime(new.fd, ns=(written, written))
            new.publish(name + SUFFIX)
    finally:
        os.close(directory)


def _is_same(generation: Generation, name: str, fd: int, size: int) -> bool | None:
    """Whether the generation has the file with this content; None when it does not have it."""
    staged = generation.staged_path(name)
    try:
        with open(staged, "rb") as stored:
            return _equals_staged(stored.fileno(), name, fd, size)
    except FileNotFoundError:
        pass
    digest = generation.carried_digest(name)
    if digest is None:
        return None
    import hashlib

    hasher = hashlib.sha256()
    for piece in _pieces(fd, size, name):
        hasher.update(piece)
    return hasher.hexdigest() == digest


def _equals_staged(stored_fd: int, name: str, fd: int, size: int) -> bool:
    stored = staged_content(stored_fd, name)
    pieces = _pieces(fd, size, name)
    return all(one == other for one, other in zip_longest(stored, pieces))


def _pieces(fd: int, size: int, name: str) -> Iterator[bytes]:
    """The `size` bytes of the file (Refused when it is shorter; OSError)."""
    offset = 0
    while offset < size:
        piece = os.pread(fd, min(PIECE_BYTES, size - offset), offset)
        if not piece:
            raise Refused(f"{name} became shorter while it was read")
        offset += len(piece)
        yield piece


# The background sync ------------------------------------------------------------------------------


def ask_for_sync(
    stage: WalStage, flags: int, *, start: Callable[[WalStage], int] | None = None
) -> None:
    """Add `flags` to what is owed; start a background sync when none runs (by `start`).

    What is owed is on the disk when this returns: if the sync cannot be started or dies, the next
    request or `wal sync` does it.
    """
    with WalStage.open(stage.path) as own:  # a worker keeps the locks of what it inherits
        owed = own.requests.begin(flags)
        if not owed:
            return
        own.requests.publish(owed)
        try:
            (start or start_worker)(own)
        except OSError as error:
            own.requests.collect()
            own.requests.abandon(owed)
            raise files.as_holdfast_error(error, "starting the background sync") from error


def start_worker(stage: WalStage) -> int:
    """Hand the locks to a new process in a session of its own; its process id (OSError).

    It is no child of the server's archiver in any way that matters: an immediate shutdown of the
    server kills the archiver's process group.
    """
    log = os.path.join(stage.path, LOG_NAME)
    fd = stage.requests.fileno()
    os.set_inheritable(fd, True)  # noqa: FBT003
    try:
        words = [sys.executable, "-m", WORKER_MODULE, stage.path, str(fd)]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawn(
            sys.executable,
            words,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    finally:
        os.set_inheritable(fd, False)  # noqa: FBT003
