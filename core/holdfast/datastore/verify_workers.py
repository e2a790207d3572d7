"""The threads of a verification: each reads a chunk file, checks it, and sets it aside if damaged.

Reading is one at a time (`readers`), so a spinning disk sees the order it was asked for, while the
other threads decode and hash what they read before. A thread needs one chunk's length of memory.
"""

import errno
import os
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from holdfast.datastore.chunk_check import ChunkChecker, Depth, Sound
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.process_lock import PrefixGuard, StoreLock
from holdfast.datastore.set_aside import SetAside, set_aside
from holdfast.errors import DamagedData
from holdfast.host import files

_QUEUED_MAX: Final = 64
_DAMAGE: Final = (  # what a disk or file system says about this file; others are about the machine
    errno.EIO,
    errno.EUCLEAN,
    errno.EBADMSG,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
)


class Fault(StrEnum):
    """What is wrong with a chunk."""

    CORRUPT = "corrupt"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that snapshots want and the store cannot give.

    Attributes:
        is_set_aside: its file was renamed, so the next backup stores it anew.
    """

    digest: bytes
    fault: Fault
    reason: str
    is_set_aside: bool = False


class Batch:
    """The chunks that one snapshot brings into a run, and what came of them.

    Attributes:
        bad: chunks with a fault.
        unlike: chunks that are encrypted where the manifest says plain, or the reverse.
        stored_bytes, decoded_bytes, checked, checksum_only: sums over sound chunks.
    """

    def __init__(self) -> None:
        self.bad: list[BadChunk] = []
        self.unlike: list[bytes] = []
        self.stored_bytes = 0
        self.decoded_bytes = 0
        self.checked = 0
        self.checksum_only = 0
        self._lock = threading.Lock()
        self._open = 1  # the one who submits counts too
        self._done = threading.Event()

    def expect_one(self) -> None:
        with self._lock:
            self._open += 1

    def close(self) -> None:
        """No more chunks will come."""
        self._count_down()

    def sound(self, task: "Task", result: Sound) -> None:
        with self._lock:
            self.checked += 1
            self.checksum_only += result.depth is Depth.CHECKSUM
            self.stored_bytes += result.stored_bytes
            self.decoded_bytes += task.length
            if result.is_encrypted is not task.wants_encrypted:
                self.unlike.append(task.digest)
        self._count_down()

    def faulty(self, bad: BadChunk) -> None:
        with self._lock:
            self.checked += 1
            self.bad.append(bad)
        self._count_down()

    def wait(self) -> None:
        """Until every chunk was looked at; short waits, so that a signal gets through."""
        while not self._done.wait(0.5):
            pass

    def _count_down(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._done.set()


@dataclass(frozen=True, slots=True)
class Task:
    """One chunk to check."""

    path: str
    digest: bytes
    length: int
    wants_encrypted: bool
    key: EncryptionKey | None
    batch: Batch


class VerifyWorkers:
    """A context: the threads run inside it. The first surprise in one is raised by `submit`."""

    def __init__(
        self,
        *,
        workers: int,
        readers: int,
        lock: StoreLock | None,
        checked: Callable[[int], None],
    ) -> None:
        """Start nothing yet.

        Args:
            workers: threads that check.
            readers: how many of them may read at once.
            lock: to set damaged chunks aside with; None leaves them where they are.
            checked: told the decoded length of each chunk that was looked at.
        """
        self._tasks: queue.Queue[Task | None] = queue.Queue(_QUEUED_MAX)
        self._reading = threading.BoundedSemaphore(readers)
        self._lock = lock
        self._checked = checked
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"verify-{number}", daemon=True)
            for number in range(workers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._drop_queued()
        for _thread in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        if kind is None:
            self.raise_error()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Have the chunks checked in this order; waits while enough are queued."""
        for task in tasks:
            self.raise_error()
            task.batch.expect_one()
            self._tasks.put(task)

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _drop_queued(self) -> None:
        try:
            while True:
                self._tasks.get_nowait()
        except queue.Empty:
            pass

    def _run(self) -> None:
        with ExitStack() as stack:
            checker: ChunkChecker | None = None
            guard: PrefixGuard | None = None
            try:
                checker = ChunkChecker()
                if self._lock is not None:
                    guard = stack.enter_context(self._lock.chunk_guard())
            except BaseException as error:  # noqa: BLE001  # raised again where work is handed out
                self._error = self._error or error
            while (task := self._tasks.get()) is not None:
                if self._error is None and checker is not None:
                    self._work(task, checker, guard)
                else:
                    task.batch.close()

    def _work(self, task: Task, checker: ChunkChecker, guard: PrefixGuard | None) -> None:
        try:
            with self._reading:
                raw = checker.read(task.path)
            task.batch.sound(task, checker.check(raw, task.digest, task.length, key=task.key))
        except FileNotFoundError:
            task.batch.faulty(BadChunk(task.digest, Fault.MISSING, "its file is missing"))
        except DamagedData as error:
            self._doubt(task, error.reason, checker, guard)
        except OSError as error:
            if error.errno in _DAMAGE:
                self._doubt(task, f"it cannot be read: {error.strerror}", checker, guard)
            else:
                doing = f"reading chunk {task.digest.hex()}"
                self._fail(task, files.as_holdfast_error(error, doing))
        except BaseException as error:  # noqa: BLE001  # raised again where the work is handed out
            self._fail(task, error)
        self._checked(task.length)

    def _fail(self, task: Task, error: BaseException) -> None:
        self._error = self._error or error
        task.batch.close()

    def _doubt(
        self, task: Task, reason: str, checker: ChunkChecker, guard: PrefixGuard | None
    ) -> None:
        """Set the chunk aside if a second look finds the same."""
        bad = BadChunk(task.digest, Fault.CORRUPT, reason)
        if guard is None:
            task.batch.faulty(bad)
            return

        def look(fd: int) -> None:
            checker.check(checker.read_open(fd), task.digest, task.length, key=task.key)

        try:
            outcome = set_aside(task.path, task.digest, guard, look)
            if outcome is SetAside.HEALED:
                size = os.stat(task.path).st_size
                task.batch.sound(task, Sound(Depth.CONTENT, task.wants_encrypted, size))
                return
        except FileNotFoundError:
            outcome = SetAside.GONE
        except BaseException as error:  # noqa: BLE001  # raised again where the work is handed out
            self._fail(task, error)
            return
        task.batch.faulty(BadChunk(task.digest, Fault.CORRUPT, reason, outcome is SetAside.RENAMED))


def by_inode(tasks: list[Task]) -> list[Task]:
    """In the order in which the files probably lie on the disk; missing ones last."""

    def inode(task: Task) -> int:
        try:
            return os.lstat(task.path).st_ino
        except OSError:
            return 1 << 64

    return sorted(tasks, key=inode)
