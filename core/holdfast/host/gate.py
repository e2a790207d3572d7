"""Where tests let faults in: every effect on a disk asks the gate first.

Fault model. A test installs a function that is called before each effect with the call's name
("open", "write", "fsync", "rename", ...) and the path it works on. The function may
  - return None: the effect happens as usual;
  - return a number, for "write" only: at most so many bytes are written by this call (short write);
  - raise OSError: the effect did not happen (EIO, ENOSPC, EMFILE, ...);
  - end the process: power loss as seen by later processes, since what was written before stays.
What the model cannot do: reorder or tear what the kernel has accepted. Nothing is installed outside
of tests, and then a gate costs one comparison.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Gate = Callable[[str, object], int | None]

active: Gate | None = None


@contextmanager
def installed(function: Gate) -> Iterator[None]:
    """Let `function` decide about every effect inside the block."""
    global active  # noqa: PLW0603  # one process, one disk
    before, active = active, function
    try:
        yield
    finally:
        active = before
