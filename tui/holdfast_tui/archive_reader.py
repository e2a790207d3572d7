"""Reads inside archives for the restore view: folders, paths, contents, what is damaged.

For threads only. An archive is opened once for browsing; a walk through the whole of it opens it
again, so that nobody waits. Every call into the engine is short and holds the archive's lock.
"""

import os
import stat
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from holdfast.archive.open import Archive, ArchiveKind, OpenSnapshot, Tree
from holdfast.archive.pxar.format import Kind
from holdfast.archive.pxar.items import Entry
from holdfast.datastore import key_files
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, KeyProblem, NotFound
from holdfast.ids import SnapshotId
from holdfast_tui.model.files import FileRow, FileTable
from holdfast_tui.reader import Reader, Room

_BATCH: Final = 512
_BREATH_S: Final = 0.002  # between batches, so that keys are answered while a million files come
_SPLIT_HEADER: Final = 16
_NANO: Final = 1_000_000_000

KeepGoing = Callable[[], bool]


def key_of(reader: Reader, store: str) -> EncryptionKey | None:
    """The key for a store's snapshots, if it is configured and needs no typing (KeyProblem)."""
    path = reader.key_path(store)
    if not path:
        return None
    key_file = key_files.load(path)
    if not key_file.has_passphrase:
        return key_file.unlock(None)
    secret = reader.keys.get(store, ("", b""))[1] or os.environb.get(b"HOLDFAST_PASSWORD")
    if not secret:
        raise KeyProblem(
            f"the key {path} has a passphrase",
            hint="i in Restore asks for it, or start holdfast with HOLDFAST_PASSWORD set",
        )
    return key_file.unlock(secret)


def needs_passphrase(path: str) -> bool:
    """Whether a key file wants one to be typed (NotFound, DamagedData: it is no key file)."""
    return key_files.load(path).has_passphrase


def check_key(path: str, passphrase: bytes) -> None:
    """Nothing happens when it is the right one (KeyProblem)."""
    key_files.load(path).unlock(passphrase)


def archives_of(reader: Reader, store: str, snapshot: SnapshotId) -> list[Archive]:
    """What a snapshot holds that can be restored (HoldfastError)."""
    with OpenSnapshot(reader.open(store), snapshot, _key_if_any(reader, store)) as opened:
        hidden = ("rsa-encrypted.key", "client.log")
        return [
            archive
            for archive in opened.archives()
            if archive.kind is not ArchiveKind.STREAM and archive.name not in hidden
        ]


def _key_if_any(reader: Reader, store: str) -> EncryptionKey | None:
    try:
        return key_of(reader, store)
    except (KeyProblem, NotFound):
        return None  # whoever needs it says so


