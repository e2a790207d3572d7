"""Walk a tree in a process of its own, so that walking and writing use two processors.

Both are pure Python and would share one interpreter lock as threads. The walker is a fresh
interpreter that loads only what a walk needs (walk_beside.py); it can be started before it is known
what to walk, and this module loads little, so that the two load the rest at the same time. On its
standard input comes a frame, u32 length and marshal of (root, patterns, all file systems), then
numbers of free slots for contents (walk_contents.py). It answers on standard output with frames:

    u32 length, marshal of a batch (a list of events)     any number of times
    u32 length, marshal of "complete"                      the walk is complete
    u32 length, marshal of (kind, message, hint)          a HoldfastError

Marshal is fast and safe here since both ends are the same program. The walker only reads, so it is
killed when its reader is done with it; a reader that is killed itself takes the pipe along, and the
walker ends at its next write. A reader that sees the stream end early knows the walker died.
"""

import marshal
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self

from holdfast import errors
from holdfast.archive.walk_ring import RING_BYTES, Contents
from holdfast.errors import BadRequest, HoldfastError, NotFound, Refused
from holdfast.host import interpreter
from holdfast.host.files import explained
from holdfast.units import MIB

if TYPE_CHECKING:
    from holdfast.archive.walk import Event
    from holdfast.archive.walk_rules import WalkRules

LENGTH: Final = struct.Struct("<I")
_F_SETPIPE_SZ: Final = 1031
COMPLETE: Final = "complete"
_WALKER: Final = "holdfast.archive.walk_beside"
_WALK: Final = "walk_for_parent"
_KINDS: Final = {kind.kind: kind for kind in (BadRequest, NotFound, Refused)}


class WalkProcess:
    """A walk that runs beside this process; use as a context manager.

    Attributes:
        contents: asks the walk for the contents of small files, and takes them.

    Raises:
        HoldfastError: the process cannot be started.
    """

    def __init__(self) -> None:
        what = "starting the process that walks the tree"
        with explained(what), ExitStack() as its_ends, ExitStack() as ours:
            self._reading, writing = os.pipe()
            ours.callback(os.close, self._reading)
            its_ends.callback(os.close, writing)
            told, self._telling = os.pipe()
            ours.callback(os.close, self._telling)
            its_ends.callback(os.close, told)
            ring = os.memfd_create("holdfast-walk")
            self.contents = Contents(ring, self._tell)
            ours.callback(self.contents.close)
            os.ftruncate(ring, RING_BYTES)
            with suppress(OSError):  # only a matter of speed
                _grow_pipe(writing)
            self.pid = interpreter.spawn(_WALKER, _WALK, ring, stdin=told, stdout=writing)
            ours.callback(self._end)
            self._held = ours.pop_all()

    def begin(self, root: bytes, rules: "WalkRules") -> None:
        """Say what to walk; once (HoldfastError: the process is gone)."""
        with explained("starting to walk the tree"):
            order = framed((root, rules.patterns, rules.all_file_systems))
            while order:
                order = order[os.write(self._telling, order) :]

    def _tell(self, slots: bytes) -> None:
        with suppress(BrokenPipeError):  # the walk is complete, or it died: its stream says which
            os.write(self._telling, slots)

    def close(self) -> None:
        """End the walk, wherever it is; once more does nothing."""
        self._held.close()

    def _end(self) -> None:
        with suppress(ProcessLookupError):  # it may wait for room in a pipe nobody reads any more
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def batches(self) -> "Iterator[list[Event]]":
        """The events of TreeWalk.batches, with the same errors."""
        with os.fdopen(os.dup(self._reading), "rb", buffering=1 * MIB) as stream:
            while True:
                head = stream.read(LENGTH.size)
                frame = stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
                if not frame:
                    raise HoldfastError("the process that walks the tree ended early")
                message = marshal.loads(frame)  # noqa: S302  # written by our own process
                if isinstance(message, list):
                    yield message
                elif message == COMPLETE:
                    return
                else:
                    kind, text, hint = message
                    raise _KINDS.get(kind, errors.HoldfastError)(text, hint=hint)


def idle_walk() -> WalkProcess | None:
    """A process ready to walk; None where no further process may be started."""
    try:
        return WalkProcess()
    except HoldfastError:
        return None


def _grow_pipe(fd: int) -> None:
    import fcntl

    fcntl.fcntl(fd, _F_SETPIPE_SZ, 1 * MIB)


def framed(message: Any) -> memoryview:
    frame = marshal.dumps(message)
    return memoryview(LENGTH.pack(len(frame)) + frame)
