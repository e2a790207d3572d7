"""Which files of a data directory belong into a base backup, in the order of an archive.

What the server makes anew or must not find again is left out; directories it empties are kept,
since it does not start without some of them. Source: PostgreSQL, backup/basebackup.c and the
manual's chapter on continuous archiving.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from holdfast.errors import DamagedData
from holdfast.shown import printable

CONTROL: Final = b"global/pg_control"
TABLESPACES: Final = b"pg_tblspc"
VISIBILITY_FORK: Final = b"_vm"
DELTA_SUFFIX: Final = b".vcdiff"
LEFT_OUT: Final = frozenset(
    {
        b"postgresql.auto.conf.tmp",
        b"current_logfiles.tmp",
        b"backup_label",
        b"tablespace_map",
        b"backup_manifest",
        b"postmaster.pid",
        b"postmaster.opts",
    }
)
INCREMENTAL_PREFIX: Final = b"INCREMENTAL."
_LEFT_OUT_PREFIXES: Final = (b"pg_internal.init", b"pgsql_tmp", b"core.")
EMPTIED: Final = frozenset(
    {
        b"pg_wal",
        b"pg_stat_tmp",
        b"pg_replslot",
        b"pg_dynshmem",
        b"pg_notify",
        b"pg_serial",
        b"pg_snapshots",
        b"pg_subtrans",
    }
)
_EMPTY_BELOW_WAL: Final = frozenset({b"pg_wal/archive_status", b"pg_wal/summaries"})
_RELATION: Final = re.compile(
    rb"(?P<temporary>t\d+_)?(?P<node>\d+)(?P<fork>_fsm|_vm|_init)?(?:\.(?P<segment>\d+))?"
)
_DATABASE: Final = re.compile(rb"global|base/\d+|(?:pg_tblspc/\d+/)?PG_[^/]+/\d+")
_PAGE_BYTES: Final = 8192


class Kind(Enum):
    """What the scan met."""

    BEGIN = "directory begins"
    END = "directory ends"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class RelationName:
    """The name of a file with pages.

    Attributes:
        fork: empty for the main fork, else `_fsm`, `_vm` or `_init`.
        segment: which piece of a large relation.
    """

    node: bytes
    fork: bytes
    segment: int
    is_temporary: bool

    @property
    def is_main(self) -> bool:
        return not self.fork


@dataclass(frozen=True, slots=True)
class Found:
    """One step of the scan.

    Attributes:
        path: from the data directory, without a slash at either end; empty for the root.
        name: how it is stored; for a file to be stored as a delta with `.vcdiff` behind.
        info: of the file or directory; None at the end of a directory.
        relation: what a file with pages is, None for any other.
        incremental: the name on the disk, when it holds only what the server says has changed.
    """

    kind: Kind
    path: bytes
    name: bytes
    info: os.stat_result | None
    relation: RelationName | None = None
    incremental: bytes | None = None


def relation_name(path: bytes) -> RelationName | None:
    """What the file at `path` is, None when it is no relation's."""
    directory, _slash, name = path.rpartition(b"/")
    match = _RELATION.fullmatch(name)
    if match is None or _DATABASE.fullmatch(directory) is None:
        return None
    return RelationName(
        match["node"], match["fork"] or b"", int(match["segment"] or 0), bool(match["temporary"])
    )


def has_pages(relation: RelationName | None, size: int) -> bool:
    """Whether a file is compared block by block."""
    return relation is not None and size > 0 and size % _PAGE_BYTES == 0