class ArchiveReader:
    """One archive of one snapshot, open for browsing.

    Attributes:
        archive: what it is.
        problem: why some of it may not be readable; empty when nothing is known.
    """

    def __init__(self, reader: Reader, store: str, snapshot: SnapshotId, name: str) -> None:
        """Open it (NotFound, DamagedData, KeyProblem)."""
        self._open: Callable[[], OpenSnapshot] = lambda: OpenSnapshot(
            reader.open(store), snapshot, _key_if_any(reader, store)
        )
        self._store: Datastore = reader.open(store)
        self._lock = threading.Lock()
        self._opened = self._open()
        self.snapshot = snapshot
        self.archive = self._opened.find(name)
        self.is_tree = self.archive.kind is ArchiveKind.TREE
        self._tree: Tree | None = self._opened.tree(name) if self.is_tree else None
        self._bad: list[tuple[int, int]] = []  # stretches of the content stream, in order
        self._bad_ends: list[int] = []
        self.has_looked_for_damage = False

    @property
    def tree(self) -> Tree:
        if self._tree is None:
            raise AssertionError("an image or blob has no tree")
        return self._tree

    # Folders and paths ----------------------------------------------------------------------------

    def read_folder(self, path: bytes, table: FileTable, keep_going: KeepGoing) -> None:
        """Fill `table` with what is in the directory `path` (NotFound, DamagedData)."""
        tree = self.tree
        with self._lock:
            top = tree.accessor.lookup(path)
            if top is None or top.kind is not Kind.DIRECTORY:
                raise NotFound(f"{os.fsdecode(path)!r} is not in this snapshot")
        children = tree.accessor.each_child(top)
        while keep_going():
            with self._lock:
                batch = [self._resolved(entry) for entry in islice(children, _BATCH)]
            if not batch:
                table.is_complete = True
                return
            for entry, there in batch:
                self._add(table, entry.name, entry, there)
            _breathe(len(table))

    def has_folder(self, path: bytes) -> bool:
        """Whether the archive has this directory (DamagedData)."""
        with self._lock:
            entry = self.tree.accessor.lookup(path)
        return entry is not None and entry.kind is Kind.DIRECTORY

    def read_all(self, table: FileTable, keep_going: KeepGoing) -> None:
        """Fill `table` with every path of the archive (DamagedData)."""
        with self._open() as opened:
            steps = opened.tree(self.archive.name).accessor.walk()
            next(steps, None)  # the root itself
            while keep_going():
                batch = list(islice(steps, _BATCH))
                if not batch:
                    table.is_complete = True
                    return
                for path, entry, leaving in batch:
                    if not leaving:
                        self._add(table, path, entry, entry)
                _breathe(len(table))

    def _resolved(self, entry: Entry) -> tuple[Entry, Entry]:
        """The entry, and for a hard link the file it is another name of."""
        if entry.kind is not Kind.HARDLINK:
            return entry, entry
        try:
            return entry, self.tree.accessor.resolve_hardlink(entry)
        except DamagedData:
            return entry, entry

    def _add(self, table: FileTable, name: bytes, entry: Entry, there: Entry) -> None:
        info = there.metadata.stat if there.metadata is not None else None
        table.add(
            name,
            entry.kind,
            there.size,
            info.mode if info is not None else 0,
            info.mtime_s * _NANO + info.mtime_ns if info is not None else 0,
            self._place(there),
        )

    def _place(self, entry: Entry) -> int:
        if entry.kind is not Kind.FILE or not entry.size:
            return -1
        return entry.payload + (_SPLIT_HEADER if len(self.tree.streams) > 1 else 0)

    # Contents -------------------------------------------------------------------------------------

    def content(self, row: FileRow, limit: int) -> bytes:
        """The first bytes of a file, or where a link leads (HoldfastError)."""
        with self._lock:
            entry = self.tree.accessor.lookup(row.path)
            if entry is None:
                raise NotFound("it is not in this snapshot")
            if entry.kind is Kind.HARDLINK:
                entry = self.tree.accessor.resolve_hardlink(entry)
            if entry.kind is not Kind.FILE:
                return entry.target
            content = self.tree.accessor.content(entry)
            return b"".join(bytes(piece) for piece in content.pieces(0, min(limit, entry.size)))

    def first_bytes(self, limit: int) -> bytes:
        """Of an image or blob (HoldfastError)."""
        with self._lock:
            if self.archive.kind is ArchiveKind.BLOB:
                return self._opened.blob(self.archive.name)[:limit]
            stream = self._opened.stream(self.archive.name)
            return bytes(stream.read_at(0, min(limit, stream.size)))

    # Damage ---------------------------------------------------------------------------------------

    def look_for_damage(self, keep_going: KeepGoing) -> None:
        """Which stretches of the contents have lost their chunks: verify sets damaged ones aside."""
        chunks = ChunkStore.of(self._store)
        index = self.tree.content_index
        bad: list[tuple[int, int]] = []
        for number in range(index.chunk_count):
            if not number % _BATCH and not keep_going():
                return
            try:
                os.stat(chunks.path(index.digest_at(number)))
            except FileNotFoundError:
                bad.append(index.range_at(number))
            except OSError:
                continue
        self._bad, self._bad_ends = bad, [end for _start, end in bad]
        self.has_looked_for_damage = True

    @property
    def bad_stretches(self) -> int:
        return len(self._bad)

    def is_damaged(self, row: FileRow) -> bool:
        """Whether bytes of this file are known to be lost."""
        if row.place < 0 or not self._bad:
            return False
        at = bisect_right(self._bad_ends, row.place)
        return at < len(self._bad) and self._bad[at][0] < row.place + row.size

    def damaged_among(self, rows: Iterable[FileRow]) -> Iterator[FileRow]:
        return (row for row in rows if self.is_damaged(row))


def _breathe(count: int) -> None:
    """Let the event loop have the interpreter for a moment."""
    if count > _BATCH:
        _pause.wait(_BREATH_S)


