"""What differs between two archives: added, removed, modified, or only the metadata.

Both trees are walked side by side in the order of names, reading entries, not contents. A content
counts as unchanged when size and modification time are the same, or when it lies in the same
chunks at the same places. Only where the time alone differs contents are read and compared, unless
`Contents.READ` asks for certainty about all of them.
"""

from collections.abc import Callable, Iterator
from enum import Enum, StrEnum
from itertools import zip_longest
from operator import attrgetter
from typing import NamedTuple, TypeVar

from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Entry
from holdfast.archive.pxar.streams import Content

T = TypeVar("T")


class Change(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    METADATA = "metadata"  # the content is the same


class Contents(Enum):
    """How far to believe that a file did not change."""

    TRUST_TIMES = "trust-times"
    READ = "read"


class Difference(NamedTuple):
    """One path that is not the same on both sides; None on the side that has none."""

    path: bytes
    change: Change
    before: Entry | None
    after: Entry | None


SameChunks = Callable[[Entry, Entry], bool]
"""Whether two contents lie in the same chunks at the same places; False when not known."""


class Comparison:
    """Two archives side by side."""

    def __init__(
        self,
        before: Accessor,
        after: Accessor,
        *,
        same_chunks: SameChunks | None = None,
        contents: Contents = Contents.TRUST_TIMES,
    ) -> None:
        self._before = before
        self._after = after
        self._same_chunks = same_chunks
        self._contents = contents

    def differences(self) -> Iterator[Difference]:
        """All differences in the order of paths (DamagedData)."""
        roots = self._change(self._before.root, self._after.root)
        if roots is not None:
            yield Difference(b"", roots, self._before.root, self._after.root)
        waiting = [(b"", self._pairs(self._before.root, self._after.root))]
        while waiting:
            here, pairs = waiting[-1]
            pair = next(pairs, None)
            if pair is None:
                waiting.pop()
                continue
            old, new = pair
            one = new if new is not None else old
            assert one is not None
            path = here + b"/" + one.name if here else one.name
            change = self._change(old, new)
            if change is not None:
                yield Difference(path, change, old, new)
            if _is_directory(old) or _is_directory(new):
                waiting.append((path, self._pairs(old, new)))

    def _pairs(
        self, old: Entry | None, new: Entry | None
    ) -> Iterator[tuple[Entry | None, Entry | None]]:
        """The children of two directories, matched by name."""
        left = self._before.children(old) if old is not None and _is_directory(old) else []
        right = self._after.children(new) if new is not None and _is_directory(new) else []
        return _matched(left, right)

    def _change(self, old: Entry | None, new: Entry | None) -> Change | None:
        if old is None:
            return Change.ADDED
        if new is None:
            return Change.REMOVED
        if old.kind is Kind.HARDLINK:
            old = self._before.resolve_hardlink(old)
        if new.kind is Kind.HARDLINK:
            new = self._after.resolve_hardlink(new)
        if old.kind is not new.kind or old.device != new.device or old.target != new.target:
            return Change.MODIFIED
        if old.kind is Kind.FILE and not self._has_same_content(old, new):
            return Change.MODIFIED
        return None if old.metadata == new.metadata else Change.METADATA

    def _has_same_content(self, old: Entry, new: Entry) -> bool:
        if old.size != new.size:
            return False
        if not old.size:
            return True
        assert old.metadata is not None
        assert new.metadata is not None
        same_time = (
            old.metadata.stat.mtime_s == new.metadata.stat.mtime_s
            and old.metadata.stat.mtime_ns == new.metadata.stat.mtime_ns
        )
        if same_time and self._contents is Contents.TRUST_TIMES:
            return True
        if self._same_chunks is not None and self._same_chunks(old, new):
            return True
        return same_bytes(self._before.content(old), self._after.content(new))


def same_bytes(left: Content, right: Content) -> bool:
    """Compare two contents of equal size piece by piece, as far as needed."""
    position = 0
    for piece in left.pieces():
        if bytes(right.read_at(position, len(piece))) != piece:
            return False
        position += len(piece)
    return True


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.DIRECTORY


def _matched(left: list[Entry], right: list[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Entries of two lists sorted by name; of equal names the first of each list are matched."""
    name = attrgetter("name")
    if [entry.name for entry in left] == [entry.name for entry in right]:
        yield from zip_longest(left, right)
        return
    others = iter(right)
    new = next(others, None)
    for old in left:
        while new is not None and name(new) < name(old):
            yield None, new
            new = next(others, None)
        if new is not None and new.name == old.name:
            yield old, new
            new = next(others, None)
        else:
            yield old, None
    while new is not None:
        yield None, new
        new = next(others, None)
