"""What the process that walks for another one runs (walk_process.py says how they speak)."""

import gc
import marshal
import os
from contextlib import suppress

from holdfast.archive.walk import Event, TreeWalk
from holdfast.archive.walk_contents import ContentReader
from holdfast.archive.walk_process import COMPLETE, LENGTH, framed
from holdfast.archive.walk_rules import WalkRules
from holdfast.errors import HoldfastError


def _send(message: list[Event] | tuple[str, str, str | None] | str) -> None:
    data = framed(message)
    while data:
        data = data[os.write(1, data) :]


def _order() -> tuple[bytes, WalkRules] | None:
    """What to walk, unbuffered: free slots come behind it. None when nothing is wanted after all."""
    wanted, data = LENGTH.size, b""
    is_length = True
    while len(data) < wanted:
        piece = os.read(0, wanted - len(data))
        if not piece:
            return None
        data += piece
        if is_length and len(data) == wanted:
            wanted, data, is_length = LENGTH.unpack(data)[0], b"", False
    root, patterns, all_file_systems = marshal.loads(data)  # noqa: S302  # written by our parent
    return root, WalkRules(patterns=patterns, all_file_systems=all_file_systems)


def walk_for_parent(ring: int) -> None:
    """What the process runs: read the order, walk, answer; `ring` is the memory for contents."""
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
            _send(COMPLETE)