_pause = threading.Event()


# The other side ----------------------------------------------------------------------------------


class Differs:
    """What a file of the archive is on this host now."""

    NEW, SAME, CHANGED, THERE = "new", "same", "differs", "there"


def compare(rows: Iterable[FileRow], destination: bytes, keep_going: KeepGoing) -> dict[bytes, str]:
    """For each row that has a counterpart below `destination`: same, differs or there."""
    found: dict[bytes, str] = {}
    names: dict[bytes, frozenset[bytes]] = {}
    for number, row in enumerate(rows):
        if not number % _BATCH and not keep_going():
            break
        folder, _slash, name = row.path.rpartition(b"/")
        if folder not in names:
            names[folder] = _names_in(os.path.join(destination, folder))
        if name in names[folder]:
            found[row.path] = _compared(row, os.path.join(destination, row.path))
    return found


def _names_in(folder: bytes) -> frozenset[bytes]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _compared(row: FileRow, path: bytes) -> str:
    try:
        info = os.lstat(path)
    except OSError:
        return Differs.CHANGED
    if row.is_directory:
        return Differs.THERE if stat.S_ISDIR(info.st_mode) else Differs.CHANGED
    if row.kind is Kind.SYMLINK:
        return Differs.SAME if stat.S_ISLNK(info.st_mode) else Differs.CHANGED
    same = info.st_mode == row.mode and info.st_mtime_ns == row.mtime_ns
    if row.kind in (Kind.FILE, Kind.HARDLINK):
        same = same and info.st_size == row.size
    return Differs.SAME if same else Differs.CHANGED


class HostFolder:
    """A directory of this host, as the destination's side shows it.

    Attributes:
        path: absolute.
        exists: it is a directory already.
        rows: what is in it, directories first.
        total: how many there are; `rows` holds at most ROWS_MAX.
        free: bytes on its file system, or on that of the directory it will be made in.
        problem: why it cannot be read.
        is_writable: this process may make files in it, or make it.
    """

    ROWS_MAX: Final = 20_000

    def __init__(self, path: str, *, room: Room = os.statvfs) -> None:
        self.path = path
        self.exists = os.path.isdir(path)
        self.problem = ""
        self.rows: list[FileRow] = []
        self.total = 0
        if self.exists:
            self._list()
        elif os.path.lexists(path):
            self.problem = f"{path} is not a directory"
        above = path
        while not os.path.isdir(above) and above != "/":
            above = os.path.dirname(above)
        self.is_writable = os.access(above, os.W_OK | os.X_OK)
        self.above = above
        try:
            found = room(above)
            self.free: int | None = found.f_bavail * found.f_frsize
        except OSError:
            self.free = None

    @property
    def is_empty(self) -> bool:
        return not self.total

    def _list(self) -> None:
        try:
            with os.scandir(os.fsencode(self.path)) as entries:
                for entry in entries:
                    self.total += 1
                    if len(self.rows) < self.ROWS_MAX:
                        self.rows.append(_host_row(entry))
        except OSError as error:
            self.problem = f"{self.path}: {error.strerror}"
        self.rows.sort(key=lambda row: (not row.is_directory, row.path))


def _host_row(entry: "os.DirEntry[bytes]") -> FileRow:
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return FileRow(entry.name, Kind.FILE, 0, 0, 0, -1)
    from holdfast.archive.pxar.format import KIND_OF_TYPE_BITS

    kind = KIND_OF_TYPE_BITS.get(stat.S_IFMT(info.st_mode), Kind.FILE)
    return FileRow(entry.name, kind, info.st_size, info.st_mode, info.st_mtime_ns, -1)


def read_host_file(path: bytes, limit: int) -> bytes | None:
    """The first bytes of a regular file of this host; None when there is none (OSError)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as source:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return source.read(limit)


def completions(typed: str) -> list[str]:
    """Directories that a half-typed path may mean, in order."""
    folder, _slash, begun = typed.rpartition("/")
    try:
        with os.scandir(folder or "/") as entries:
            names = sorted(
                entry.name for entry in entries if entry.name.startswith(begun) and entry.is_dir()
            )
    except OSError:
        return []
    first = bisect_left(names, begun)
    return [f"{folder}/{name}" for name in names[first : first + 50]]
