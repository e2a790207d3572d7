"""An archive out of a snapshot as tar, zip or the bytes it is made of."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from holdfast.archive.export_tree import Output, find_top
from holdfast.archive.open import ArchiveKind, OpenSnapshot
from holdfast.archive.pxar.items import Buffer
from holdfast.archive.tar_export import write_tar
from holdfast.archive.zip_export import write_zip
from holdfast.errors import BadRequest, Refused
from holdfast.host import files
from holdfast.operations.progress import Progress
from holdfast.units import MIB

_WRITE_BYTES: Final = 1 * MIB


class ExportFormat(StrEnum):
    TAR = "tar"
    ZIP = "zip"
    RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to write.

    Attributes:
        archive: as a person names it.
        format: how.
        path: the part of a tree to export; empty for all of it.
    """

    archive: str
    format: ExportFormat
    path: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOutcome:
    """How much was written; entries are 1 for raw bytes."""

    entries: int
    bytes_written: int


class _Counting:
    """Joins the many small pieces of a tree before they go out, and counts."""

    def __init__(self, out: Output, progress: Progress) -> None:
        self._out = out
        self._progress = progress
        self._parts: list[Buffer] = []
        self._waiting = 0
        self.total = 0

    def write(self, data: Buffer) -> None:
        size = len(data)
        self.total += size
        self._waiting += size
        self._parts.append(data)
        if self._waiting >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._out.write(parts[0] if len(parts) == 1 else b"".join(parts))
            self._progress.advance(bytes=self._waiting)
        self._waiting = 0


def export(
    snapshot: OpenSnapshot, request: ExportRequest, out: Output, progress: Progress
) -> ExportOutcome:
    """Write an archive to `out`; what has no place in the format is left out with a warning.

    Raises:
        NotFound: no such archive or path.
        BadRequest: the format does not fit the archive.
        DamagedData: the archive cannot be read.
    """
    archive = snapshot.find(request.archive)
    counting = _Counting(out, progress)
    progress.phase("exporting")
    if request.format is ExportFormat.RAW:
        if request.path:
            raise BadRequest("raw is the whole archive; leave out the path, or choose tar or zip")
        progress.total(bytes=archive.size)
        pieces = (
            iter((memoryview(snapshot.blob(request.archive)),))
            if archive.kind is ArchiveKind.BLOB
            else snapshot.stream(request.archive).pieces()
        )
        for piece in pieces:
            counting.write(piece)
        counting.flush()
        return ExportOutcome(entries=1, bytes_written=counting.total)
    if archive.kind is not ArchiveKind.TREE:
        raise BadRequest(f"{archive.name} is a {archive.kind}", hint="export it with --format raw")
    accessor = snapshot.tree(request.archive).accessor
    top = find_top(accessor, request.path)
    write = write_tar if request.format is ExportFormat.TAR else write_zip
    entries = write(accessor, top, counting, progress.warn)
    counting.flush()
    return ExportOutcome(entries=entries, bytes_written=counting.total)


class _FileOutput:
    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def write(self, data: Buffer) -> None:
        with files.explained(f"writing {self._path}"):
            files.write_all(self._fd, (data,), path=self._path)


@contextmanager
def output_file(path: str) -> Iterator[Output]:
    """A new file that appears under `path` when the block ends well, and not at all otherwise.

    Raises:
        Refused: there is something already, or it may not be written.
        NoSpace, HoldfastError: what the disk says.
    """
    if os.path.lexists(path):
        raise Refused(f"{path} exists already", hint="choose another name, or remove it first")
    temporary = files.temporary_name(path)
    with files.explained(f"creating {path}"):
        fd = files.create(temporary, mode=0o600)
    try:
        try:
            yield _FileOutput(fd, path)
            with files.explained(f"writing {path}"):
                files.fsync(fd, path=path)
        finally:
            os.close(fd)
        with files.explained(f"writing {path}"):
            _appear(temporary, path)
    except BaseException:
        with suppress(OSError):
            files.unlink(temporary)
        raise


def _appear(temporary: str, path: str) -> None:
    try:
        files.link(temporary, path)  # unlike a rename it replaces nothing
    except FileExistsError as error:
        raise Refused(f"{path} exists already", hint="somebody made it in the meantime") from error
    except OSError:  # a file system without links
        files.rename(temporary, path)
        return
    files.unlink(temporary)
