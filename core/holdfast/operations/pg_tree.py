"""The trees of a base backup: data directory and tablespaces into a session, with list and digests.

A relation file that the parent has, too, is stored as `NAME.vcdiff`. Whether it is decided when its
directory is read, so that names stay in order; how many blocks it holds, zero to all, turns out
while it is read. Its size must be known before it goes into the archive, so a delta is put together
aside first.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import IO, Final

from holdfast.archive.file_content import ByteSink
from holdfast.archive.pxar import format as pxar
from holdfast.archive.split_tree import SplitTree
from holdfast.archive.tree_frames import Frame
from holdfast.archive.tree_reading import TreeReading
from holdfast.archive.walk import BEGIN, END, FILE, Event, head_of, open_root
from holdfast.datastore.session import BackupSession
from holdfast.datastore.stream_writer import StreamWriter
from holdfast.errors import DamagedData
from holdfast.host.files import as_holdfast_error
from holdfast.operations.progress import Progress
from holdfast.postgres.backup_record import BLOCK_MAP, FILE_LIST
from holdfast.postgres.byte_source import FileSource
from holdfast.postgres.changed_blocks import by_lsn, same_digests, taken_over
from holdfast.postgres.data_directory import DELTA_SUFFIX, Found, Kind
from holdfast.postgres.file_list import DIGEST_BYTES, Form, ListedFile
from holdfast.postgres.native_incremental import read_header, windows
from holdfast.postgres.pages import PAGE_BYTES
from holdfast.postgres.relation_reader import PIECE_BYTES, PageCheck, RelationReader
from holdfast.postgres.vcdiff.encode import DeltaWriter
from holdfast.shown import printable
from holdfast.units import KIB, MIB

_LIST_CHUNK: Final = 256 * KIB
_MEMORY_BYTES: Final = 32 * MIB  # a larger delta is put together in a temporary file
_PIECE_BLOCKS: Final = PIECE_BYTES // PAGE_BYTES
_PERMISSIONS: Final = 0o7777
_Compared = tuple[memoryview, list[bool], bytes]  # blocks, which the parent has, their digests


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """What a differential is relative to.

    Attributes:
        files: its list by path, directories left out.
        digests: gives the recorded digests of a file with pages.
        since_lsn: where it began, to decide by page LSN; None to decide by digest.
    """

    files: dict[bytes, ListedFile]
    digests: Callable[[ListedFile], bytes]
    since_lsn: int | None = None

    def is_delta(self, path: bytes, _size: int) -> bool:
        """Whether a file with pages is stored as a delta."""
        before = self.files.get(path)
        return before is not None and before.digest_at is not None and before.size > 0


@dataclass(slots=True)
class Counters:
    """What went into the trees."""

    files: int = 0
    bytes: int = 0
    blocks: int = 0
    sent_blocks: int = 0
    changed_files: int = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class ClusterTrees:
    """Writes the archives of one base backup and the two streams that go with them."""

    session: BackupSession
    progress: Progress
    warnings: list[str]
    parent: Parent | None = None
    check: PageCheck | None = None
    counters: Counters = field(default_factory=Counters)
    ahead: Executor | None = None
    _list: StreamWriter = field(init=False)
    _map: StreamWriter = field(init=False)

    def __post_init__(self) -> None:
        self._list = self.session.stream(FILE_LIST, chunk_mean=_LIST_CHUNK)
        self._map = self.session.stream(BLOCK_MAP, chunk_mean=_LIST_CHUNK)

    def archive(
        self, stem: str, root: str, scan: Iterable[Found], *, is_listed: bool = True
    ) -> int:
        """One tree, as `STEM.pxar`; how many bytes it has (HoldfastError).

        Args:
            stem: of the archive's name.
            root: directory that the scan walks.
            scan: what belongs into it.
            is_listed: WAL does not stand in the list of files.
        """
        payload = self.session.stream(f"{stem}.ppxar.didx")
        meta = self.session.stream(f"{stem}.mpxar.didx")
        reading = _Reading(self, payload, is_listed=is_listed)
        root_fd = open_root(os.fsencode(root))
        tree = SplitTree(meta, payload, root_fd, reading)
        try:
            tree.consume(self._events(scan, reading, is_listed=is_listed))
            tree.close()
        finally:
            tree.release()
            os.close(root_fd)
            reading.close()
        return payload.close().size_bytes + meta.close().size_bytes

    def close(self) -> None:
        """Finish list and block map (HoldfastError)."""
        self._list.close()
        self._map.close()

    def _events(
        self, scan: Iterable[Found], reading: "_Reading", *, is_listed: bool
    ) -> Iterator[list[Event]]:
        """The scan as a walk's events, one at a time: reading follows step by step."""
        for found in scan:
            info = found.info
            if info is None:
                yield [(END,)]
                continue
            head = head_of(found.name, info, 0)
            if found.kind is Kind.BEGIN:
                if is_listed:
                    mode = info.st_mode & _PERMISSIONS
                    self.listed(
                        ListedFile(found.path, Form.DIRECTORY, mode, max(info.st_mtime_ns, 0))
                    )
                yield [(BEGIN, found.name, head, info.st_dev, info.st_ino)]
            else:
                reading.next_file = found
                size, inode, ctime = info.st_size, info.st_ino, info.st_ctime_ns
                yield [(FILE, found.name, head, size, None, inode, ctime)]

    def listed(self, file: ListedFile) -> None:
        """Add a line to the list."""
        self._list.write(file.encode())

    @property
    def digest_at(self) -> int:
        """Where the next digest goes."""
        return self._map.position

    def add_digests(self, digests: bytes) -> None:
        """Digests of the blocks that follow."""
        if digests:
            self._map.write(digests)


