"""A fresh interpreter beside this one, for a function of ours; it loads only what that needs."""

import os
import signal
import sys
from typing import Final

_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; from {module} import {function}; {function}({memory})"
)


def spawn(module: str, function: str, memory: int, *, stdin: int, stdout: int | None = None) -> int:
    """Run `function` of `module` in a process of its own; its pid (OSError).

    SIGINT, which a terminal sends to all, does not reach it: whoever started it decides when it ends.

    Args:
        module: where the function is found, by the same path as here.
        function: is called with `memory`.
        memory: a descriptor that the process has under the same number.
        stdin: what its standard input is.
        stdout: what its standard output is; None for the same as here.
    """
    path = [entry for entry in sys.path if entry]
    program = _PROGRAM.format(path=path, module=module, function=function, memory=memory)
    actions = [
        (os.POSIX_SPAWN_DUP2, memory, memory),  # inherited as it is
        (os.POSIX_SPAWN_DUP2, stdin, 0),
    ]
    if stdout is not None:
        actions.append((os.POSIX_SPAWN_DUP2, stdout, 1))
    options = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    words = [sys.executable, *options, "-c", program]
    return os.posix_spawn(
        sys.executable, words, os.environ, file_actions=actions, setsigmask=[signal.SIGINT]
    )
