"""Opens what a snapshot holds by the name a person uses.

    root.pxar        root.pxar.didx, or the pair root.mpxar.didx and root.ppxar.didx
    root.mpxar       one stream of the pair; as a tree, the pair
    drive.img        drive.img.fidx
    app.conf         app.conf.blob
    catalog.pcat1    catalog.pcat1.didx

The suffixes of the store (`.didx`, `.fidx`, `.blob`) may be written, too.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.items import Entry
from holdfast.datastore.index import Index
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import FileEntry, Manifest
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, DamagedData, KeyProblem, NotFound
from holdfast.ids import SnapshotId

_STORE_SUFFIXES: Final = (".didx", ".fidx", ".blob")
_TREE, _META, _PAYLOAD = ".pxar", ".mpxar", ".ppxar"


class ArchiveKind(StrEnum):
    TREE = "tree"
    IMAGE = "image"
    BLOB = "blob"
    STREAM = "stream"  # any other dynamic index, such as the catalog


@dataclass(frozen=True, slots=True)
class Archive:
    """Something in a snapshot.

    Attributes:
        name: without the store's suffix; a pair has the name of the whole, `root.pxar`.
        files: its files in the manifest; of a pair the entries come first, then the contents.
    """

    name: str
    kind: ArchiveKind
    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def archives_of(manifest: Manifest) -> list[Archive]:
    """What a manifest lists, in its order (DamagedData for half a pair)."""
    by_name = {file.filename: file for file in manifest.files}
    found: list[Archive] = []
    for filename, file in by_name.items():
        name, _dot, suffix = filename.rpartition(".")
        if name.endswith(_META):
            whole = name.removesuffix(_META)
            payload = by_name.get(f"{whole}{_PAYLOAD}.didx")
            if payload is None:
                raise DamagedData(f"archive {whole}{_TREE}", "its contents are not in the snapshot")
            found.append(Archive(whole + _TREE, ArchiveKind.TREE, (file, payload)))
        elif name.endswith(_PAYLOAD):
            if f"{name.removesuffix(_PAYLOAD)}{_META}.didx" not in by_name:
                raise DamagedData(f"archive {name}", "its entries are not in the snapshot")
        elif name.endswith(_TREE):
            found.append(Archive(name, ArchiveKind.TREE, (file,)))
        elif suffix == "fidx":
            found.append(Archive(name, ArchiveKind.IMAGE, (file,)))
        else:
            kind = ArchiveKind.BLOB if suffix == "blob" else ArchiveKind.STREAM
            found.append(Archive(name, kind, (file,)))
    return found


class Tree:
    """An open pxar archive, in one stream or two."""

    def __init__(self, archive: Archive, streams: tuple[StreamReader, ...]) -> None:
        self.archive = archive
        self.streams = streams
        self.accessor = Accessor(*streams, what=f"archive {archive.name}")

    @property
    def content_index(self) -> Index:
        """Of the stream that holds the contents of files."""
        return self.streams[-1].index

    def extents(self, entry: Entry) -> list[tuple[bytes, int, int]]:
        """Where a file's content lies: digest of each chunk, first byte in it, length."""
        start = entry.payload + (16 if len(self.streams) > 1 else 0)
        return extents(self.content_index, start, start + entry.size)


def extents(index: Index, start: int, end: int) -> list[tuple[bytes, int, int]]:
    """The pieces of chunks that hold the bytes from `start` to `end` of a stream (DamagedData)."""
    if not 0 <= start <= end <= index.size_bytes:
        raise DamagedData("archive", "a content lies outside its stream")
    found: list[tuple[bytes, int, int]] = []
    if start == end:
        return found
    for number in range(index.find(start), index.find(end - 1) + 1):
        first, behind = index.range_at(number)
        begin = max(start, first)
        found.append((index.digest_at(number), begin - first, min(end, behind) - begin))
    return found


