"""Lay a base backup out as files: into empty directories, or over what is there.

Over existing files only what differs is written: pages whose digest is not the recorded one, other
files whose SHA-256 is not. `global/pg_control`, without which no server starts, is removed first
and written last, so whatever interrupts the work leaves something that cannot be mistaken for a
cluster and can be completed by doing it again.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from holdfast.errors import DamagedData
from holdfast.host import files
from holdfast.operations.pg_chain import BaseChain, StoredContent
from holdfast.operations.progress import Progress
from holdfast.postgres.byte_source import ByteSource
from holdfast.postgres.data_directory import CONTROL, TABLESPACES
from holdfast.postgres.file_list import DIGEST_BYTES, Form, ListedFile, block_digests
from holdfast.postgres.pages import PAGE_BYTES
from holdfast.shown import printable
from holdfast.units import MIB

PIECE_BYTES: Final = 1 * MIB
_PIECE_DIGESTS: Final = PIECE_BYTES // PAGE_BYTES * DIGEST_BYTES
_PRIVATE: Final = 0o700


@dataclass(slots=True)
class LaidOut:
    """What was done, or would be.

    Attributes:
        files, bytes: in the cluster.
        written_files, written_bytes: of those, what was not there already.
        removed: files and directories that were there and do not belong.
    """

    files: int = 0
    bytes: int = 0
    written_files: int = 0
    written_bytes: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things go.

    Attributes:
        data: the data directory.
        spaces: of tablespaces, by OID.
        owner: uid and gid for everything; None for those of this process.
    """

    data: str
    spaces: Mapping[int, str] = field(default_factory=dict)
    owner: tuple[int, int] | None = None

    def path(self, listed: bytes) -> bytes:
        """Where the file listed under that path lies."""
        parts = listed.split(b"/", 2)
        if parts[0] == TABLESPACES and len(parts) > 1:
            place = self.spaces.get(int(parts[1])) if parts[1].isdigit() else None
            if place is not None:
                return os.path.join(os.fsencode(place), *parts[2:])
        return os.path.join(os.fsencode(self.data), listed) if listed else os.fsencode(self.data)

    def roots(self) -> list[str]:
        return [self.data, *self.spaces.values()]


