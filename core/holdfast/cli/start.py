"""Where the program begins: two commands that a PostgreSQL server calls, then everything else.

`wal push` is called for every segment, so it starts without the command line's machinery when its
words are simple. Its exit code is 0 or 1. That of `wal get` is 0, 1 or 255, and 1 means "not in the
archive", on which a server ends its recovery as if all were well: whatever else goes wrong, even
before a command was understood, has to be 255.
"""

import gc
import os
import sys
from itertools import pairwise
from typing import Final

from holdfast.errors import HoldfastError

NOT_ARCHIVED: Final = 100  # what `wal get` returns inside the program
_GET_FAILED: Final = 255
_FAILED: Final = 1
_GC_AFTER: Final = 50_000  # loading a program makes many objects and no cycles


def main(words: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    words = sys.argv[1:] if words is None else words
    verb = _wal_verb(words)
    if verb == "get":
        return _get(words)
    if verb == "push":
        code = _push(words[2:]) if words[:2] == ["wal", "push"] else None
        return min(_whole_program(words), _FAILED) if code is None else code
    return _whole_program(words)


def entry() -> None:
    """Console script."""
    gc.set_threshold(_GC_AFTER)
    code = main()
    gc.freeze()  # nothing is left to be found among what the process takes along
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            from holdfast.cli.console import silence

            silence(stream)
    sys.exit(code)


def _wal_verb(words: list[str]) -> str:
    """`push` or `get` when that is what the words ask of `wal`; they may follow global options."""
    for word, following in pairwise(words):
        if word == "wal" and following in ("push", "get"):
            return following
    return ""


def _whole_program(words: list[str]) -> int:
    from holdfast.cli.main import main as run

    return run(words)


def _get(words: list[str]) -> int:
    try:
        code = _whole_program(words)
    except BaseException as error:  # noqa: BLE001  # 1 would end a recovery too early
        sys.stderr.write(f"holdfast: wal get: {type(error).__name__}: {error}\n")
        return _GET_FAILED
    return {0: 0, NOT_ARCHIVED: 1}.get(code, _GET_FAILED)


def _push(words: list[str]) -> int | None:
    """Push with simple words; None when they need the whole program."""
    stage: str | None = None
    paths = []
    takes_ready = False
    rest = iter(words)
    for word in rest:
        if word == "--stage":
            stage = next(rest, None)
        elif word == "--ready":
            takes_ready = True
        elif word.startswith("-"):
            return None
        else:
            paths.append(word)
    stage = stage or os.environ.get("HOLDFAST_WAL_STAGE")
    if len(paths) != 1 or not stage:
        return None
    try:
        from holdfast.postgres.wal_push import push

        push(stage, paths[0], takes_ready=takes_ready)
    except HoldfastError as error:
        hint = f"; {error.hint}" if error.hint else ""
        sys.stderr.write(f"holdfast: wal push: {error.message}{hint}\n")
        return _FAILED
    except Exception as error:  # noqa: BLE001  # one line in the server's log, no traceback
        sys.stderr.write(f"holdfast: wal push: {type(error).__name__}: {error}\n")
        return _FAILED
    return 0