class Scan:
    """Walks a data directory, or one tablespace.

    Args:
        root: the directory to read.
        prefix: what paths begin with, such as `pg_tblspc/16400`; empty for the data directory.
        only: names of the root to look at; None for all. A tablespace holds one directory for
            every version of the server that used it.
        is_delta: whether a file with pages will be stored as a delta.
        skipped_directories: paths to keep as empty directories, such as that of the server's log.
        is_native: whether `INCREMENTAL.NAME` stands for what has changed of the file NAME.
        warn: takes a sentence on what cannot be stored.
    """

    def __init__(
        self,
        root: str,
        *,
        prefix: bytes = b"",
        only: frozenset[bytes] | None = None,
        is_delta: Callable[[bytes, int], bool] = lambda _path, _size: False,
        skipped_directories: frozenset[bytes] = frozenset(),
        is_native: bool = False,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._root = os.fsencode(root)
        self._prefix = prefix
        self._only = only
        self._is_delta = is_delta
        self._skipped = skipped_directories | _EMPTY_BELOW_WAL
        self._is_native = is_native
        self._warn = warn

    def __iter__(self) -> Iterator[Found]:
        """All directories and files, names in ascending order (OSError for the root)."""
        yield from self._directory(self._root, self._prefix, b"", os.stat(self._root))

    def _directory(
        self, real: bytes, path: bytes, name: bytes, info: os.stat_result
    ) -> Iterator[Found]:
        yield Found(Kind.BEGIN, path, name, info)
        for child in self._children(real, path):
            if child.kind is Kind.BEGIN and child.info is not None:
                below = os.path.join(real, child.name)
                yield from self._directory(below, child.path, child.name, child.info)
            else:
                yield child
        yield Found(Kind.END, path, name, None)

    def _children(self, real: bytes, path: bytes) -> list[Found]:
        is_top = not path
        if path in self._skipped or path in EMPTIED:
            return [*self._archive_status(real, path)]
        try:
            names = os.listdir(real)
        except FileNotFoundError:
            return []  # dropped meanwhile
        if real == self._root and self._only is not None:
            names = [name for name in names if name in self._only]
        found = []
        unlogged = self._unlogged(path, names)
        for name in names:
            if name in LEFT_OUT or name.startswith(_LEFT_OUT_PREFIXES) or name == b"core":
                continue
            below = path + b"/" + name if path else name
            step = self._look(real, below, name, unlogged, is_top=is_top)
            if step is not None:
                found.append(step)
        if self._is_native and len({step.path for step in found}) < len(found):
            raise DamagedData(printable(path), "the server sent a file both whole and in part")
        found.sort(key=lambda step: step.name)
        return found

    def _archive_status(self, real: bytes, path: bytes) -> Iterator[Found]:
        """The directories inside of pg_wal, empty: the server does not make them all."""
        if path != b"pg_wal":
            return
        for below in sorted(_EMPTY_BELOW_WAL):
            name = os.path.basename(below)
            try:
                info = os.stat(os.path.join(real, name))
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                yield Found(Kind.BEGIN, below, name, info)

    def _unlogged(self, path: bytes, names: list[bytes]) -> frozenset[bytes]:
        """Relations of which only the init fork is worth keeping."""
        if _DATABASE.fullmatch(path) is None:
            return frozenset()
        matches = (_RELATION.fullmatch(name) for name in names)
        return frozenset(m["node"] for m in matches if m is not None and m["fork"] == b"_init")

    def _look(
        self, real: bytes, path: bytes, name: bytes, unlogged: frozenset[bytes], *, is_top: bool
    ) -> Found | None:
        try:
            info = os.lstat(os.path.join(real, name))
        except FileNotFoundError:
            return None
        mode = info.st_mode
        if stat.S_ISREG(mode):
            return self._file(path, name, info, unlogged)
        if stat.S_ISLNK(mode):
            return self._link(os.path.join(real, name), path, name, is_top=is_top)
        if stat.S_ISDIR(mode):
            return Found(Kind.BEGIN, path, name, info)
        self._warn(f"{printable(path)}: neither file nor directory; left out")
        return None

    def _file(
        self, path: bytes, name: bytes, info: os.stat_result, unlogged: frozenset[bytes]
    ) -> Found | None:
        if path == CONTROL:
            return None  # stored at the very end
        if self._is_native and name.startswith(INCREMENTAL_PREFIX):
            plain = name.removeprefix(INCREMENTAL_PREFIX)
            whole_path = path.removesuffix(name) + plain
            relation = relation_name(whole_path)
            if relation is not None:
                if relation.fork == VISIBILITY_FORK:
                    return None  # bits cleared since are missing; the server makes a new map
                return Found(Kind.FILE, whole_path, plain + DELTA_SUFFIX, info, relation, name)
        if name.endswith(DELTA_SUFFIX):
            self._warn(f"{printable(path)}: not a file of the server; left out")
            return None
        relation = relation_name(path)
        if relation is not None:
            is_emptied = relation.node in unlogged and relation.fork != b"_init"
            if relation.is_temporary or is_emptied:
                return None
            if has_pages(relation, info.st_size) and self._is_delta(path, info.st_size):
                name += DELTA_SUFFIX
        return Found(Kind.FILE, path, name, info, relation)

    def _link(self, real: bytes, path: bytes, name: bytes, *, is_top: bool) -> Found | None:
        """A symbolic link: an emptied directory that lies elsewhere, or a tablespace."""
        if is_top and name in EMPTIED:
            try:
                return Found(Kind.BEGIN, path, name, os.stat(real))
            except OSError:
                return None
        if path.startswith(TABLESPACES + b"/"):
            return None  # an archive of its own
        self._warn(f"{printable(path)}: a symbolic link that the server did not make; left out")
        return None
