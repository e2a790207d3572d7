"""The walks of a backup's trees, begun before anything heavy is loaded or opened."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from enum import Enum
from types import TracebackType
from typing import Self

from holdfast.archive.walk import Event, TreeWalk, WalkRules
from holdfast.archive.walk_process import WalkProcess
from holdfast.operations.backup_spec import Spec, SpecKind


class Walker(Enum):
    """Where trees are walked."""

    PROCESS = "process"  # beside this one: faster from a few thousand files on
    HERE = "here"


class TreeWalks:
    """Every tree's walk, under way; use as a context manager.

    Attributes:
        rules: which parts of trees.
    """

    def __init__(self, specs: Iterable[Spec], rules: WalkRules, walker: Walker) -> None:
        """Begin (HoldfastError: a process cannot be started)."""
        self.rules = rules
        self._held = ExitStack()
        self._events: dict[str, Iterable[list[Event]]] = {}
        with ExitStack() as stack:
            for spec in specs:
                if spec.kind is not SpecKind.TREE:
                    continue
                root = os.fsencode(spec.path)
                if walker is Walker.PROCESS:
                    process = stack.enter_context(WalkProcess(root, rules))
                    self._events[spec.name] = process.batches()
                else:
                    self._events[spec.name] = TreeWalk(root, rules).batches()
            self._held = stack.pop_all()

    def events(self, spec: Spec) -> Iterable[list[Event]]:
        """The walk of one tree; can be gone through once."""
        return self._events[spec.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._held.close()
