"""Serve an image file to guests over NBD, track their writes, and back it up whenever asked.

A second socket, `SOCKET.control`, takes one JSON document per line ({"do": "backup"}) and answers with one,
after any number of {"say": SENTENCE}; only the owner may connect. The bitmap lives in a file beside the image while nobody serves it.
"""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.block.bit_set import BitSet
from holdfast.block.bitmap_file import BitmapFile
from holdfast.block.chunk_plan import (
    FullReason,
    ImageFacts,
    PreviousImage,
    why_not_incremental,
)
from holdfast.block.dirty_bitmap import DirtyBitmap
from holdfast.block.fleecing import FleecingImage, FleecingRecord, create, image_name
from holdfast.block.job_policy import BitmapMode, JobOutcome
from holdfast.block.live_backup import CBW_TIMEOUT_S, WORKERS, LiveBackup, LiveOptions
from holdfast.block.nbd_export import Export
from holdfast.block.nbd_server import NbdServer, make_way
from holdfast.block.node import Access, FileNode
from holdfast.block.partial_image import PartialImage
from holdfast.block.tracked_image import TrackedImage
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.session import (
    BackupSession,
    SessionSettings,
    SessionSummary,
    free_second,
)
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, Busy, DamagedData, HoldfastError
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.host.locks import LockMode, try_flock
from holdfast.ids import GroupId

BITMAP: Final = "holdfast"
EXPORT: Final = "image"
_LINE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageServerRequest:
    """What is served and how it is backed up.

    Attributes:
        socket_path: absolute path of the unix socket for guests.
        fleecing_dir: where scratch images go; empty to save old data straight into the store.
        fleecing_bytes_max: space a scratch image may take; 0 for any.
        cbw_timeout_s: how long a guest's write waits for its old data to be saved.
        workers: chunks that a backup reads at the same time.
        max_chunk_bytes: most that it reads at a time, 0 for a whole chunk.
    """

    image: str
    socket_path: str
    group: GroupId
    settings: SessionSettings = field(default_factory=SessionSettings)
    mode: BitmapMode = BitmapMode.ALWAYS
    fleecing_dir: str = ""
    fleecing_bytes_max: int = 0
    min_cluster_bytes: int = 0
    cbw_timeout_s: float = CBW_TIMEOUT_S
    workers: int = WORKERS
    max_chunk_bytes: int = 0

    @property
    def control_path(self) -> str:
        return f"{self.socket_path}.control"

    def options(self, fleecing: FleecingImage | None) -> LiveOptions:
        """How guests are treated (BadRequest)."""
        return LiveOptions(
            fleecing=fleecing,
            cbw_timeout_s=self.cbw_timeout_s,
            min_cluster_bytes=self.min_cluster_bytes,
            workers=self.workers,
            max_chunk_bytes=self.max_chunk_bytes,
        )


def bitmap_path(image: str) -> str:
    """Where the bitmaps of an image are kept."""
    return f"{image}.bitmaps"