class Layout:
    """Writes one base backup into its places.

    Args:
        chain: the backup.
        places: where to.
        progress: who wants to know.
        is_dry_run: only look what would be written and removed.
    """

    def __init__(
        self, chain: BaseChain, places: Places, progress: Progress, *, is_dry_run: bool = False
    ) -> None:
        self.outcome = LaidOut()
        self._chain = chain
        self._places = places
        self._progress = progress
        self._dry = is_dry_run
        self._room = memoryview(bytearray(PIECE_BYTES))
        self._control = places.path(CONTROL)

    def write(self) -> None:
        """Everything that is listed, and nothing else; `close` has to follow.

        Raises:
            DamagedData: content is not what was backed up.
            NoSpace, HoldfastError: the disk failed.
        """
        wanted: set[bytes] = {self._control}
        with files.explained("removing the control file"):
            if not self._dry and os.path.lexists(self._control):
                files.unlink(os.fsdecode(self._control))
        for line in self._chain.lines():
            path = self._places.path(line.path)
            wanted.add(path)
            self._progress.item(printable(line.path))
            with files.explained(f"writing {printable(path)}"):
                if line.form is Form.DIRECTORY:
                    self._directory(path, line)
                else:
                    self._file(path, line)
            self._progress.advance(items=1, bytes=line.size)
        self._remove_others(wanted)

    def add(self, name: str, data: bytes, *, mode: int = 0o600) -> None:
        """One more file of the data directory, such as `backup_label` (HoldfastError)."""
        if self._dry:
            return
        path = os.path.join(self._places.data, name)
        with files.explained(f"writing {path}"):
            files.replace_file(path, [data], mode=mode, owner=self._places.owner)

    def add_wal(self, name: str, content: ByteSource) -> None:
        """A WAL file (HoldfastError)."""
        path = os.path.join(os.fsencode(self._places.data), b"pg_wal", os.fsencode(name))
        if not self._dry:
            with files.explained(f"writing {name}"):
                self._write_whole(path, content, 0o600)

    def close(self) -> None:
        """Write the control file, after everything else is on the disk (HoldfastError)."""
        if self._dry:
            return
        with files.explained(f"flushing {self._places.data}"):
            for root in self._places.roots():
                files.sync_filesystem(root)
            path = os.fsdecode(self._control)
            data = self._chain.control()
            files.replace_file(path, [data], mode=0o600, owner=self._places.owner, sync=True)

    # Entries --------------------------------------------------------------------------------------

    def _directory(self, path: bytes, line: ListedFile) -> None:
        if self._dry:
            return
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            files.make_directory(os.fsdecode(path), mode=line.mode, owner=self._places.owner)
            return
        is_root = os.fsdecode(path) in self._places.roots()
        if not is_root and not stat.S_ISDIR(info.st_mode):
            files.unlink(os.fsdecode(path))
            files.make_directory(os.fsdecode(path), mode=line.mode, owner=self._places.owner)
            return
        mode = _PRIVATE if is_root else line.mode
        if stat.S_IMODE(info.st_mode) != mode:
            os.chmod(path, mode)
        if self._places.owner is not None:
            os.chown(path, *self._places.owner)

    def _file(self, path: bytes, line: ListedFile) -> None:
        outcome = self.outcome
        outcome.files += 1
        outcome.bytes += line.size
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            fd = -1
        except OSError:  # a symbolic link, say: replaced
            fd = -1
        try:
            if fd >= 0 and stat.S_ISREG(os.fstat(fd).st_mode):
                if line.digest_at is not None:
                    self._update_pages(fd, path, line)
                    return
                if self._is_same(fd, line):
                    return
        finally:
            if fd >= 0:
                os.close(fd)
        outcome.written_files += 1
        outcome.written_bytes += line.size
        if not self._dry:
            content = self._chain.content(line)
            self._write_whole(path, content, line.mode, line)

    def _is_same(self, fd: int, line: ListedFile) -> bool:
        if line.sha256 is None or os.fstat(fd).st_size != line.size:
            return False
        hasher = sha256()
        for piece in self._local(fd, line.size):
            hasher.update(piece)
        return hasher.hexdigest() == line.sha256

    def _local(self, fd: int, size: int) -> Iterator[memoryview]:
        """The bytes of an open file that is there already."""
        for at in range(0, size, PIECE_BYTES):
            yield self._local_at(fd, at, min(PIECE_BYTES, size - at))

    def _write_whole(
        self, path: bytes, content: ByteSource, mode: int, line: ListedFile | None = None
    ) -> None:
        name = os.fsdecode(path)
        if os.path.lexists(path):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                files.unlink(name)
        fd = files.create(name, mode=mode)
        try:
            if isinstance(content, StoredContent):  # checked chunk by chunk
                for piece in content.pieces():
                    files.write_all(fd, (piece,), path=path)
            else:
                self._write_composed(fd, path, content, line)
            if self._places.owner is not None:
                os.fchown(fd, *self._places.owner)
            if line is not None:
                os.utime(fd, ns=(line.mtime_ns, line.mtime_ns))
        finally:
            os.close(fd)

    def _write_composed(
        self, fd: int, path: bytes, content: ByteSource, line: ListedFile | None
    ) -> None:
        """A file from several backups, checked against its own digest or those of its blocks."""
        digests = self._chain.digests(line) if line is not None and not line.sha256 else b""
        hasher = sha256()
        for at in range(0, content.size, PIECE_BYTES):
            piece = self._room[: min(PIECE_BYTES, content.size - at)]
            if content.read_into(at, piece) != len(piece):
                raise DamagedData(printable(path), "its content ends too early")
            if digests:
                self._check_digests(path, piece, digests, at)
            else:
                hasher.update(piece)
            files.write_all(fd, (piece,), path=path)
        if line is not None and line.sha256 and hasher.hexdigest() != line.sha256:
            raise DamagedData(printable(path), "its content is not what was backed up")

    def _check_digests(self, path: bytes, piece: memoryview, digests: bytes, at: int) -> None:
        start = at // PAGE_BYTES * DIGEST_BYTES
        wanted = digests[start : start + len(piece) // PAGE_BYTES * DIGEST_BYTES]
        if block_digests(piece) != wanted:
            raise DamagedData(printable(path), "its content is not what was backed up")

    def _update_pages(self, fd: int, path: bytes, line: ListedFile) -> None:
        """Write the pages of an existing file that differ."""
        digests = self._chain.digests(line)
        size_now = os.fstat(fd).st_size
        content: ByteSource | None = None
        out = -1
        wrote = 0
        try:
            for at in range(0, line.size, PIECE_BYTES):
                length = min(PIECE_BYTES, line.size - at)
                wanted = digests[at // PAGE_BYTES * DIGEST_BYTES :][:_PIECE_DIGESTS]
                have = self._local_at(fd, at, length)
                for start, end in _differing(have, wanted, length):
                    wrote += end - start
                    if self._dry:
                        continue
                    if content is None:
                        content = self._chain.content(line)
                        out = files.open_update(os.fsdecode(path))
                    pages = memoryview(bytearray(end - start))
                    if content.read_into(at + start, pages) != len(pages):
                        raise DamagedData(printable(path), "its content ends too early")
                    self._check_digests(path, pages, digests, at + start)
                    files.pwrite_all(out, pages, at + start, path=path)
            if size_now != line.size and not self._dry:
                if out < 0:
                    out = files.open_update(os.fsdecode(path))
                files.truncate(out, line.size, path=path)
        finally:
            if out >= 0:
                os.close(out)
        if wrote or size_now != line.size:
            self.outcome.written_files += 1
            self.outcome.written_bytes += wrote

    def _local_at(self, fd: int, at: int, length: int) -> memoryview:
        piece = self._room[:length]
        count = 0
        while count < length and (more := os.preadv(fd, (piece[count:],), at + count)):
            count += more
        return piece[:count]

    # What does not belong -------------------------------------------------------------------------

    def _remove_others(self, wanted: set[bytes]) -> None:
        for root in self._places.roots():
            top = os.fsencode(root)
            if not os.path.isdir(top):
                continue
            with files.explained(f"removing what does not belong below {root}"):
                self._clean(top, wanted)

    def _clean(self, directory: bytes, wanted: set[bytes]) -> None:
        with os.scandir(directory) as listing:
            entries = list(listing)
        for entry in entries:
            path = entry.path
            if path in wanted:
                if entry.is_dir(follow_symlinks=False):
                    self._clean(path, wanted)
                continue
            if self._is_foreign_version(path):
                continue
            self.outcome.removed += 1
            if self._dry:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(path)
            else:
                files.unlink(os.fsdecode(path))

    def _is_foreign_version(self, path: bytes) -> bool:
        """A tablespace directory of another server version, which may be in use."""
        parent, name = os.path.split(path)
        return os.fsdecode(parent) in self._places.spaces.values() and name.startswith(b"PG_")


def _differing(have: memoryview, wanted: bytes, length: int) -> Iterable[tuple[int, int]]:
    """Stretches of pages, by offset, whose digest is not the wanted one."""
    whole = len(have) - len(have) % PAGE_BYTES
    found = block_digests(have[:whole])
    start = -1
    for at in range(0, length, PAGE_BYTES):
        place = at // PAGE_BYTES * DIGEST_BYTES
        digest = wanted[place : place + DIGEST_BYTES]
        if at < whole and found[place : place + DIGEST_BYTES] == digest:
            if start >= 0:
                yield start, at
                start = -1
        elif start < 0:
            start = at
    if start >= 0:
        yield start, length
