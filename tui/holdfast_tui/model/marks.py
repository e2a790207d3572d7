"""What of a tree is marked: decisions about paths, each of which counts for all below it; pure."""

from collections import Counter
from collections.abc import Iterator
from enum import Enum


class Marked(Enum):
    ALL = "*"
    SOME = "/"
    NONE = " "


class PathMarks:
    """Marked and unmarked paths of one archive; a directory's mark holds for what is in it."""

    def __init__(self) -> None:
        self._decisions: dict[bytes, bool] = {}
        self._below: Counter[bytes] = Counter()  # decisions below a directory

    def __bool__(self) -> bool:
        return any(self._decisions.values())

    def __len__(self) -> int:
        """Paths that were marked themselves."""
        return sum(self._decisions.values())

    @property
    def decisions(self) -> dict[bytes, bool]:
        """Every path something was decided about: taken (True) or left out again (False)."""
        return dict(self._decisions)

    def is_marked(self, path: bytes) -> bool:
        """Whether it will be restored: by the nearest decision on its way to the root."""
        decided = self._decisions.get(path)
        if decided is not None:
            return decided
        return self._inherited(path)

    def state(self, path: bytes) -> Marked:
        """For a row: all of it, some of it, nothing."""
        if not self._decisions:
            return Marked.NONE
        if self._below.get(path):
            return Marked.SOME
        return Marked.ALL if self.is_marked(path) else Marked.NONE

    def set(self, path: bytes, *, marked: bool) -> None:
        """Decide about a path and everything below it."""
        if self._below.get(path):
            head = path + b"/"
            for other in [one for one in self._decisions if one.startswith(head) or not path]:
                if other != path:
                    self._forget(other)
        self._forget(path)
        if self._inherited(path) != marked:
            self._decisions[path] = marked
            for directory in _above(path):
                self._below[directory] += 1

    def toggle(self, path: bytes) -> None:
        """Not all of it marked: mark all; else nothing."""
        self.set(path, marked=self.state(path) is not Marked.ALL)

    def clear(self) -> None:
        self._decisions.clear()
        self._below.clear()

    def _forget(self, path: bytes) -> None:
        if self._decisions.pop(path, None) is not None:
            for directory in _above(path):
                self._below[directory] -= 1
                if not self._below[directory]:
                    del self._below[directory]

    def _inherited(self, path: bytes) -> bool:
        for directory in _above(path):
            decided = self._decisions.get(directory)
            if decided is not None:
                return decided
        return False


def _above(path: bytes) -> Iterator[bytes]:
    """Directories above a path, nearest first, the root (empty) last."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path
