"""The workers of a backup: hash, look up, compress, encrypt, checksum and store chunks.

A producer (stream_writer, image_writer) submits jobs; a few threads run them, each in its own
`Lane`, which owns everything a thread must not share: compression contexts, the descriptor of its
prefix lock, and counters. The bulk of a job happens in C without the interpreter's lock, so three
threads keep two processors busy while the main thread walks and reads.

The first failure ends the run: jobs that still wait are released without being run, and the
producer meets the failure at its next `check`.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Protocol

from holdfast.datastore.blob import Codec
from holdfast.datastore.chunk_store import ChunkStore, Guard, Inserted
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import BadRequest, HoldfastError
from holdfast.host.files import as_holdfast_error

WORKER_COUNT_DEFAULT: Final = 3


@dataclass(frozen=True, slots=True)
class UploadStats:
    """What a session did with its chunks so far.

    The first four are Proxmox's `chunk_upload_stats` and count chunks that were not known before.

    Attributes:
        count: chunks compressed and handed to the store.
        size: their bytes before compression.
        compressed_size: their bytes in the store.
        duplicates: how many of them the store had already.
        new_chunks: how many files were written.
        new_bytes: the bytes of those files.
        reused_chunks: chunks known from the base or from earlier in this session.
        reused_bytes: their bytes before compression.
    """

    count: int = 0
    size: int = 0
    compressed_size: int = 0
    duplicates: int = 0
    new_chunks: int = 0
    new_bytes: int = 0
    reused_chunks: int = 0
    reused_bytes: int = 0


class _Tally:
    """Counters of one thread."""

    __slots__ = (
        "compressed_size",
        "count",
        "duplicates",
        "new_bytes",
        "new_chunks",
        "reused_bytes",
        "reused_chunks",
        "size",
    )

    def __init__(self) -> None:
        self.count = self.size = self.compressed_size = self.duplicates = 0
        self.new_chunks = self.new_bytes = self.reused_chunks = self.reused_bytes = 0


class KnownChunks:
    """Digests that may go into an index of this session without looking at the store."""

    __slots__ = ("_lengths", "_lock")

    def __init__(self) -> None:
        self._lengths: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._lengths

    def length(self, digest: bytes) -> int | None:
        """Bytes of the chunk before compression, None when it is not known."""
        return self._lengths.get(digest)

    def register(self, chunks: Iterable[tuple[bytes, int]]) -> None:
        """Chunks that a locked index refers to."""
        self._lengths.update(chunks)

    def claim(self, digest: bytes, length: int) -> bool:
        """Whether the caller is the first to bring this chunk, and has to store it."""
        with self._lock:
            if digest in self._lengths:
                return False
            self._lengths[digest] = length
            return True


class LaneGuard(Guard, Protocol):
    """A thread's own guard, with a descriptor to close at the end."""

    def close(self) -> None: ...


class Lane:
    """One thread's way into the store; also usable by a single thread without workers."""

    def __init__(
        self,
        chunks: ChunkStore,
        known: KnownChunks,
        guard: LaneGuard,
        *,
        key: EncryptionKey | None,
        level: int | None,
    ) -> None:
        self.tally: Final = _Tally()
        self._chunks = chunks
        self._known = known
        self._guard = guard
        self._key = key
        self._id_key = key.id_key if key is not None else b""
        self._level = level
        self._codec = Codec()

    def store(self, data: memoryview) -> bytes:
        """The digest of `data`, which is in the store when this returns (HoldfastError)."""
        hasher = hashlib.sha256(data)
        if self._id_key:
            hasher.update(self._id_key)
        digest = hasher.digest()
        size = len(data)
        if not self._known.claim(digest, size):
            self.tally.reused_chunks += 1
            self.tally.reused_bytes += size
        else:
            self._insert(digest, data)
        return digest

    def _insert(self, digest: bytes, data: memoryview) -> None:
        kept = self._chunks.keep(digest, self._guard, is_encrypted=self._key is not None)
        if kept:
            result = Inserted(duplicate=True, stored_bytes=kept)
        else:
            parts = self._codec.encode(data, key=self._key, level=self._level)
            result = self._chunks.insert(digest, parts, self._guard)
        tally = self.tally
        tally.count += 1
        tally.size += len(data)
        tally.compressed_size += result.stored_bytes
        if result.duplicate:
            tally.duplicates += 1
        else:
            tally.new_chunks += 1
            tally.new_bytes += result.stored_bytes

    def close(self) -> None:
        self._guard.close()


class Job(Protocol):
    """A piece of work for a worker."""

    def run(self, lane: Lane) -> None:
        """Do it (HoldfastError, OSError)."""
        ...

    def release(self) -> None:
        """Give back what the job holds; called once, whether it was run or not."""
        ...


class Uploader:
    """A few threads that run jobs in the order they come, until the first failure."""

    def __init__(
        self, open_lane: Callable[[], Lane], *, workers: int = WORKER_COUNT_DEFAULT
    ) -> None:
        if workers < 1:
            raise BadRequest("a backup wants at least one worker")
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.submit: Final[Callable[[Job], None]] = self._jobs.put
        self._failure: BaseException | None = None
        self._lanes = [open_lane() for _ in range(workers)]
        self._injected = _Tally()
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"upload-{number}", daemon=True)
            for number, lane in enumerate(self._lanes)
        ]
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raise what went wrong in a worker, if anything did (HoldfastError)."""
        failure = self._failure
        if failure is None:
            return
        if isinstance(failure, OSError):
            raise as_holdfast_error(failure, "storing chunks") from failure
        raise failure

    def count_injected(self, *, chunks: int, size: int) -> None:
        """Count chunks that entered an index without passing a worker."""
        self._injected.reused_chunks += chunks
        self._injected.reused_bytes += size

    @property
    def stats(self) -> UploadStats:
        """Sums over all threads; exact once no job runs."""
        tallies = [self._injected, *(lane.tally for lane in self._lanes)]
        return UploadStats(
            *(sum(getattr(tally, name) for tally in tallies) for name in UploadStats.__slots__)
        )

    def stop(self, failure: HoldfastError | None = None) -> None:
        """End the threads; with `failure`, waiting jobs are dropped instead of run."""
        if failure is not None and self._failure is None:
            self._failure = failure
        for _thread in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _work(self, lane: Lane) -> None:
        next_job = self._jobs.get
        try:
            while (job := next_job()) is not None:
                if self._failure is None:
                    try:
                        job.run(lane)
                    except BaseException as error:  # noqa: BLE001  # met again in `check`
                        self._failure = error
                job.release()
        finally:
            lane.close()
