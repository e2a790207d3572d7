"""Reading back: chunks checked against their digests, streams and images put together from them.

A `StreamReader` decodes ahead while it is read in order: the chunk that is wanted and the next few
are decoded by two threads, each chunk once, and the disk is asked for some more. Read at random it
keeps a handful of decoded chunks.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from holdfast.datastore.blob import Codec, kind_of
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.index import Index
from holdfast.datastore.keys import EncryptionKey, chunk_digest
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, DamagedData
from holdfast.ids import SnapshotId

if TYPE_CHECKING:  # loaded by the first who reads: a backup may read nothing
    from concurrent.futures import Future, ThreadPoolExecutor


_DISK_AHEAD: Final = 4  # chunks from the one a thread begins with to the one the disk is asked for


class ChunkReader:
    """Decoded chunks of a store; usable by several threads at once."""

    def __init__(self, chunks: ChunkStore, key: EncryptionKey | None = None) -> None:
        self._chunks = chunks
        self._key = key
        self._local = threading.local()

    @classmethod
    def of(cls, store: Datastore, key: EncryptionKey | None = None) -> Self:
        """A reader of an open store's chunks."""
        return cls(ChunkStore.of(store), key)

    def expect(self, digest: bytes) -> None:
        """The chunk will soon be read, so the disk may begin with it; only advice, never fails."""
        self._chunks.expect(digest)

    def read(self, digest: bytes, length: int) -> bytes:
        """The `length` bytes of a chunk, checked against checksum, length and digest.

        Raises:
            MissingChunk: the store has no such chunk.
            DamagedData: what it has is not what was stored.
            KeyProblem: it is encrypted, and this is not the key.
        """
        codec = getattr(self._local, "codec", None)
        if codec is None:
            codec = self._local.codec = Codec()
        raw = self._chunks.read_raw(digest)
        what = f"chunk {digest.hex()}"
        data: bytes = codec.decode(raw, key=self._key, size_max=length, what=what)
        if len(data) != length:
            raise DamagedData(what, f"it has {len(data)} bytes instead of {length}")
        if chunk_digest(data, self._key if kind_of(raw).is_encrypted else None) != digest:
            raise DamagedData(what, "its content has another digest")
        return data


class StreamReader:
    """The bytes behind an index, at any offset; usable by several threads at once.

    Attributes:
        size: bytes of the stream or image.
        index: where its chunks lie.
    """

    def __init__(
        self, index: Index, chunks: ChunkReader, *, cache_chunks: int = 4, read_ahead: int = 0
    ) -> None:
        """Keep `cache_chunks` decoded; while read in order, decode `read_ahead` more."""
        if cache_chunks < 1:
            raise BadRequest("a reader keeps at least one chunk")
        self.index: Final = index
        self.size: Final = index.size_bytes
        self._chunks = chunks
        self._cache_max = cache_chunks
        self._read_ahead = read_ahead
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, memoryview] = OrderedDict()
        self._ahead: dict[int, Future[memoryview]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._last = -2

    @classmethod
    def of(
        cls,
        store: Datastore,
        snapshot: SnapshotId,
        filename: str,
        *,
        key: EncryptionKey | None = None,
        read_ahead: int = 0,
    ) -> Self:
        """The archive or image `filename` of a snapshot (NotFound, DamagedData)."""
        index = store.open_index(snapshot, filename, key=key)
        return cls(index, ChunkReader.of(store, key), read_ahead=read_ahead)

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
        """End the threads that decode ahead; reading goes on without them."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._read_ahead = 0
            self._ahead.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer at the end (BadRequest: negative)."""
        pieces = list(self._views(offset, length))
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset`; how many bytes there were."""
        done = 0
        for piece in self._views(offset, len(target)):
            target[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def view_at(self, offset: int, length: int) -> memoryview:
        """Up to `length` bytes from `offset` without a copy: at most to the end of a chunk."""
        return next(self._views(offset, length), memoryview(b""))

    def pieces(
        self, start: int = 0, end: int | None = None, *, workers: int = 2
    ) -> Generator[memoryview, None, None]:
        """The bytes from `start` to `end` in order, a chunk or less at a time.

        `workers` threads decode ahead, at most two chunks more than there are workers.
        """
        stop = self.size if end is None else min(end, self.size)
        if start < 0 or workers < 1:
            raise BadRequest("pieces of a stream want a start and a worker")
        if start >= stop:
            return
        last = self.index.find(stop - 1)
        numbers = iter(range(self.index.find(start), last + 1))
        from concurrent.futures import ThreadPoolExecutor

        waiting: deque[tuple[int, Future[memoryview]]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            try:
                for number in islice(numbers, workers + 2):
                    waiting.append((number, pool.submit(self._decode_ahead, number, last)))
                while waiting:
                    number, future = waiting.popleft()
                    data = future.result()
                    for following in islice(numbers, 1):
                        future = pool.submit(self._decode_ahead, following, last)
                        waiting.append((following, future))
                    chunk_start, chunk_end = self.index.range_at(number)
                    yield data[max(start - chunk_start, 0) : min(stop, chunk_end) - chunk_start]
            finally:
                for _number, future in waiting:
                    future.cancel()

    def _views(self, offset: int, length: int) -> Iterator[memoryview]:
        if offset < 0 or length < 0:
            raise BadRequest("a stream has no bytes before its start")
        stop = min(offset + length, self.size)
        if offset >= stop:
            return
        number = self.index.find(offset)
        while offset < stop:
            start, end = self.index.range_at(number)
            yield self._chunk(number)[offset - start : min(stop, end) - start]
            offset, number = end, number + 1

    def _chunk(self, number: int) -> memoryview:
        with self._lock:
            data = self._cache.get(number)
            if data is not None:
                self._cache.move_to_end(number)
                return data
            self._look_ahead(number)
            future = self._ahead.pop(number, None)
        data = self._decode(number) if future is None else future.result()
        with self._lock:
            self._cache[number] = data
            while len(self._cache) > self._cache_max:
                self._cache.popitem(last=False)
        return data

    def _look_ahead(self, number: int) -> None:
        """Have the next chunks decoded if the chunk before `number` was the last one wanted."""
        is_in_order, self._last = number == self._last + 1, number
        if not is_in_order:
            self._ahead.clear()
        elif self._read_ahead:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(2, thread_name_prefix="decode")
            last = self.index.chunk_count - 1
            for following in range(number + 1, min(number + self._read_ahead, last) + 1):
                if following not in self._ahead:
                    future = self._pool.submit(self._decode_ahead, following, last)
                    self._ahead[following] = future

    def _decode_ahead(self, number: int, last: int) -> memoryview:
        """A chunk; meanwhile the disk begins with one that follows, if that is not behind `last`."""
        if number + _DISK_AHEAD <= last:
            self._chunks.expect(self.index.digest_at(number + _DISK_AHEAD))
        return self._decode(number)

    def _decode(self, number: int) -> memoryview:
        start, end = self.index.range_at(number)
        return memoryview(self._chunks.read(self.index.digest_at(number), end - start))
