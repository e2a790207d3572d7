"""Small files of a restore, made by threads while the main thread goes on through the archive.

Making a small file is a handful of system calls, which run without the interpreter's lock; reading
entries is pure Python. Side by side they keep two processors busy.

A directory gets its metadata and is closed when it was left and nothing in it is under way any more,
by whichever thread comes last. Hard links and whatever else depends on files that were made before
wait with `drain`.
"""

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final, NamedTuple

from holdfast.archive.pxar.items import Entry
from holdfast.archive.restore_entries import EntryRestore
from holdfast.archive.restore_levels import Level
from holdfast.errors import DamagedData
from holdfast.units import MIB

_BATCH_FILES: Final = 32
_BATCH_BYTES: Final = 1 * MIB
_BATCHES_MAX: Final = 8  # handed over and not done: bounds memory, and open directories
_THREADS_MAX: Final = 3


class FileTask(NamedTuple):
    """A file to make, and its content, which is at hand."""

    entry: Entry
    path: bytes
    level: Level
    content: memoryview


def thread_count() -> int:
    """One less than there are processors for this process, at least one, at most three."""
    return max(1, min(_THREADS_MAX, len(os.sched_getaffinity(0)) - 1))


class FileThreads:
    """Threads that make files; all methods are for the main thread.

    Args:
        makers: one for each thread.
        finish: gives a directory its metadata and closes it; called in any thread.
    """

    def __init__(
        self, makers: Sequence[EntryRestore], finish: Callable[[Level, EntryRestore], None]
    ) -> None:
        self._finish = finish
        self._batches: SimpleQueue[list[FileTask] | None] = SimpleQueue()
        self._room = threading.Semaphore(_BATCHES_MAX)
        self._lock = threading.Lock()  # over `pending` and `is_left` of all levels
        self._batch: list[FileTask] = []
        self._batch_bytes = 0
        self._left: set[Level] = set()  # directories that wait for what is in them
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(maker,), name="restore", daemon=True)
            for maker in makers
        ]
        for thread in self._threads:
            thread.start()

    def put(self, task: FileTask) -> None:
        """Have a file made (NoSpace, HoldfastError: an earlier one ended the restore)."""
        with self._lock:
            task.level.pending += 1
        self._batch.append(task)
        self._batch_bytes += len(task.content)
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._hand_over()

    def defer(self, level: Level) -> bool:
        """A directory is left: whether it is finished later, because something is under way in it."""
        with self._lock:
            if not level.pending:
                return False
            level.is_left = True
            self._left.add(level)
            if level.parent is not None:
                level.parent.pending += 1
        return True

    def drain(self) -> None:
        """Wait until everything that was put is made (as `put`)."""
        self._hand_over()
        for _batch in range(_BATCHES_MAX):
            self._room.acquire()
        self._room.release(_BATCHES_MAX)
        self._check()

    def stop(self) -> None:
        """End the threads; what was not begun is not made, and directories are closed."""
        if self._failure is None:
            self._failure = InterruptedError()
        for _thread in self._threads:
            self._batches.put(None)
        for thread in self._threads:
            thread.join()
        for level in self._left:
            level.close()

    def _hand_over(self) -> None:
        self._check()
        if self._batch:
            self._room.acquire()
            self._batches.put(self._batch)
            self._batch, self._batch_bytes = [], 0

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    # In a thread ---------------------------------------------------------------------------------

    def _work(self, maker: EntryRestore) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                for task in batch:
                    if self._failure is not None:
                        break
                    self._make(task, maker)
            except BaseException as error:  # noqa: BLE001  # met again by the main thread
                self._failure = error
            finally:
                self._room.release()

    def _make(self, task: FileTask, maker: EntryRestore) -> None:
        maker.path = task.path
        content = task.content
        try:
            maker.file(task.entry, task.level.fd, lambda: iter((content,)))
        except OSError as error:
            maker.failed(error)
        except DamagedData as error:
            maker.damaged(error)
        self._done(task.level, maker)

    def _done(self, level: Level, maker: EntryRestore) -> None:
        """Something in a directory is complete; finish it, and those above, if that was the last."""
        above: Level | None = level
        while above is not None:
            with self._lock:
                above.pending -= 1
                if above.pending or not above.is_left:
                    return
                self._left.remove(above)
            self._finish(above, maker)
            above = above.parent
