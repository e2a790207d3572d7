"""The walks of a backup's trees, begun before anything heavy is loaded or opened."""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Self

from holdfast.archive.walk_process import WalkProcess, idle_walk
from holdfast.archive.walk_rules import WalkRules
from holdfast.operations.backup_spec import Spec, SpecKind

if TYPE_CHECKING:
    from holdfast.archive.walk import Event
    from holdfast.archive.walk_ring import Contents


class Walker(Enum):
    """Where trees are walked."""

    PROCESS = "process"  # beside this one: faster from a few thousand files on
    HERE = "here"


class TreeWalks:
    """Every tree's walk, under way; use as a context manager.

    Attributes:
        pids: of the processes that walk.
    """

    def __init__(
        self,
        specs: Iterable[Spec],
        rules: WalkRules,
        walker: Walker,
        *,
        ready: WalkProcess | None = None,
    ) -> None:
        """Begin, the first walk in the process that is `ready` for it, if there is one."""
        self.pids: list[int] = []
        self._begun_s = time.monotonic()
        self._held = ExitStack()
        self._events: dict[str, Iterable[list[Event]]] = {}
        self._contents: dict[str, Contents] = {}
        with ExitStack() as stack:
            for spec in specs:
                if spec.kind is not SpecKind.TREE:
                    continue
                root = os.fsencode(spec.path)
                process, ready = ready, None
                if process is None and walker is Walker.PROCESS:
                    process = idle_walk()
                if process is not None:
                    stack.enter_context(process)
                    self.pids.append(process.pid)
                    process.begin(root, rules)
                    self._events[spec.name] = process.batches()
                    self._contents[spec.name] = process.contents
                else:
                    from holdfast.archive.walk import TreeWalk

                    self._events[spec.name] = TreeWalk(root, rules).batches()
            self._held = stack.pop_all()

    def events(self, spec: Spec) -> "Iterable[list[Event]]":
        """The walk of one tree; can be gone through once."""
        return self._events[spec.name]

    def contents(self, spec: Spec) -> "Contents | None":
        """How to get contents along with the walk; None where the walk cannot read them."""
        return self._contents.get(spec.name)

    def want_contents(self) -> None:
        """Have the first walk read small files from now on: none of the trees was backed up before."""
        first = next(iter(self._contents.values()), None)
        if first is not None:
            first.want()

    def age_s(self) -> float:
        """How long ago the walks began: what they say may be as old as that."""
        return time.monotonic() - self._begun_s

    def close(self) -> None:
        """End the walks, wherever they are; once more does nothing."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()
