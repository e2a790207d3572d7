"""One backup into a group: locks, base, files, manifest; all of it or nothing.

Order of things (source: Proxmox Backup, backup protocol; story: docs/algorithms/upload-pipeline.md)

    register as a writer, lock the group, choose and lock the base, make and lock the directory
    streams, images and blobs, each under its final name when it is complete
    flush as the store's sync level says, then `index.json.blob`: the snapshot is finished

A session that fails removes its directory. One that is killed leaves a directory without a
manifest, which counts as unfinished; its locks fall with the process.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from holdfast.chunking.boundaries import StreamCutter, stream_cutter
from holdfast.chunking.cutters import Chunker
from holdfast.chunking.params import ChunkingParams
from holdfast.datastore import blob, layout
from holdfast.datastore.base_snapshot import (
    BaseSnapshot,
    has_failed_verification,
    unusable_because,
)
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.dynamic_index import DynamicIndexWriter
from holdfast.datastore.fixed_index import FixedIndex, FixedIndexWriter
from holdfast.datastore.image_writer import CHUNK_BYTES, ImageWriter
from holdfast.datastore.index import IndexSummary
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode, FileEntry, Manifest
from holdfast.datastore.options import SyncLevel
from holdfast.datastore.segments import SegmentPool
from holdfast.datastore.store import Datastore
from holdfast.datastore.stream_writer import StreamWriter, segment_bytes_for
from holdfast.datastore.upload import (
    WORKER_COUNT_DEFAULT,
    KnownChunks,
    Lane,
    Uploader,
    UploadStats,
)
from holdfast.errors import BadRequest, HoldfastError, NotFound, Refused
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.files import Buffer
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, SnapshotId
from holdfast.units import MIB

MANIFEST_NAME: Final = "index.json.blob"
WRAPPED_KEY_NAME: Final = "rsa-encrypted.key.blob"
CHUNK_MEAN_DEFAULT: Final = 4 * MIB
_SPARE_SEGMENTS: Final = 1  # untouched memory is slow at first: more would cost more than waiting
_SPARE_IMAGE_BUFFERS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How a backup is cut, compressed and encrypted.

    Attributes:
        key: signs the manifest, and encrypts when `crypt_mode` says so.
        crypt_mode: what is done to contents; anything but NONE wants a key.
        chunker: where streams are cut.
        chunk_mean: mean size of a stream's chunks, a power of two.
        level: of zstd; None stores without compressing.
        workers: threads that hash, compress and store.
        wrapped_key: the key encrypted for a master key; stored beside the archives.
    """

    key: EncryptionKey | None = None
    crypt_mode: CryptMode = CryptMode.NONE
    chunker: Chunker = Chunker.FASTCDC
    chunk_mean: int = CHUNK_MEAN_DEFAULT
    level: int | None = 1
    workers: int = WORKER_COUNT_DEFAULT
    wrapped_key: bytes | None = None

    def __post_init__(self) -> None:
        if self.crypt_mode is not CryptMode.NONE and self.key is None:
            raise BadRequest(f"crypt mode {self.crypt_mode} wants a key")
        if self.wrapped_key is not None and self.crypt_mode is not CryptMode.ENCRYPT:
            raise BadRequest("a master key only matters for an encrypted backup")

    @property
    def content_key(self) -> EncryptionKey | None:
        """The key contents are encrypted with, None when they stay readable."""
        return self.key if self.crypt_mode is CryptMode.ENCRYPT else None


DEFAULT_SETTINGS: Final = SessionSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """A finished backup.

    Attributes:
        snapshot: which one it is.
        manifest: what it contains.
        stats: what was stored and what was reused.
        base: the snapshot whose chunks were used.
        warnings: sentences about things that did not stop the backup.
    """

    snapshot: SnapshotId
    manifest: Manifest
    stats: UploadStats
    base: SnapshotId | None
    warnings: tuple[str, ...]


def free_second(store: Datastore, group: GroupId, clock: Clock) -> int:
    """The second a backup that begins now can be called after.

    Snapshots are named by the second and each has to be later than the one before, so a backup that
    follows another within a second waits for the next. A newest snapshot further ahead is left for
    `BackupSession.start` to refuse: then a clock is wrong.

    Raises:
        HoldfastError: the group cannot be listed.
    """
    now_s = int(clock.now_s())
    try:
        newest_s = max((each.time_s for each in store.snapshots(group)), default=0)
    except NotFound:
        return now_s
    if newest_s != now_s:
        return now_s
    clock.wait(max(now_s + 1 - clock.now_s(), 0))
    return now_s + 1


