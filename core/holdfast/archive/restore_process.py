"""Small files of a restore, made by a process of its own while this one reads the archive.

Both are Python that makes many short system calls: as threads they would wait for each other's
interpreter lock most of the time. The maker is a fresh interpreter that loads only what it needs.

The two share a memory file of a few slots, which carry contents, and a socket that keeps messages
apart. Messages are marshal, safe here since both ends are the same program. To the maker go

    (rule, without)                                    once
    (slot, [(path, [(name, start, size, stat), ...])]) with the open directories, in this order;
                                                       contents lie back to back in the slot
    ()                                                 the end

and back come, after each batch, what had to be told in it and then ("done", None):

    ("warn", text)  ("elsewhere", (start, path))  ("full", (text, hint))  ("failed", text)
    ("outcome", counts)

No more is under way than the socket holds, so sending never waits, and neither side can wait for
the other for ever. A maker whose reader died sees the socket close, and ends.
"""

import gc
import marshal
import mmap
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from holdfast.archive.pxar.format import Kind, Metadata, Stat
from holdfast.archive.pxar.items import Entry
from holdfast.archive.restore_entries import EntryRestore
from holdfast.archive.restore_levels import Level
from holdfast.archive.restore_rules import Overwrite, RestoreOutcome, RestoreRules
from holdfast.archive.restore_without import Without
from holdfast.errors import HoldfastError, NoSpace
from holdfast.host import interpreter
from holdfast.host.files import explained
from holdfast.units import KIB, MIB

CONTENT_BYTES_MAX: Final = 512 * KIB  # of a file that can be left to the maker
_SLOT_COUNT: Final = 4
_SLOT_BYTES: Final = 2 * MIB
_RING_BYTES: Final = _SLOT_COUNT * _SLOT_BYTES
_BATCH_FILES: Final = 64
_NAMES_BYTES_MAX: Final = 24 * KIB  # of a batch: four of them fit into a socket
_FILE_WORDS_BYTES: Final = 128  # what a file's numbers take in a message
_MESSAGE_BYTES_MAX: Final = 1 * MIB
_FDS_MAX: Final = _BATCH_FILES
_PLAIN: Final = Metadata(Stat(0))[1:]


def is_worth_it() -> bool:
    """Whether there is a second processor for a maker."""
    return len(os.sched_getaffinity(0)) > 1


class FileProcess:
    """The maker, seen from the process that reads the archive.

    Args:
        rules: of the restore.
        finish: gives a directory its metadata and closes it.
        warn: takes what is told about entries.
        elsewhere: by position in the archive, files that are not where the archive has them.

    Attributes:
        outcome: what the maker did; complete after `stop`.
        foreign_owners: entries whose owner could not be set; likewise.
        pid: of the process.

    Raises:
        HoldfastError: the process cannot be started.
    """

    def __init__(
        self,
        rules: RestoreRules,
        *,
        finish: Callable[[Level], None],
        warn: Callable[[str], None],
        elsewhere: dict[int, bytes],
    ) -> None:
        self.outcome = RestoreOutcome()
        self.foreign_owners = 0
        self._finish = finish
        self._warn = warn
        self._elsewhere = elsewhere
        self._failure: HoldfastError | None = None
        self._has_ended = False
        self._free = deque(range(_SLOT_COUNT))
        self._sent: deque[tuple[int, list[Level]]] = deque()
        self._batch: list[tuple[Entry, Level, memoryview]] = []
        self._batch_bytes = self._names_bytes = 0
        self._left: set[Level] = set()  # directories that wait for what is in them
        with explained("starting the process that makes files"):
            ring = os.memfd_create("holdfast-restore")
            try:
                os.ftruncate(ring, _RING_BYTES)
                self._memory = mmap.mmap(ring, _RING_BYTES)
                self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self.pid = interpreter.spawn(
                        __name__, make_for_parent.__name__, ring, stdin=theirs.fileno()
                    )
            finally:
                os.close(ring)
        self._send((rules.overwrite.value, rules.without.value), [])

    @staticmethod
    def takes(entry: Entry) -> bool:
        """Whether a file is one of the many that are small and have nothing unusual about them."""
        metadata = entry.metadata
        return (
            entry.size <= CONTENT_BYTES_MAX
            and metadata is not None
            and not metadata.stat.flags
            and metadata[1:] == _PLAIN
        )

    def put(self, entry: Entry, level: Level, content: memoryview) -> None:
        """Have a file made (NoSpace, HoldfastError: an earlier one ended the restore).

        Args:
            entry: one that `takes` is true for.
            level: the directory it goes into.
            content: all of it; its bytes must stay as they are.
        """
        size = len(content)
        words = len(entry.name) + len(level.path) + _FILE_WORDS_BYTES
        if (
            len(self._batch) >= _BATCH_FILES
            or self._batch_bytes + size > _SLOT_BYTES
            or self._names_bytes + words > _NAMES_BYTES_MAX
        ):
            self._hand_over()
        level.pending += 1
        self._batch.append((entry, level, content))
        self._batch_bytes += size
        self._names_bytes += words

    def defer(self, level: Level) -> bool:
        """A directory is left: whether it is finished later, because something is under way in it."""
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
        while self._sent:
            self._take_answer()
        self._check()

    def stop(self) -> None:
        """End the maker; after a failure nothing more is made, and directories are closed."""
        try:
            if not self._has_ended:
                with suppress(HoldfastError):
                    self._send((), [])
                    while not self._has_ended:
                        self._take_answer()
        except BaseException:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            self._socket.close()
            self._memory.close()
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            for level in self._left:
                level.close()

    def _hand_over(self) -> None:
        """Send the batch (as `put`)."""
        while self._sent and (not self._free or _is_readable(self._socket)):
            self._take_answer()
        self._check()
        batch = self._batch
        if not batch:
            return
        slot = self._free.popleft()
        at = slot * _SLOT_BYTES
        groups: list[tuple[bytes, list[tuple[Any, ...]]]] = []
        levels: list[Level] = []
        fds: list[int] = []
        for entry, level, content in batch:
            end = at + len(content)
            self._memory[at:end] = content
            at = end
            if not levels or levels[-1] is not level:
                groups.append((level.path, []))
                fds.append(level.fd)
            levels.append(level)
            stat = tuple(entry.metadata.stat) if entry.metadata is not None else ()
            groups[-1][1].append((entry.name, entry.start, entry.size, stat))
        self._batch, self._batch_bytes, self._names_bytes = [], 0, 0
        self._sent.append((slot, levels))
        self._send((slot, groups), fds)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _send(self, message: tuple[Any, ...], fds: list[int]) -> None:
        try:
            socket.send_fds(self._socket, [marshal.dumps(message)], fds)
        except OSError as error:
            raise self._ended_early() from error

    def _ended_early(self) -> HoldfastError:
        self._has_ended = True
        self._sent.clear()
        self._failure = HoldfastError("the process that makes files ended early")
        return self._failure

    def _take_answer(self) -> None:
        """Wait for a message of the maker and heed it (HoldfastError: it is gone)."""
        try:
            data = self._socket.recv(_MESSAGE_BYTES_MAX)
        except OSError as error:
            raise self._ended_early() from error
        if not data:
            raise self._ended_early()
        kind, value = marshal.loads(data)  # noqa: S302  # written by our own process
        if kind == "done":
            slot, levels = self._sent.popleft()
            self._free.append(slot)
            for level in levels:
                self._done(level)
        elif kind == "warn":
            self.outcome.warnings.append(value)
            self._warn(value)
        elif kind == "elsewhere":
            self._elsewhere[value[0]] = value[1]
        elif kind == "full":
            self._failure = NoSpace(value[0], hint=value[1])
        elif kind == "failed":
            self._failure = HoldfastError(value)
        else:
            self._has_ended = True
            self.foreign_owners = value.pop("foreign_owners")
            self.outcome.add(RestoreOutcome(**value))

    def _done(self, level: Level) -> None:
        """Something in a directory is complete; finish it, and those above, if that was the last."""
        above: Level | None = level
        while above is not None:
            above.pending -= 1
            if above.pending or not above.is_left:
                return
            self._left.remove(above)
            if self._failure is None:
                self._finish(above)
            else:
                above.close()
            above = above.parent


