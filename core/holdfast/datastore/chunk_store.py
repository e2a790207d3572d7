"""Chunk files: one blob per distinct piece of data, under `.chunks/XXXX/DIGEST`.

Path      `.chunks/` + first 4 hex digits + `/` + all 64 hex digits of the digest.
Temporary `DIGEST.tmp_XXXXXX` beside it (75 characters, so no walker takes it for a chunk).

What inserting does when the file is already there (source: Proxmox Backup, chunk store; the story
is in docs/algorithms/upload-pipeline.md); "touch" moves the access time that garbage collection
looks at:

    old is no regular file                      DamagedData
    same length, begins and ends alike          touch                             duplicate
    old is empty                                replace                           new
    new encrypted, old plain                    DamagedData (a forged digest)
    both encrypted, uncompressed, lengths differ  DamagedData
    old is longer, both plain                   replace                           new
    otherwise                                   touch if its checksum holds       duplicate
                                                replace if it does not            new

A machine that loses power may leave files that are cut short, or have their length but zeros for
content. Taking one of those for the chunk would damage the new backup too, hence the looks inside.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self

from holdfast.datastore import blob
from holdfast.datastore.options import SyncLevel
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData, MissingChunk
from holdfast.host import files
from holdfast.host.files import Buffer

FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o750

_MAGIC_BYTES: Final = 8
_TAIL_BYTES: Final = 64


class Guard(Protocol):
    """Keeps garbage collection away from the chunks of one prefix for a moment."""

    def shared(self, digest: bytes) -> AbstractContextManager[None]:
        """Hold the chunk's prefix while the block runs; others may hold it too."""
        ...


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of a chunk that was handed in.

    Attributes:
        duplicate: it was there already.
        stored_bytes: length of its file, header included.
    """

    duplicate: bool
    stored_bytes: int


class ChunkStore:
    """The chunks of one datastore, by digest."""

    def __init__(
        self,
        base: str,
        *,
        sync_level: SyncLevel = SyncLevel.FILESYSTEM,
        owner_ids: tuple[int, int] | None = None,
    ) -> None:
        self._directory = os.path.join(base, ".chunks")
        self._is_synced = sync_level is SyncLevel.FILE
        self._is_flushed_soon = sync_level is SyncLevel.FILESYSTEM
        self._owner_ids = owner_ids if owner_ids != (os.geteuid(), os.getegid()) else None

    @classmethod
    def of(cls, store: Datastore) -> Self:
        """The chunks of an open store, written as its options say."""
        return cls(store.base, sync_level=store.options.sync_level, owner_ids=store.owner_ids)

    def path(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self._directory}/{name[:4]}/{name}"

    def read_raw(self, digest: bytes) -> bytes:
        """The stored form of a chunk (MissingChunk, DamagedData, HoldfastError)."""
        try:
            return files.read_file(self.path(digest), size_max=blob.CHUNK_FILE_BYTES_MAX)
        except FileNotFoundError as error:
            raise MissingChunk(digest) from error
        except OSError as error:
            raise files.as_holdfast_error(error, f"reading chunk {digest.hex()}") from error

    def expect(self, digest: bytes) -> None:
        """The chunk will soon be read, so the disk may begin with it; only advice, never fails."""
        files.expect_file(self.path(digest))

    def touch(self, digest: bytes) -> bool:
        """Mark the chunk as wanted now; False when the store has no such chunk."""
        try:
            files.touch_access_time(self.path(digest))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise files.as_holdfast_error(error, f"touching chunk {digest.hex()}") from error
        return True

    def keep(self, digest: bytes, guard: Guard, *, is_encrypted: bool) -> int:
        """Touch the chunk if the store has it, sound and of the wanted kind; its length, or 0.

        Looking before a chunk is compressed makes the retry of a backup that failed cheap. Whatever
        is not as it should be is left for `insert` to judge.
        """
        path = self.path(digest)
        try:
            with guard.shared(digest):
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    return 0
                old = files.read_file(path, size_max=blob.CHUNK_FILE_BYTES_MAX)
                if blob.check_crc(old).is_encrypted is not is_encrypted:
                    return 0
                files.touch_access_time(path)
        except (FileNotFoundError, DamagedData):
            return 0
        except OSError as error:
            raise files.as_holdfast_error(error, f"storing chunk {digest.hex()}") from error
        return len(old)

    def insert(self, digest: bytes, parts: Sequence[Buffer], guard: Guard) -> Inserted:
        """Make sure that the chunk is in the store, writing it when needed.

        Args:
            digest: the chunk's name.
            parts: its encoded form, header first.
            guard: the calling thread's own; held from the first look to the last step.

        Raises:
            DamagedData: what is there under that name cannot be the same chunk.
            HoldfastError: the disk refused (NoSpace, Refused, ...).
        """
        size = sum(map(len, parts))
        path = self.path(digest)
        try:
            with guard.shared(digest):
                kept_bytes = self._kept(digest, path, parts, size)
                if kept_bytes:
                    files.touch_access_time(path)
                    return Inserted(duplicate=True, stored_bytes=kept_bytes)
                self._write(path, parts)
        except OSError as error:
            raise files.as_holdfast_error(error, f"storing chunk {digest.hex()}") from error
        return Inserted(duplicate=False, stored_bytes=size)

    def _kept(self, digest: bytes, path: str, parts: Sequence[Buffer], size: int) -> int:
        """Length of the file that is there and stays, 0 when the new one is to be written."""
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return 0
        if not stat.S_ISREG(info.st_mode):
            raise DamagedData(f"chunk {digest.hex()}", "its name is taken by something else")
        kind = blob.kind_of(parts[0])
        if not info.st_size or (info.st_size > size and not kind.is_encrypted):
            return 0
        if info.st_size == size and _looks_like(path, parts, size, kind):
            return size
        return info.st_size if self._is_same_and_sound(digest, path, kind) else 0

    def _is_same_and_sound(self, digest: bytes, path: str, kind: blob.BlobKind) -> bool:
        try:
            old = files.read_file(path, size_max=blob.CHUNK_FILE_BYTES_MAX)
            old_kind = blob.check_crc(old)
        except DamagedData:
            return False
        if kind.is_encrypted and (
            not old_kind.is_encrypted or not (kind.is_compressed or old_kind.is_compressed)
        ):
            raise DamagedData(
                f"chunk {digest.hex()}",
                "what is stored under its name cannot have the same content",
                hint="run `holdfast verify`: it sets such a file aside",
            )
        return True

    def _write(self, path: str, parts: Sequence[Buffer]) -> None:
        try:
            self._replace(path, parts)
        except FileNotFoundError:  # the prefix's directory is missing: it costs little to heal
            directory = os.path.dirname(path)
            with suppress(FileExistsError):
                files.make_directory(directory, mode=DIRECTORY_MODE, owner=self._owner_ids)
            self._replace(path, parts)

    def _replace(self, path: str, parts: Sequence[Buffer]) -> None:
        files.replace_file(
            path,
            parts,
            mode=FILE_MODE,
            owner=self._owner_ids,
            sync=self._is_synced,
            flush_soon=self._is_flushed_soon,
        )


def _looks_like(path: str, parts: Sequence[Buffer], size: int, kind: blob.BlobKind) -> bool:
    """Whether a file of the right length also begins and ends like the new form (OSError).

    Encrypted forms of the same data differ in all but their first bytes, so of those the end only
    has to be something.
    """
    head = bytes(parts[0][: blob.PLAIN_HEADER_BYTES])
    tail = bytes(parts[-1][-_TAIL_BYTES:])
    fd = files.open_read(path, extra_flags=os.O_NOFOLLOW)
    try:
        old_head = os.pread(fd, len(head), 0)
        old_tail = os.pread(fd, len(tail), size - len(tail))
    finally:
        os.close(fd)
    if kind.is_encrypted:
        return old_head[:_MAGIC_BYTES] == head[:_MAGIC_BYTES] and any(old_tail)
    return (old_head, old_tail) == (head, tail)
