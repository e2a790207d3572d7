"""Walk a tree in a process of its own, so that walking and writing use two processors.

Both are pure Python and would share one interpreter lock as threads. The walker is a fresh
interpreter that loads only what a walk needs; it can be started before it is known what to walk. On
its standard input comes a frame, u32 length and marshal of (root, patterns, all file systems), then
credits for contents (walk_contents.py). It answers on standard output with frames:

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
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Self

from holdfast import errors
from holdfast.archive.walk import Event, TreeWalk, WalkRules
from holdfast.archive.walk_contents import RING_BYTES, ContentReader, Contents
from holdfast.errors import BadRequest, HoldfastError, NotFound, Refused
from holdfast.host import interpreter
from holdfast.host.files import explained
from holdfast.units import MIB

_LENGTH: Final = struct.Struct("<I")
_F_SETPIPE_SZ: Final = 1031
_COMPLETE: Final = "complete"
_KINDS: Final = {kind.kind: kind for kind in (BadRequest, NotFound, Refused)}


class WalkProcess:
    """A walk that runs beside this process; use as a context manager.

    Attributes:
        contents: asks the walk for the contents of small files, and takes them.

    Raises:
        HoldfastError: the process cannot be started.
    """

    def __init__(self) -> None:
        with explained("starting the process that walks the tree"):
            self._ring = os.memfd_create("holdfast-walk")
            os.ftruncate(self._ring, RING_BYTES)
            self._reading, writing = os.pipe()
            told, self._telling = os.pipe()
            try:
                with suppress(OSError):  # only a matter of speed
                    _grow_pipe(writing)
                self.pid = interpreter.spawn(
                    __name__, walk_for_parent.__name__, self._ring, stdin=told, stdout=writing
                )
            except BaseException:
                self._close()
                raise
            finally:
                os.close(told)
                os.close(writing)
        self.contents = Contents(self._ring, self._telling)

    def begin(self, root: bytes, rules: WalkRules) -> None:
        """Say what to walk; once (HoldfastError: the process is gone)."""
        with explained("starting to walk the tree"):
            order = _framed((root, rules.patterns, rules.all_file_systems))
            while order:
                order = order[os.write(self._telling, order) :]

    def _close(self) -> None:
        for fd in (self._reading, self._ring, self._telling):
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


def _framed(message: Any) -> memoryview:
    frame = marshal.dumps(message)
    return memoryview(_LENGTH.pack(len(frame)) + frame)


def _send(message: list[Event] | tuple[str, str, str | None] | str) -> None:
    data = _framed(message)
    while data:
        data = data[os.write(1, data) :]


def _order() -> tuple[bytes, WalkRules] | None:
    """What to walk, unbuffered: credits come behind it. None when nothing is wanted after all."""
    wanted, data = _LENGTH.size, b""
    is_length = True
    while len(data) < wanted:
        piece = os.read(0, wanted - len(data))
        if not piece:
            return None
        data += piece
        if is_length and len(data) == wanted:
            wanted, data, is_length = _LENGTH.unpack(data)[0], b"", False
    root, patterns, all_file_systems = marshal.loads(data)  # noqa: S302  # written by our parent
    return root, WalkRules(patterns=patterns, all_file_systems=all_file_systems)


def walk_for_parent(ring: int) -> None:
    """What the process runs: read the order, walk, answer; `ring` is the memory for contents."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the reader decides when to stop
    gc.disable()  # events hold no cycles
    with suppress(BrokenPipeError):
        order = _order()
        if order is None:
            return
        try:
            for batch in TreeWalk(*order, ContentReader(ring, 0)).batches():
                _send(batch)
        except BrokenPipeError:
            raise
        except HoldfastError as error:
            _send((error.kind, error.message, error.hint))
        except OSError as error:
            _send(("failed", f"{error.strerror or error} while walking the tree", None))
        else:
            _send(_COMPLETE)
