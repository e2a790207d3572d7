"""The write path on a bare directory: chunks and indexes without groups, locks and manifests."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast.chunking.boundaries import stream_cutter
from holdfast.chunking.cutters import Chunker
from holdfast.chunking.params import ChunkingParams
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.dynamic_index import DynamicIndexWriter
from holdfast.datastore.fixed_index import FixedIndexWriter
from holdfast.datastore.image_writer import CHUNK_BYTES, ImageWriter
from holdfast.datastore.index import Index, IndexSummary, open_index
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.segments import SegmentPool
from holdfast.datastore.stream_writer import StreamWriter, segment_bytes_for
from holdfast.datastore.upload import KnownChunks, Lane, Uploader
from holdfast.units import KIB


class NoGuard:
    """For stores in which nobody collects garbage."""

    def shared(self, digest: bytes) -> nullcontext[None]:
        del digest
        return nullcontext()

    def close(self) -> None:
        pass


class UploadRig:
    """Workers over a fresh chunk directory; streams and images are made at will."""

    def __init__(
        self, base: Path, *, key: EncryptionKey | None = None, mean_bytes: int = 64 * KIB
    ) -> None:
        os.makedirs(base / ".chunks", exist_ok=True)
        self.base = base
        self.key = key
        self.params = ChunkingParams.for_mean(mean_bytes)
        self.chunks = ChunkStore(str(base))
        self.known = KnownChunks()
        self.uploader = Uploader(self._lane, workers=3)
        self.pool = SegmentPool(
            segment_bytes=segment_bytes_for(self.params.chunk_bytes_max), count_max=3
        )
        self.image_pool = SegmentPool(segment_bytes=CHUNK_BYTES, count_max=4)
        self.closed: list[IndexSummary] = []

    def _lane(self) -> Lane:
        return Lane(self.chunks, self.known, NoGuard(), key=self.key, level=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.uploader.stop()

    def stream(self, name: str = "s.didx", chunker: Chunker = Chunker.FASTCDC) -> StreamWriter:
        return StreamWriter(
            stream_cutter(chunker, self.params),
            DynamicIndexWriter(str(self.base / name)),
            self.uploader,
            self.known,
            self.pool,
            on_close=self.closed.append,
        )

    def image(self, size: int, name: str = "i.fidx", base: Index | None = None) -> ImageWriter:
        return ImageWriter(
            size,
            FixedIndexWriter(str(self.base / name), size, CHUNK_BYTES),
            self.uploader,
            self.image_pool,
            base=base,
            on_close=self.closed.append,
        )

    def index(self, name: str) -> Index:
        return open_index(str(self.base / name))

    def reader(self, name: str, *, read_ahead: int = 0) -> StreamReader:
        chunks = ChunkReader(self.chunks, self.key)
        return StreamReader(self.index(name), chunks, read_ahead=read_ahead)

    def content(self, name: str) -> bytes:
        return b"".join(self.reader(name).pieces())

    def chunk_files(self) -> Sequence[str]:
        """Names of all files below the chunk directory."""
        return sorted(
            name for _path, _dirs, names in os.walk(self.base / ".chunks") for name in names
        )