class BackupSession:
    """A running backup; use it as a context manager and call `finish` at the end.

    Attributes:
        store: where it goes.
        snapshot: what it will be.
        base: the snapshot it may take chunks from, None for a full backup.
        base_dropped_reason: why an existing newest snapshot does not serve as base.
        known: digests that may be used without storing anything.
    """

    def __init__(
        self, store: Datastore, snapshot: SnapshotId, settings: SessionSettings, held: ExitStack
    ) -> None:
        """See `start`; `held` has the writer registration and the group's lock."""
        self.store: Final = store
        self.snapshot: Final = snapshot
        self.settings: Final = settings
        self.known: Final = KnownChunks()
        self.base: BaseSnapshot | None = None
        self.base_dropped_reason: str | None = None
        self._base_id: SnapshotId | None = None
        self._held = held
        self._entries: list[FileEntry] = []
        self._writers: dict[str, StreamWriter | ImageWriter] = {}
        self._pools: dict[int, SegmentPool] = {}
        self._image_pools: list[SegmentPool] = []
        self._blob_bytes = 0
        self._is_finished = False
        self._uploader: Uploader | None = None
        self._chunks = ChunkStore.of(store)

    @classmethod
    def start(
        cls,
        store: Datastore,
        group: GroupId,
        time_s: int,
        *,
        settings: SessionSettings = DEFAULT_SETTINGS,
        owner: str = "root@pam",
        clock: Clock = SYSTEM_CLOCK,
    ) -> Self:
        """Begin the backup of `group` that is called after `time_s`.

        Raises:
            NotFound: no such namespace.
            Busy: another backup of the group runs, or the base is being removed.
            Refused: not the group's owner, a time not after the base's, an existing snapshot.
            DamagedData: the newest snapshot's manifest cannot be read.
            ReadOnlyViolation: the store was opened for reading.
        """
        store.require_writable()
        snapshot = SnapshotId(group, time_s)
        with ExitStack() as stack:
            stack.enter_context(store.store_lock.writer(int(clock.now_s())))
            group_owner = stack.enter_context(store.locked_group(group, owner))
            if group_owner != owner and group_owner.partition("!")[0] != owner:
                raise Refused(f"{group} belongs to {group_owner}, not to {owner}")
            session = cls(store, snapshot, settings, stack)
            session._choose_base()  # our own
            session._begin()
            session._held = stack.pop_all()
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with self._held:
            if not self._is_finished:
                self._abort(error)
            for pool in (*self._pools.values(), *self._image_pools):
                pool.drop()

    # What goes into the snapshot ---------------------------------------------------------------

    def stream(
        self,
        filename: str,
        *,
        chunk_mean: int | None = None,
        cutter: StreamCutter | None = None,
    ) -> StreamWriter:
        """A writer for the archive `filename`, such as `root.mpxar.didx` (BadRequest).

        It is cut by the settings' chunker, or by a `cutter` of the caller.
        """
        path = self._path_for(filename, ".didx")
        if cutter is None:
            params = ChunkingParams.for_mean(chunk_mean or self.settings.chunk_mean)
            cutter = stream_cutter(self.settings.chunker, params)
        if self.base is not None:
            self.base.index(filename)
        writer = StreamWriter(
            cutter,
            DynamicIndexWriter(path, owner=self.store.owner_ids),
            self._workers,
            self.known,
            self._pool(segment_bytes_for(cutter.params.chunk_bytes_max)),
            on_close=partial(self._closed, filename),
        )
        self._writers[filename] = writer
        return writer

    def image(self, filename: str, size: int) -> ImageWriter:
        """A writer for the image `filename`, such as `disk.img.fidx`, of `size` bytes (BadRequest)."""
        path = self._path_for(filename, ".fidx")
        base = self.base.index(filename) if self.base is not None else None
        if not isinstance(base, FixedIndex) or base.chunk_bytes != CHUNK_BYTES:
            base = None
        count_max = self.settings.workers + _SPARE_IMAGE_BUFFERS
        pool = SegmentPool(segment_bytes=CHUNK_BYTES, count_max=count_max)
        self._image_pools.append(pool)
        writer = ImageWriter(
            size,
            FixedIndexWriter(path, size, CHUNK_BYTES, owner=self.store.owner_ids),
            self._workers,
            pool,
            base=base,
            on_close=partial(self._closed, filename),
        )
        self._writers[filename] = writer
        return writer

    def blob(self, filename: str, data: Buffer) -> FileEntry:
        """Store `data` as the blob `filename`, such as `fw.conf.blob` (BadRequest, HoldfastError)."""
        settings = self.settings
        parts = blob.encode(data, key=settings.content_key, level=settings.level)
        return self._store_blob(filename, parts)

    def finish(
        self, *, notes: str = "", unprotected: Mapping[str, Any] | None = None
    ) -> SessionSummary:
        """Make the snapshot complete and visible; nothing can be added afterwards.

        Args:
            notes: the snapshot's note.
            unprotected: more for the part of the manifest that no signature covers.

        Raises:
            BadRequest: an archive is still being written, or there is none.
            NotFound: the base vanished although it was locked.
            HoldfastError: a worker or the disk failed.
        """
        self._require_open()
        if self._writers:
            raise BadRequest(f"{', '.join(sorted(self._writers))} is still being written")
        if not self._entries:
            raise BadRequest("a snapshot without a single file cannot be finished")
        self._workers.stop()
        self._workers.check()
        if self._base_id is not None and not self.store.exists(self._base_id):
            raise NotFound(f"{self._base_id}, which this backup builds on, was removed meanwhile")
        manifest = self._manifest(notes, unprotected or {})
        with files.explained(f"finishing {self.snapshot}"):
            self._flush()
            files.replace_file(
                self.store.path_of(self.snapshot, MANIFEST_NAME),
                manifest.encode(),
                mode=layout.FILE_MODE,
                owner=self.store.owner_ids,
                sync=self._sync_level is not SyncLevel.NONE,
            )
        self._is_finished = True
        return SessionSummary(
            snapshot=self.snapshot,
            manifest=manifest,
            stats=self.stats,
            base=self.base.snapshot if self.base is not None else None,
            warnings=tuple(self.base.warnings) if self.base is not None else (),
        )

    @property
    def stats(self) -> UploadStats:
        """What was stored and reused so far."""
        return self._workers.stats

    # Beginning ---------------------------------------------------------------------------------

    def _choose_base(self) -> None:
        """Lock the newest finished snapshot and see whether it serves."""
        newest = self.store.newest_finished(self.snapshot.group)
        if newest is None:
            return
        with ExitStack() as stack:
            stack.enter_context(self.store.locks.snapshot(newest, LockMode.SHARED))
            manifest = self.store.manifest(newest)
            if has_failed_verification(manifest):
                self.base_dropped_reason = f"the verification of {newest} failed"
                return
            self._held.enter_context(stack.pop_all())
        if newest.time_s >= self.snapshot.time_s:
            raise Refused(
                f"there is a snapshot of {newest.time_name}; a new one has to be later",
                hint="check the clock of this machine",
            )
        self._base_id = newest
        reason = unusable_because(manifest, self.settings.key)
        if reason is not None:
            self.base_dropped_reason = f"{newest} does not serve as base: {reason}"
            return
        mode = self.settings.crypt_mode
        self.base = BaseSnapshot(self.store, newest, manifest, self.known, mode)

    def _begin(self) -> None:
        """Make and lock the directory, start the workers."""
        self.store.make_snapshot_directory(self.snapshot)
        try:
            exclusive = self.store.locks.snapshot(self.snapshot, LockMode.EXCLUSIVE)
            self._held.enter_context(exclusive)
            self._uploader = Uploader(self._open_lane, workers=self.settings.workers)
            if self.settings.wrapped_key is not None:
                wrapped = blob.encode(self.settings.wrapped_key, level=None)
                self._store_blob(WRAPPED_KEY_NAME, wrapped)
        except BaseException as error:
            self._abort(error)
            raise

    def _open_lane(self) -> Lane:
        guard = self.store.store_lock.chunk_guard()
        settings = self.settings
        return Lane(self._chunks, self.known, guard, key=settings.content_key, level=settings.level)

    # Along the way -----------------------------------------------------------------------------

    @property
    def _workers(self) -> Uploader:
        if self._uploader is None:
            raise BadRequest("this backup has not begun")
        return self._uploader

    @property
    def _sync_level(self) -> SyncLevel:
        return self.store.options.sync_level

    def _require_open(self) -> None:
        if self._is_finished:
            raise BadRequest(f"{self.snapshot} is finished; nothing can be added")

    def _path_for(self, filename: str, suffix: str) -> str:
        self._require_open()
        if not filename.endswith(suffix) or filename == MANIFEST_NAME:
            raise BadRequest(f"{filename!r} cannot be written here: it has to end in {suffix}")
        entry = FileEntry(filename, CryptMode.NONE, 0, bytes(32))  # checks the name
        if filename in self._writers or any(each.filename == filename for each in self._entries):
            raise BadRequest(f"{entry.filename} is part of this snapshot already")
        return self.store.path_of(self.snapshot, filename)

    def _pool(self, segment_bytes: int) -> SegmentPool:
        """The memory that streams of the same chunk size share."""
        pool = self._pools.get(segment_bytes)
        if pool is None:
            pool = SegmentPool(segment_bytes=segment_bytes, count_max=0)
            self._pools[segment_bytes] = pool
        streams = sum(isinstance(writer, StreamWriter) for writer in self._writers.values())
        pool.count_max = max(pool.count_max, streams + 1 + _SPARE_SEGMENTS)
        return pool

    def _closed(self, filename: str, summary: IndexSummary) -> None:
        del self._writers[filename]
        mode = self.settings.crypt_mode
        self._entries.append(FileEntry(filename, mode, summary.size_bytes, summary.checksum))

    def _store_blob(self, filename: str, parts: Sequence[Buffer]) -> FileEntry:
        path = self._path_for(filename, ".blob")
        hasher = hashlib.sha256()
        for part in parts:
            hasher.update(part)
        with files.explained(f"writing {filename}"):
            size = files.replace_file(
                path, parts, mode=layout.FILE_MODE, owner=self.store.owner_ids
            )
        self._blob_bytes += size
        entry = FileEntry(filename, self.settings.crypt_mode, size, hasher.digest())
        self._entries.append(entry)
        return entry

    # The end -----------------------------------------------------------------------------------

    def _manifest(self, notes: str, extra: Mapping[str, Any]) -> Manifest:
        stats = self.stats
        unprotected: dict[str, Any] = {
            **extra,
            "chunk_upload_stats": {
                "count": stats.count,
                "size": stats.size + self._blob_bytes,
                "compressed_size": stats.compressed_size,
                "duplicates": stats.duplicates,
            },
        }
        if notes:
            unprotected["notes"] = notes
        manifest = Manifest(self.snapshot, tuple(self._entries), unprotected=unprotected)
        key = self.settings.key
        signs = key is not None and self.settings.crypt_mode is not CryptMode.NONE
        return manifest.signed_with(key) if key is not None and signs else manifest

    def _flush(self) -> None:
        """Bring everything but the manifest to the disk, as the sync level says (OSError)."""
        if self._sync_level is SyncLevel.FILESYSTEM:
            files.sync_filesystem(self.store.base)
        if self._sync_level is not SyncLevel.FILE:
            return
        for entry in self._entries:
            path = self.store.path_of(self.snapshot, entry.filename)
            with _opened(path) as fd:
                files.fsync(fd, path=path)
        directory = self.store.path_of(self.snapshot)
        for _level in range(3):  # snapshot, group, type: names that may be new
            files.fsync_directory(directory)
            directory = os.path.dirname(directory)

    def _abort(self, error: BaseException | None) -> None:
        """Stop the workers and leave nothing of the snapshot behind."""
        if self._uploader is not None:
            self._uploader.stop(HoldfastError("the backup was given up"))
        for writer in self._writers.values():
            with suppress(OSError):
                writer.abandon()
        try:
            self.store.discard_snapshot(self.snapshot)
        except HoldfastError:
            if error is None:
                raise


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = files.open_read(path)
    try:
        yield fd
    finally:
        os.close(fd)
