"""What tar and zip export have in common: where output goes, and which name comes first.

A file with several names is written once in the order of the export; the others become links to
it (tar) or copies (zip). That also holds when the first name lies outside the exported part.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Buffer, Entry
from holdfast.errors import DamagedData, NotFound
from holdfast.shown import printable

Warn = Callable[[str], None]


class Output(Protocol):
    """A place for bytes that cannot be gone back in."""

    def write(self, data: Buffer, /) -> object: ...


class Exported(NamedTuple):
    """One entry to write.

    Attributes:
        path: relative to the exported directory's parent; `.` for the whole archive.
        entry: a hard link is replaced by the file it leads to.
        same_as: path of an entry written before that is the same file.
    """

    path: bytes
    entry: Entry
    same_as: bytes | None = None


def find_top(accessor: Accessor, path: bytes) -> Entry:
    """The entry to export (NotFound, BadRequest, DamagedData)."""
    top = accessor.lookup(path)
    if top is None:
        raise NotFound(
            f"the archive has no {printable(path)}", hint="`holdfast ls` shows what it has"
        )
    return top


def exported_entries(accessor: Accessor, top: Entry, warn: Warn) -> Iterator[Exported]:
    """`top` and everything below, by name; entries that must not be restored only warn."""
    written: dict[int, bytes] = {}
    for step in accessor.walk(top, top.name):
        if step.leaving:
            continue
        entry = step.entry
        if entry.problem is not None:
            warn(f"{printable(step.path)} is left out: {entry.problem}")
            continue
        if entry.kind is Kind.HARDLINK:
            try:
                entry = accessor.resolve_hardlink(entry)
            except DamagedData as damage:
                warn(f"{printable(step.path)} is left out: {damage.reason}")
                continue
        path = step.path or b"."
        if entry.kind is not Kind.FILE:
            yield Exported(path, entry)
            continue
        yield Exported(path, entry, written.get(entry.start))
        written.setdefault(entry.start, path)