class ImageServer:
    """One image, its guests, and the backups of it."""

    def __init__(
        self, store: Datastore, request: ImageServerRequest, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.store = store
        self.request = request
        self._clock = clock
        self._partial_path = f"{request.image}.partial"
        self._running = asyncio.Lock()

    async def serve(self, ready: Callable[[str], None], stop: asyncio.Event) -> None:
        """Serve until `stop`; bitmaps are saved at the end (HoldfastError, OSError)."""
        node = FileNode.open(self.request.image, Access.READ_WRITE)
        try:
            if not try_flock(node.fd, LockMode.EXCLUSIVE):
                raise Busy(f"{self.request.image} is served by another process")
            kept = BitmapFile.open(bitmap_path(self.request.image), node.fd, node.size_bytes)
            self.image = TrackedImage(node, kept.bitmaps)
            self._kept = kept
            try:
                await self._serve_sockets(ready, stop)
            finally:
                await node.flush()
                kept.close()
        finally:
            node.close()

    async def _serve_sockets(self, ready: Callable[[str], None], stop: asyncio.Event) -> None:
        path = self.request.socket_path
        server = NbdServer({EXPORT: Export.of(EXPORT, self.image, description=self.request.image)})
        await server.start_unix(path)
        make_way(self.request.control_path)
        before = os.umask(0o177)
        try:
            control = await asyncio.start_unix_server(
                self._control, self.request.control_path, limit=_LINE_BYTES_MAX
            )
        finally:
            os.umask(before)
        try:
            ready(f"nbd+unix:///{EXPORT}?socket={path}")
            await stop.wait()
        finally:
            control.close()
            async with self._running:  # a backup under way ends first
                await server.stop()
            with suppress(FileNotFoundError):
                os.unlink(self.request.control_path)

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def tell(text: str) -> None:
            writer.write(json.dumps({"say": text}).encode() + b"\n")

        try:
            asked = json.loads(await reader.readline())
            answer = await self._answer(asked, tell)
        except HoldfastError as error:
            answer = {"error": error.message, "code": error.exit_code, "kind": error.kind}
        except OSError as error:
            explained = files.as_holdfast_error(error, "backing up the image")
            answer = {"error": explained.message, "code": explained.exit_code, "kind": "failed"}
        except ValueError as error:
            answer = {"error": f"not a request: {error}", "code": 2, "kind": "usage"}
        writer.write(json.dumps(answer).encode() + b"\n")
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def _answer(self, asked: object, tell: Callable[[str], None]) -> dict[str, Any]:
        if not isinstance(asked, dict) or asked.get("do") != "backup":
            raise BadRequest("the only thing to ask for is a backup")
        return await self.back_up(tell)

    async def back_up(self, tell: Callable[[str], None]) -> dict[str, Any]:
        """One snapshot of the image as it is now (Busy, HoldfastError).

        Args:
            tell: told, before anything is read, why and how much when it is more than the changes.
        """
        if self._running.locked():
            raise Busy("another backup of this image is running")
        async with self._running:
            started = await asyncio.to_thread(self._start_session)
            with started as session:
                return await self._run(session, tell)

    def _start_session(self) -> BackupSession:
        return BackupSession.start(
            self.store,
            self.request.group,
            free_second(self.store, self.request.group, self._clock),
            settings=self.request.settings,
            clock=self._clock,
        )

    def _facts(self) -> ImageFacts:
        settings = self.request.settings
        key = settings.key.fingerprint if settings.key is not None else ""
        return ImageFacts(
            size_bytes=self.image.size_bytes,
            chunk_bytes=CHUNK_BYTES,
            crypt=f"{settings.crypt_mode.value}{key}",
        )

    def _archive(self) -> str:
        return "disk.img.fidx"

    def _bitmap(self) -> tuple[DirtyBitmap, FullReason | None]:
        """The image's bitmap, and why a new one had to be made."""
        bitmap, reason = self._kept.bitmaps.get(BITMAP), FullReason.BITMAP_MISSING
        if bitmap is not None and not bitmap.inconsistent:
            return bitmap, None
        if bitmap is not None:
            self._kept.remove(BITMAP)
            reason = FullReason.BITMAP_INCONSISTENT
        bitmap = DirtyBitmap(name=BITMAP, size_bytes=self.image.size_bytes)
        self._kept.add(bitmap)
        return bitmap, reason

    def _why_full(
        self, session: BackupSession, bitmap: DirtyBitmap, no_bitmap: FullReason | None
    ) -> FullReason | None:
        base, facts = session.base, self._facts()
        if base is None:
            dropped = session.base_dropped_reason is not None
            return FullReason.VERIFY_FAILED if dropped else FullReason.NO_PREVIOUS
        index = base.index(self._archive())
        if index is None:
            return FullReason.NO_PREVIOUS
        same = ImageFacts(size_bytes=index.size_bytes, chunk_bytes=CHUNK_BYTES, crypt=facts.crypt)
        previous = PreviousImage(snapshot=str(base.snapshot), facts=same)
        reason = why_not_incremental(facts, previous, bitmap)
        return no_bitmap if reason is FullReason.BITMAP_BASE and no_bitmap else reason

    def _partial(self, bitmap: DirtyBitmap) -> PartialImage | None:
        try:
            partial = PartialImage.load(self._partial_path)
        except DamagedData:
            return None
        if partial is None or partial.facts != self._facts():
            return None
        belongs = partial.owner == bitmap.partial and partial.base == bitmap.base
        return partial if belongs else None

    async def _run(self, session: BackupSession, tell: Callable[[str], None]) -> dict[str, Any]:
        bitmap, no_bitmap = self._bitmap()
        reason = self._why_full(session, bitmap, no_bitmap)
        partial = self._partial(bitmap) if bitmap.partial else None
        if partial is not None and partial.base and reason is not None:
            partial = None  # the snapshot below it cannot be used
        if bitmap.partial and partial is None and reason is None:
            reason = FullReason.PARTIAL_LOST
        count = -(-self.image.size_bytes // CHUNK_BYTES)
        refresh = None if reason is not None and partial is None else BitSet(count)
        if partial is not None and refresh is not None:
            await asyncio.to_thread(self._find_lost, partial, refresh)
        else:
            base = bitmap.base if reason is None else ""
            partial = PartialImage.empty(self._facts(), base=base, owner="")
        if reason is not None:
            held = partial.held().ones() * CHUNK_BYTES
            cost = max(0, self.image.size_bytes - held)
            tell(f"{cost} of {self.image.size_bytes} bytes are read: {reason.sentence}")
        scratch = self._scratch()
        try:
            options = self.request.options(scratch)
            writer = session.image(self._archive(), self.image.size_bytes)
            backup = LiveBackup(
                self.image,
                writer,
                partial,
                options=options,
                bitmap=bitmap,
                mode=self.request.mode,
                refresh=refresh,
            )
            summary = await self._copy(session, backup, bitmap)
        finally:
            if scratch is not None:
                await scratch.close()
                self._fleecing_record().clean()
        return {
            "snapshot": str(summary.snapshot),
            "size": self.image.size_bytes,
            "read_bytes": backup.outcome.read_bytes,
            "saved_for_guests": backup.outcome.saved_for_guests,
            "full_reason": None if reason is None else reason.sentence,
            "fleecing_bytes_max": 0 if scratch is None else scratch.saved_bytes_max,
        }

    async def _copy(
        self, session: BackupSession, backup: LiveBackup, bitmap: DirtyBitmap
    ) -> SessionSummary:
        try:
            await backup.run()
            await asyncio.to_thread(backup.close_writer)
            summary = await asyncio.to_thread(session.finish)
        except HoldfastError:
            await asyncio.to_thread(backup.fail, JobOutcome.FAILED)
            self._keep_partial(backup.partial, bitmap)
            raise
        backup.finish()
        bitmap.base, bitmap.partial = str(summary.snapshot), ""
        with suppress(FileNotFoundError):
            files.unlink(self._partial_path)
        return summary

    def _keep_partial(self, partial: PartialImage, bitmap: DirtyBitmap) -> None:
        """From now on the bitmap means nothing without exactly this partial image."""
        if self.request.mode is not BitmapMode.ALWAYS:
            return
        partial.owner = bitmap.partial = secrets.token_hex(16)
        bitmap.base = partial.base  # after a full read the old snapshot is no base any more
        with suppress(OSError):
            partial.save(self._partial_path)

    def _find_lost(self, partial: PartialImage, refresh: BitSet) -> None:
        chunks = ChunkStore.of(self.store)
        for number in partial.held().numbers().tolist():
            digest = partial.digest(number)
            if digest and not chunks.touch(digest):
                refresh.set(number, number + 1)

    def _fleecing_record(self) -> FleecingRecord:
        return FleecingRecord(f"{self.request.image}.fleecing")

    def _scratch(self) -> FleecingImage | None:
        if not self.request.fleecing_dir:
            return None
        record = self._fleecing_record()
        record.clean()  # of a process that was killed
        path = os.path.join(self.request.fleecing_dir, image_name(self.request.group.id, 0))
        return create(
            path, self.image.size_bytes, record, budget_bytes=self.request.fleecing_bytes_max
        )


def serve_image(
    store: Datastore, request: ImageServerRequest, ready: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM (BadRequest, Busy, DamagedData, HoldfastError)."""
    request.options(None)  # refused before a guest connects

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await ImageServer(store, request).serve(ready, stop)

    with files.explained(f"serving {request.image}"):
        asyncio.run(serve())


class BackupRefused(HoldfastError):
    """What a server said when it was asked for a backup."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("error")))
        self.exit_code = int(answer.get("code", 1))  # type: ignore[misc]
        self.kind = str(answer.get("kind", "failed"))  # type: ignore[misc]


def _answer_of(line: bytes) -> dict[str, Any]:
    if not line:
        raise HoldfastError("the server went away during the backup")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise HoldfastError("the server gave an answer that makes no sense")
    return answer


def ask_for_backup(
    socket_path: str, tell: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Ask the server that listens at `socket_path` for a backup and wait for it.

    Args:
        socket_path: the one of the guests.
        tell: told what the server says before it begins.

    Raises:
        BackupRefused: it failed, with the server's own words and exit code.
        HoldfastError: no server, or it went away.
    """
    import socket

    with (
        files.explained(f"asking the server at {socket_path}"),
        socket.socket(socket.AF_UNIX) as talk,
    ):
        talk.connect(f"{socket_path}.control")
        talk.sendall(b'{"do": "backup"}\n')
        with talk.makefile("rb") as lines:
            while "say" in (answer := _answer_of(lines.readline(_LINE_BYTES_MAX))):
                tell(str(answer["say"]))
    if "error" in answer:
        raise BackupRefused(answer)
    return answer
