"""A process to walk in, started from the bare words of `holdfast backup`.

It loads what a walk needs while this one learns what the words mean.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.archive.walk_process import WalkProcess

_OTHERWISE: Final = frozenset({"--detach", "--read-only", "-h", "--help"})  # no walk begins here


@contextmanager
def ready_walk(name: str, words: Sequence[str]) -> "Iterator[WalkProcess | None]":
    """The process, when the command will want it; it ends with the context, whoever used it.

    Args:
        name: of the command.
        words: all others of the command line.
    """
    if (
        name != "backup"
        or not _OTHERWISE.isdisjoint(words)
        or os.environ.get("HOLDFAST_READ_ONLY")
        or not any(os.path.isdir(word.rpartition(":")[2]) for word in words)
    ):
        yield None
        return
    from holdfast.archive.walk_process import idle_walk

    with idle_walk() or nullcontext() as walk:
        yield walk