class OpenSnapshot:
    """The archives of one snapshot; close it, or use it in a `with`."""

    def __init__(
        self,
        store: Datastore,
        snapshot: SnapshotId,
        key: EncryptionKey | None = None,
        *,
        read_ahead: int = 0,
    ) -> None:
        """Read the manifest.

        Args:
            store: where it is.
            snapshot: which.
            key: for encrypted archives.
            read_ahead: chunks of a payload stream to decode ahead when it is read in order; for
                those who want all of it.

        Raises:
            NotFound: no such snapshot, or it is not finished.
            DamagedData: the manifest cannot be believed.
            KeyProblem: another key signed it.
        """
        self.store = store
        self.snapshot = snapshot
        self.manifest = store.manifest(snapshot, key=key)
        self._key = key
        self._chunks = ChunkReader.of(store, key)
        self._opened = ExitStack()
        self._read_ahead = read_ahead

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every stream opened."""
        self._opened.close()

    def archives(self) -> list[Archive]:
        """What there is, in the manifest's order (DamagedData)."""
        return archives_of(self.manifest)

    def find(self, name: str) -> Archive:
        """The archive called `name` (NotFound lists what there is)."""
        plain = _without_suffix(name)
        for archive in self.archives():
            if archive.name in (name, plain):
                return archive
            stems = (_without_suffix(file.filename) for file in archive.files)
            if plain in stems:
                return archive
        known = ", ".join(archive.name for archive in self.archives()) or "nothing"
        raise NotFound(f"{self.snapshot} has no archive {name!r}", hint=f"it has {known}")

    def tree(self, name: str) -> Tree:
        """A pxar archive (NotFound, BadRequest when it is none, DamagedData, KeyProblem)."""
        archive = self.find(name)
        if archive.kind is not ArchiveKind.TREE:
            raise BadRequest(f"{archive.name} is no archive of files but a {archive.kind}")
        return Tree(archive, tuple(self._stream(file) for file in archive.files))

    def stream(self, name: str) -> StreamReader:
        """The bytes of an image, or of one stream of an archive.

        Raises:
            BadRequest: a blob, or an archive in two streams when neither is named.
            NotFound, DamagedData, KeyProblem: see tree().
        """
        archive = self.find(name)
        if archive.kind is ArchiveKind.BLOB:
            raise BadRequest(f"{archive.name} is a blob, which has no chunks")
        if len(archive.files) == 1:
            return self._stream(archive.files[0])
        for file in archive.files:
            if _without_suffix(file.filename) == _without_suffix(name):
                return self._stream(file)
        parts = " and ".join(_without_suffix(file.filename) for file in archive.files)
        raise BadRequest(
            f"{archive.name} is stored in two streams", hint=f"choose tar, or one of {parts}"
        )

    def blob(self, name: str) -> bytes:
        """The contents of a blob (NotFound, BadRequest, DamagedData, KeyProblem)."""
        archive = self.find(name)
        if archive.kind is not ArchiveKind.BLOB:
            raise BadRequest(f"{archive.name} is no blob but a {archive.kind}")
        file = archive.files[0]
        self._check_key(file)
        return self.store.read_blob(self.snapshot, file.filename, self._key)

    def _stream(self, file: FileEntry) -> StreamReader:
        self._check_key(file)
        index = self.store.open_index(self.snapshot, file.filename, key=self._key)
        if index.size_bytes != file.size:
            raise DamagedData(
                f"{file.filename} of {self.snapshot}", "it is not as long as the manifest says"
            )
        reader = StreamReader(index, self._chunks, read_ahead=self._read_ahead)
        return self._opened.enter_context(reader)

    def _check_key(self, file: FileEntry) -> None:
        if file.crypt_mode.value == "encrypt" and self._key is None:
            raise KeyProblem(
                f"{file.filename} of {self.snapshot} is encrypted",
                hint="give its key with --keyfile",
            )


def _without_suffix(name: str) -> str:
    for suffix in _STORE_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name
