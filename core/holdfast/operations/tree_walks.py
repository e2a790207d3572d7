"""The walks of a backup's trees, begun before anything heavy is loaded or opened."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Self

from holdfast.archive.walk_process import WalkProcess
from holdfast.errors import HoldfastError
from holdfast.operations.backup_spec import Spec, SpecKind

if TYPE_CHECKING:
    from holdfast.archive.walk import Event, WalkRules
    from holdfast.archive.walk_ring import Contents


class Walker(Enum):
    """Where trees are walked."""

    PROCESS = "process"  # beside this one: faster from a few thousand files on
    HERE = "here"


def idle_walk() -> WalkProcess | None:
    """A process ready to walk; None where no further process may be started."""
    try:
        return WalkProcess()
    except HoldfastError:
        return None


class TreeWalks:
    """Every tree's walk, under way; use as a context manager.

    Attributes:
        rules: which parts of trees.
    """

    def __init__(
        self,
        specs: Iterable[Spec],
        rules: "WalkRules",
        walker: Walker,
        *,
        ready: WalkProcess | None = None,
    ) -> None:
        """Begin, the first walk in the process that is `ready` for it, which the caller closes."""
        self.rules = rules
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
                if process is not None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._held.close()
