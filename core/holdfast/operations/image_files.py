"""Files inside a disk image of a snapshot, without being root and without mounting anything.

The file systems are read by the Sleuth Kit through the package `pytsk3`: ext2 to ext4, NTFS, FAT,
exFAT, HFS+, ISO 9660 and UFS, alone on the disk or in a partition of a GPT, MBR, BSD, Sun or Mac
table. Only chunks that hold what is asked for are fetched. It replays no journals: what a file
system had not put in its place at the moment of the backup is not seen.
"""

import os
import stat as stat_bits
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, NamedTuple

from holdfast.archive.open import Archive, ArchiveKind, OpenSnapshot
from holdfast.archive.pxar.format import KIND_OF_TYPE_BITS, Kind, Stat
from holdfast.archive.pxar.items import Entry
from holdfast.datastore.reader import StreamReader
from holdfast.errors import BadRequest, HoldfastError, NotFound, Refused
from holdfast.host import files
from holdfast.operations.browse import Listed
from holdfast.shown import printable
from holdfast.units import MIB

_PIECE_BYTES: Final = 1 * MIB
_LINK_BYTES_MAX: Final = 4096
_DEPTH_MAX: Final = 256


class _Partition(NamedTuple):
    """Where a file system begins; an empty name for one that fills the whole disk."""

    name: bytes
    offset: int
    size: int


class ImageFiles:
    """The file systems of one image.

    Paths begin with the partition, such as `p1/etc/fstab`, when the image has a partition table.
    """

    def __init__(self, archive: Archive, stream: StreamReader) -> None:
        """Look at the partition table (Refused without the package that reads it)."""
        self._tsk = _library()
        self._name = archive.name
        self._image = _image(self._tsk, stream)
        self._partitions = self._find_partitions(stream.size)

    def _find_partitions(self, size: int) -> list[_Partition]:
        try:
            volume = self._tsk.Volume_Info(self._image)
        except OSError:
            self._image.check()
            return [_Partition(b"", 0, size)]
        sector = volume.info.block_size
        used = [part for part in volume if int(part.flags) & int(self._tsk.TSK_VS_PART_FLAG_ALLOC)]
        return [
            _Partition(b"p%d" % number, part.start * sector, part.len * sector)
            for number, part in enumerate(used, 1)
        ]

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """A failure of the store goes before what the library makes of it."""
        try:
            yield
        except OSError as error:
            self._image.check()
            raise HoldfastError(f"{what} in {self._name} cannot be read: {error}") from error
        self._image.check()

    def _locate(self, path: bytes) -> tuple[_Partition | None, bytes]:
        """The partition of a path and the rest; no partition for the list of them (NotFound)."""
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if self._partitions and not self._partitions[0].name:
            return self._partitions[0], b"/".join(parts)
        if not parts:
            return None, b""
        for partition in self._partitions:
            if partition.name == parts[0]:
                return partition, b"/".join(parts[1:])
        known = ", ".join(p.name.decode() for p in self._partitions) or "none"
        raise NotFound(
            f"{self._name} has no partition {printable(parts[0])}", hint=f"it has {known}"
        )

    def _open(self, partition: _Partition, path: bytes) -> Any:
        """The file system's own object for a path (NotFound, BadRequest, HoldfastError)."""
        try:
            system = self._tsk.FS_Info(self._image, partition.offset)
        except OSError as error:
            self._image.check()
            where = f"partition {partition.name.decode()} of " if partition.name else ""
            raise BadRequest(
                f"{where}{self._name} has no file system that can be read here",
                hint="`holdfast nbd serve` and guestfish open others, see the guide",
            ) from error
        with self._reading("the root directory"):
            found = system.open("/")
        for part in path.split(b"/") if path else ():
            children = self._children(found, path) if self._is_directory(found) else []
            found = next((child for name, child in children if name == part), None)
            if found is None:
                raise NotFound(
                    f"{self._name} has no {printable(path)}",
                    hint="`holdfast ls` shows what it has",
                )
        return found

    def entries(self, path: bytes, *, recursive: bool = False) -> Iterator[Listed]:
        """What a directory holds by name, or one file (NotFound, BadRequest, DamagedData)."""
        partition, rest = self._locate(path)
        if partition is None:
            for one in self._partitions:
                entry = _entry(one.name, Kind.DIRECTORY)
                yield Listed(one.name, entry, Stat(stat_bits.S_IFDIR | 0o755), one.size)
            return
        found = self._open(partition, rest)
        prefix = b"/".join(part for part in (partition.name, rest) if part)
        if not self._is_directory(found):
            yield self._listed(prefix, found)
            return
        yield from self._below(found, prefix, recursive=recursive, depth=0)

    def _below(self, found: Any, prefix: bytes, *, recursive: bool, depth: int) -> Iterator[Listed]:
        for name, child in sorted(self._children(found, prefix), key=lambda one: one[0]):
            path = b"/".join(part for part in (prefix, name) if part)
            yield self._listed(path, child)
            if recursive and self._is_directory(child) and depth < _DEPTH_MAX:
                yield from self._below(child, path, recursive=True, depth=depth + 1)

    def _children(self, found: Any, path: bytes) -> list[tuple[bytes, Any]]:
        """Names and objects of a directory, without what is deleted or made up by the library."""
        with self._reading(printable(path) or "the root directory"):
            children = list(found.as_directory())
        known = []
        for child in children:
            name = bytes(child.info.name.name)
            is_there = int(child.info.name.flags) & int(self._tsk.TSK_FS_NAME_FLAG_ALLOC)
            if not is_there or child.info.meta is None or name in (b".", b".."):
                continue
            if self._kind(child) is not None:
                known.append((name, child))
        return known

    def pieces(self, path: bytes) -> Iterator[memoryview]:
        """The bytes of a file (NotFound, BadRequest for anything else, DamagedData)."""
        partition, rest = self._locate(path)
        found = None if partition is None else self._open(partition, rest)
        kind = Kind.DIRECTORY if found is None else self._kind(found)
        if kind is Kind.SYMLINK:
            raise BadRequest(
                f"{printable(path)} is a symbolic link to {printable(self._target(found))}",
                hint="give the path of the file itself",
            )
        if kind is not Kind.FILE:
            raise BadRequest(f"{printable(path) or self._name} is no regular file")
        return self._read(found)

    def _read(self, found: Any) -> Iterator[memoryview]:
        size = int(found.info.meta.size)
        for offset in range(0, size, _PIECE_BYTES):
            wanted = min(_PIECE_BYTES, size - offset)
            data = self._content(found, offset, wanted)
            if len(data) != wanted:
                raise HoldfastError(f"a file in {self._name} ends before its size")
            yield memoryview(data)

    def _content(self, found: Any, offset: int, length: int) -> bytes:
        with self._reading("a file"):
            return bytes(found.read_random(offset, length))

    def _target(self, found: Any) -> bytes:
        meta = found.info.meta  # short targets are kept with the metadata
        if meta.link is not None:
            return bytes(meta.link)
        return self._content(found, 0, min(int(meta.size), _LINK_BYTES_MAX))

    def _is_directory(self, found: Any) -> bool:
        return self._kind(found) is Kind.DIRECTORY

    def _kind(self, found: Any) -> Kind | None:
        tsk = self._tsk
        bits = {
            int(tsk.TSK_FS_META_TYPE_DIR): stat_bits.S_IFDIR,
            int(tsk.TSK_FS_META_TYPE_REG): stat_bits.S_IFREG,
            int(tsk.TSK_FS_META_TYPE_LNK): stat_bits.S_IFLNK,
            int(tsk.TSK_FS_META_TYPE_BLK): stat_bits.S_IFBLK,
            int(tsk.TSK_FS_META_TYPE_CHR): stat_bits.S_IFCHR,
            int(tsk.TSK_FS_META_TYPE_FIFO): stat_bits.S_IFIFO,
            int(tsk.TSK_FS_META_TYPE_SOCK): stat_bits.S_IFSOCK,
        }
        return KIND_OF_TYPE_BITS.get(bits.get(int(found.info.meta.type), 0))

    def _listed(self, path: bytes, found: Any) -> Listed:
        meta, kind = found.info.meta, self._kind(found)
        if kind is None:
            raise BadRequest(f"{printable(path)} is nothing that could be restored")
        target = self._target(found) if kind is Kind.SYMLINK else b""
        type_bits = next(bits for bits, one in KIND_OF_TYPE_BITS.items() if one is kind)
        stat = Stat(
            type_bits | (int(meta.mode) & 0o7777),
            uid=int(meta.uid),
            gid=int(meta.gid),
            mtime_s=int(meta.mtime),
        )
        return Listed(path, _entry(path, kind, target), stat, int(meta.size))