class _Reading(TreeReading):
    """Reads the files of one archive, whole or as deltas."""

    next_file: Found

    def __init__(self, trees: ClusterTrees, payload: StreamWriter, *, is_listed: bool) -> None:
        super().__init__(trees.progress, trees.warnings)
        self._trees = trees
        self._payload = payload
        self._is_listed = is_listed
        self._spool: IO[bytes] | None = None
        self._reader: RelationReader | None = None
        self._line: ListedFile | None = None

    @property
    def _parent(self) -> Parent:
        if self._trees.parent is None:
            raise AssertionError("a delta without a parent")
        return self._trees.parent

    def close(self) -> None:
        """Let go of the delta that is put together."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def open_described(self, frame: Frame, event: Event) -> tuple[int, Event] | None:
        """The file, and how many bytes will be stored; None when it was dropped meanwhile."""
        found, trees, stored_name = self.next_file, self._trees, event[1]
        is_delta = stored_name.endswith(DELTA_SUFFIX)
        name = stored_name.removesuffix(DELTA_SUFFIX) if is_delta else stored_name
        if found.incremental is not None:
            name = found.incremental
        try:
            fd = frame.open_file(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise as_holdfast_error(error, f"reading {printable(found.path)}") from error
        try:
            info = os.fstat(fd)
            mode, mtime = info.st_mode & _PERMISSIONS, max(info.st_mtime_ns, 0)
            self._line = ListedFile(found.path, Form.WHOLE, mode, mtime)
            if found.incremental is not None:
                size = self._make_named_delta(fd, self._line)
            else:
                self._reader = RelationReader(
                    fd, found.path, relation=found.relation, check=trees.check, whole_pages=is_delta
                )
                size = self._reader.size
                self._line = replace(self._line, size=size)
                if is_delta:
                    size = self._make_delta(self._reader, self._line)
        except OSError as error:
            os.close(fd)
            raise as_holdfast_error(error, f"reading {printable(found.path)}") from error
        except BaseException:
            os.close(fd)
            raise
        head = head_of(stored_name, info, 0)
        return fd, (FILE, stored_name, head, size, None, info.st_ino, info.st_ctime_ns)

    def copy(
        self, fd: int, event: Event, frame: Frame, sink: ByteSink, prefix: bytes = b""
    ) -> bool:
        """Write the record that `open_described` prepared, and the file's line."""
        size = event[3]
        try:
            sink.write(prefix + pxar.header(pxar.PAYLOAD, size))
            if self._spool is not None:
                self._copy_delta(self._spool, size, sink)
            else:
                self._copy_whole(sink)
        except OSError as error:
            raise as_holdfast_error(error, f"reading {printable(frame.path + event[1])}") from error
        finally:
            os.close(fd)
            self.close()
        if self._line is not None and self._is_listed:
            self._trees.listed(self._line)
        counters = self._trees.counters
        counters.files += 1
        counters.bytes += 0 if self._line is None else self._line.size
        return True

    def _copy_whole(self, sink: ByteSink) -> None:
        reader, trees = self._reader, self._trees
        if reader is None or self._line is None:
            raise AssertionError("nothing was opened")
        line, digest_at = self._line, None
        if reader.has_pages and reader.size and self._is_listed:
            digest_at = trees.digest_at
        for data, digests in reader.pieces(trees.ahead, digests=digest_at is not None):
            sink.write(data)
            trees.add_digests(digests)
            self.copied(len(data))
        if digest_at is not None:
            trees.counters.blocks += line.blocks
            trees.counters.sent_blocks += line.blocks
        trees.counters.changed_files += 1
        self._line = ListedFile(
            line.path, Form.WHOLE, line.mode, line.mtime_ns, line.size, reader.sha256(), digest_at
        )

    def _make_delta(self, reader: RelationReader, line: ListedFile) -> int:
        """Compare with the parent and put the delta aside; its size."""
        parent = self._parent
        before = parent.digests(parent.files[line.path])
        relation = self.next_file.relation
        since = parent.since_lsn if relation is not None and relation.is_main else None

        def compared() -> Iterator[_Compared]:
            step = _PIECE_BLOCKS * DIGEST_BYTES
            pieces = reader.pieces(self._trees.ahead, digests=since is None, before=before)
            for number, (data, digests) in enumerate(pieces):
                known = before[number * step : (number + 1) * step]
                if since is None:
                    yield data, same_digests(digests, known), digests
                else:
                    yield data, *by_lsn(data, known, since)

        size = self._put_aside(compared(), line)
        if since is None:
            self._line = replace(self._line or line, sha256=reader.sha256())
        return size

    def _make_named_delta(self, fd: int, line: ListedFile) -> int:
        """Put the blocks that the server named aside as a delta; its size (DamagedData)."""
        parent = self._parent
        known_line = parent.files.get(line.path)
        if known_line is None or not parent.is_delta(line.path, 0):
            raise DamagedData(
                printable(line.path), "the server sent a part of a file it sends whole"
            )
        before = parent.digests(known_line)
        source = FileSource(fd)
        header = read_header(source, PAGE_BYTES)

        def compared() -> Iterator[_Compared]:
            step = _PIECE_BLOCKS * DIGEST_BYTES
            pieces = windows(source, header, known_line.blocks, window_blocks=_PIECE_BLOCKS)
            for number, (data, unmodified) in enumerate(pieces):
                known = before[number * step : (number + 1) * step]
                yield data, unmodified, taken_over(data, known, unmodified)

        return self._put_aside(compared(), replace(line, size=header.target_blocks * PAGE_BYTES))

    def _put_aside(self, pieces: Iterable[_Compared], line: ListedFile) -> int:
        """Make a delta of blocks, whether the parent has them and their digests; its size."""
        trees, parent = self._trees, self._parent
        spool = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115  # closed in close()
        self._spool = spool
        writer = DeltaWriter(spool.write, PAGE_BYTES)
        digest_at, sent = trees.digest_at, 0
        for data, unmodified, digests in pieces:
            sent += writer.window(data, unmodified)
            trees.add_digests(digests)
            self.copied(len(data))
        writer.close()
        counters = trees.counters
        counters.blocks += line.blocks
        counters.sent_blocks += sent
        counters.changed_files += bool(sent) or line.size != parent.files[line.path].size
        self._line = replace(line, form=Form.DELTA, digest_at=digest_at, sent_blocks=sent)
        size = spool.tell()
        spool.seek(0)
        return size

    def _copy_delta(self, spool: IO[bytes], size: int, sink: ByteSink) -> None:
        while size:
            data = spool.read(min(size, PIECE_BYTES))
            if not data:
                raise AssertionError("a delta became shorter")
            sink.write(data)
            size -= len(data)
