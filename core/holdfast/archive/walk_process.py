"""Walk a tree in a process of its own, so that walking and writing use two processors.

Both are pure Python and would share one interpreter lock as threads. The walker is a fresh
interpreter that loads only what a walk needs. Its standard input is a memory file: first the ring
for contents (walk_contents.py), then (root, patterns, all file systems, descriptor of the pipe for
credits). It answers on standard output with frames:

    u32 length, marshal of a batch (a list of events)     any number of times
    u32 length, marshal of "complete"                      the walk is complete
    u32 length, marshal of (kind, message, hint)          a HoldfastError

Marshal is fast and safe here since both ends are the same program. The walker only reads, so it is
killed when its reader is done with it; a reader that is killed itself takes the pipe along, and the
walker ends at its next write. A reader that sees the stream end early knows the walker died.
"""

import gc
import marshal
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

from holdfast import errors
from holdfast.archive.walk import Event, TreeWalk, WalkRules
from holdfast.archive.walk_contents import RING_BYTES, ContentReader, Contents
from holdfast.errors import BadRequest, HoldfastError, NotFound, Refused
from holdfast.host.files import explained
from holdfast.units import MIB

_LENGTH: Final = struct.Struct("<I")
_F_SETPIPE_SZ: Final = 1031
_COMPLETE: Final = "complete"
_KINDS: Final = {kind.kind: kind for kind in (BadRequest, NotFound, Refused)}
_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; "
    "from holdfast.archive.walk_process import walk_for_parent; walk_for_parent()"
)


class WalkProcess:
    """A walk that runs beside this process; use as a context manager.

    Attributes:
        contents: asks the walk for the contents of small files, and takes them.

    Raises:
        HoldfastError: the process cannot be started.
    """

    def __init__(self, root: bytes, rules: WalkRules) -> None:
        with explained("starting the process that walks the tree"):
            self._ring = os.memfd_create("holdfast-walk")
            self._reading, writing = os.pipe()
            credits_, self._credits = os.pipe()
            try:
                order = (root, rules.patterns, rules.all_file_systems, credits_)
                os.pwrite(self._ring, marshal.dumps(order), RING_BYTES)
                with suppress(OSError):  # only a matter of speed
                    _grow_pipe(writing)
                program = _PROGRAM.format(path=[entry for entry in sys.path if entry])
                self.pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-S", "-c", program],
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, credits_, credits_),  # inherited as it is
                        (os.POSIX_SPAWN_DUP2, self._ring, 0),
                        (os.POSIX_SPAWN_DUP2, writing, 1),
                    ],
                )
            except BaseException:
                self._close()
                raise
            finally:
                os.close(credits_)
                os.close(writing)
        self.contents = Contents(self._ring, self._credits)

    def _close(self) -> None:
        for fd in (self._reading, self._ring, self._credits):
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()
        with suppress(ProcessLookupError):  # it may wait for room in a pipe nobody reads any more
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def batches(self) -> Iterator[list[Event]]:
        """The events of TreeWalk.batches, with the same errors."""
        with os.fdopen(os.dup(self._reading), "rb", buffering=1 * MIB) as stream:
            while True:
                head = stream.read(_LENGTH.size)
                frame = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
                if not frame:
                    raise HoldfastError("the process that walks the tree ended early")
                message = marshal.loads(frame)  # noqa: S302  # written by our own process
                if isinstance(message, list):
                    yield message
                elif message == _COMPLETE:
                    return
                else:
                    kind, text, hint = message
                    raise _KINDS.get(kind, errors.HoldfastError)(text, hint=hint)


def _grow_pipe(fd: int) -> None:
    import fcntl

    fcntl.fcntl(fd, _F_SETPIPE_SZ, 1 * MIB)


def _send(message: list[Event] | tuple[str, str, str | None] | str) -> None:
    frame = marshal.dumps(message)
    data = memoryview(_LENGTH.pack(len(frame)) + frame)
    while data:
        data = data[os.write(1, data) :]


def walk_for_parent() -> None:
    """What the process runs: read the order, walk, answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the reader decides when to stop
    gc.disable()  # events hold no cycles
    with suppress(BrokenPipeError):
        try:
            size = os.fstat(0).st_size - RING_BYTES
            order = marshal.loads(os.pread(0, size, RING_BYTES))  # noqa: S302
            root, patterns, all_file_systems, credits_ = order
            rules = WalkRules(patterns=patterns, all_file_systems=all_file_systems)
            for batch in TreeWalk(root, rules, ContentReader(0, credits_)).batches():
                _send(batch)
        except HoldfastError as error:
            _send((error.kind, error.message, error.hint))
        except OSError as error:
            _send(("failed", f"{error.strerror or error} while walking the tree", None))
        else:
            _send(_COMPLETE)