def _is_readable(channel: socket.socket) -> bool:
    """Whether a message waits, or the other side is gone."""
    try:
        channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True  # the next look says what it is
    return True


# In the maker ------------------------------------------------------------------------------------


def make_for_parent(ring: int) -> None:
    """What the process runs; `ring` is the memory file with contents."""
    gc.disable()  # nothing here holds cycles
    with suppress(BrokenPipeError, ConnectionResetError):
        _Maker(ring).run()


class _Maker:
    def __init__(self, ring: int) -> None:
        self._memory = memoryview(mmap.mmap(ring, _RING_BYTES))
        self._socket = socket.socket(fileno=0)
        order, _fds = self._received()
        if order is None:
            raise BrokenPipeError
        rule, without = order
        rules = RestoreRules(overwrite=Overwrite(rule), without=Without(without))
        self._maker = EntryRestore(rules, {}, lambda text: self._tell("warn", text))
        self._has_failed = False

    def run(self) -> None:
        """Answer every batch until the end, or until the parent is gone."""
        while True:
            message, fds = self._received()
            if message is None:
                return
            if not message:
                break
            try:
                self._make_batch(message, fds)
            except NoSpace as error:
                self._has_failed = True
                self._tell("full", (error.message, error.hint))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # noqa: BLE001  # the parent raises it
                self._has_failed = True
                self._tell("failed", f"{type(error).__name__} while a file was made: {error}")
            finally:
                for fd in fds:
                    os.close(fd)
            self._tell("done", None)
        counts = asdict(self._maker.outcome)
        counts["warnings"] = []  # which were told as they came
        self._maker.outcome = RestoreOutcome()
        counts["foreign_owners"] = self._maker.writer.foreign_owners
        self._tell("outcome", counts)

    def _received(self) -> tuple[tuple[Any, ...] | None, list[int]]:
        data, fds, _flags, _address = socket.recv_fds(self._socket, _MESSAGE_BYTES_MAX, _FDS_MAX)
        return (marshal.loads(data) if data else None), fds  # noqa: S302  # written by our parent

    def _tell(self, kind: str, value: Any) -> None:
        self._socket.sendall(marshal.dumps((kind, value)))

    def _make_batch(self, message: tuple[Any, ...], fds: list[int]) -> None:
        slot, groups = message
        maker = self._maker
        at = slot * _SLOT_BYTES
        for (path, files), fd in zip(groups, fds, strict=True):
            prefix = path + b"/" if path else b""
            for name, start, size, stat in files:
                content = self._memory[at : at + size]
                at += size
                if self._has_failed:
                    continue
                maker.path = prefix + name
                metadata = Metadata(Stat(*stat))
                entry = Entry(name, Kind.FILE, metadata, start, start, -1, size)
                self._make(entry, fd, content)
        elsewhere = maker.elsewhere
        while elsewhere:
            self._tell("elsewhere", elsewhere.popitem())

    def _make(self, entry: Entry, dir_fd: int, content: memoryview) -> None:
        def pieces() -> Iterator[memoryview]:
            return iter((content,))

        try:
            self._maker.file(entry, dir_fd, pieces)
        except OSError as error:
            self._maker.failed(error)
