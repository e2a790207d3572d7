"""A base backup as one tar: as it is stored, with `NAME.vcdiff` for changed files, or combined.

A differential's tar can be applied by hand, without this program: files without `.vcdiff` are copied
over the older tree, each `NAME.vcdiff` is given to `xdelta3 -d -s OLD/NAME`, and what the list does
not name is removed. The list comes first, so an applier may delete early; `global/pg_control` last.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Protocol

from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.errors import DamagedData
from holdfast.ids import SnapshotId
from holdfast.operations.pg_chain import BaseChain
from holdfast.operations.pg_restore import wal_files
from holdfast.operations.progress import Progress
from holdfast.postgres.byte_source import ByteSource, MemorySource
from holdfast.postgres.control_file import CONTROL_NAME
from holdfast.postgres.data_directory import DELTA_SUFFIX
from holdfast.postgres.file_list import Form
from holdfast.postgres.recovery import LABEL_NAME, MAP_NAME
from holdfast.shown import printable
from holdfast.units import MIB

LIST_NAME: Final = "filelist.jsonl"
_PIECE_BYTES: Final = 1 * MIB
_NANO: Final = 1_000_000_000


class Output(Protocol):
    """Where the tar goes."""

    def write(self, data: bytes | memoryview, /) -> object: ...


def export_base(
    store: Datastore,
    snapshot: SnapshotId,
    out: Output,
    progress: Progress,
    *,
    is_combined: bool = False,
    key: EncryptionKey | None = None,
) -> int:
    """Write the tar; how many bytes.

    Args:
        store: where the backup is.
        snapshot: full or differential.
        out: takes the bytes in order.
        progress: who wants to know.
        is_combined: files as they were in the cluster instead of deltas.
        key: of an encrypted backup.

    Raises:
        NotFound, DamagedData, KeyProblem: see BaseChain.
    """
    progress.phase("export")
    with BaseChain(store, snapshot, key, read_ahead=3) as chain:
        tar = _Tar(out)
        lines = b"".join(_encoded_lines(chain, is_combined=is_combined))
        tar.file(LIST_NAME.encode(), MemorySource(lines), 0o600, 0)
        tar.file(LABEL_NAME.encode(), MemorySource(chain.record.label), 0o600, 0)
        if chain.record.tablespace_map:
            tar.file(MAP_NAME.encode(), MemorySource(chain.record.tablespace_map), 0o600, 0)
        for line in chain.lines():
            if line.form is Form.DIRECTORY:
                if line.path:
                    tar.directory(line.path, line.mode, line.mtime_ns)
                continue
            is_delta = line.form is Form.DELTA and not is_combined
            content = chain.stored(line) if is_delta else chain.content(line)
            path = line.path + DELTA_SUFFIX if is_delta else line.path
            tar.file(path, content, line.mode, line.mtime_ns)
            progress.advance(items=1, bytes=content.size)
        if chain.record.has_wal:
            for name, stored in wal_files(chain):
                tar.file(f"pg_wal/{name}".encode(), stored, 0o600, 0)
        tar.file(CONTROL_NAME.encode(), MemorySource(chain.control()), 0o600, 0)
        tar.end()
    return tar.written


def _encoded_lines(chain: BaseChain, *, is_combined: bool) -> Iterator[bytes]:
    for line in chain.lines():
        if is_combined and line.form is Form.DELTA:
            yield replace(line, form=Form.WHOLE, sent_blocks=0).encode()
        else:
            yield line.encode()


class _Tar:
    """Writes POSIX.1-2001 members one behind the other."""

    def __init__(self, out: Output) -> None:
        self.written = 0
        self._out = out

    def directory(self, path: bytes, mode: int, mtime_ns: int) -> None:
        info = self._info(path, mode, mtime_ns)
        info.type = tarfile.DIRTYPE
        self._head(info)

    def file(self, path: bytes, content: ByteSource, mode: int, mtime_ns: int) -> None:
        info = self._info(path, mode, mtime_ns)
        info.size = content.size
        self._head(info)
        room = memoryview(bytearray(min(_PIECE_BYTES, max(content.size, 1))))
        for at in range(0, content.size, _PIECE_BYTES):
            piece = room[: min(_PIECE_BYTES, content.size - at)]
            if content.read_into(at, piece) != len(piece):
                raise DamagedData(printable(path), "its content ends too early")
            self._write(piece)
        self._write(bytes(-content.size % tarfile.BLOCKSIZE))

    def end(self) -> None:
        tail = 2 * tarfile.BLOCKSIZE
        self._write(bytes(tail + -(self.written + tail) % tarfile.RECORDSIZE))

    def _info(self, path: bytes, mode: int, mtime_ns: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
        info.mode, info.mtime = mode, mtime_ns // _NANO
        return info

    def _head(self, info: tarfile.TarInfo) -> None:
        self._write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _write(self, data: bytes | memoryview) -> None:
        self._out.write(data)
        self.written += len(data)