def _entry(path: bytes, kind: Kind, target: bytes = b"") -> Entry:
    return Entry(path.rpartition(b"/")[2], kind, None, 0, 0, 0, target=target)


def _library() -> Any:
    try:
        import pytsk3
    except ImportError:
        raise Refused(
            "files inside images are read with the package pytsk3, which is not installed",
            hint="install holdfast[images], or open the image with `nbd serve` and guestfish",
        ) from None
    return pytsk3


def _image(tsk: Any, stream: StreamReader) -> Any:
    """The library's view of a stream; check() raises what a read failed with."""

    class Image(tsk.Img_Info):  # type: ignore[misc]
        def __init__(self) -> None:
            self.failure: Exception | None = None
            super().__init__(url="", type=tsk.TSK_IMG_TYPE_EXTERNAL)

        def close(self) -> None:
            """The stream belongs to the snapshot."""

        def get_size(self) -> int:
            return stream.size

        def read(self, offset: int, length: int) -> bytes:
            if self.failure is not None:
                return b""
            try:
                end = min(offset + length, stream.size)
                return stream.read_at(offset, end - offset) if offset < end else b""
            except HoldfastError as error:  # C++ is in between: told by check()
                self.failure = error
                return b""

        def check(self) -> None:
            if self.failure is not None:
                raise self.failure

    return Image()


def image_files(snapshot: OpenSnapshot, name: str) -> ImageFiles:
    """The files inside an image (NotFound, BadRequest when it is none, Refused, DamagedData)."""
    archive = snapshot.find(name)
    if archive.kind is not ArchiveKind.IMAGE:
        raise BadRequest(f"{archive.name} is no image but a {archive.kind}")
    return ImageFiles(archive, snapshot.stream(name))


def write_new_file(path: str, pieces: Iterator[memoryview]) -> int:
    """Make a file of pieces; how many bytes. A failure leaves none (Refused when it exists)."""
    first = next(
        pieces, memoryview(b"")
    )  # whatever is wrong with the source, before the file is made
    with files.explained(f"writing {path}"):
        try:
            fd = files.create(path, mode=0o600)
        except FileExistsError:
            raise Refused(f"{path} exists", hint="name a new file") from None
        written = 0
        try:
            for piece in chain((first,), pieces):
                files.pwrite_all(fd, piece, written, path=path)
                written += len(piece)
            files.fsync(fd, path=path)
        except BaseException:
            files.unlink(path)
            raise
        finally:
            os.close(fd)
    return written
