"""Take one snapshot of directories, images and files."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.archive.change_detection import ChangeDetection
from holdfast.archive.tree_backup import (
    CATALOG_CHUNK_MEAN,
    CATALOG_NAME,
    TreeSource,
    back_up_split,
    back_up_unified,
    load_previous,
    preview_tree,
)
from holdfast.archive.tree_summary import TreeSummary
from holdfast.archive.walk_rules import WalkRules
from holdfast.datastore.base_snapshot import BaseSnapshot
from holdfast.datastore.session import DEFAULT_SETTINGS, BackupSession, SessionSettings, free_second
from holdfast.datastore.store import Datastore
from holdfast.datastore.stream_writer import StreamWriter
from holdfast.datastore.upload import KnownChunks, UploadStats
from holdfast.errors import BadRequest, DamagedData, NotFound
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import GroupId, SnapshotId
from holdfast.operations.backup_spec import BLOB_BYTES_MAX, Spec, SpecKind
from holdfast.operations.many_tuples import without_cycle_search
from holdfast.operations.progress import NewBytesProgress, Progress
from holdfast.operations.tree_walks import TreeWalks, Walker

if TYPE_CHECKING:
    from holdfast.archive.catalog import CatalogWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest:
    """What to back up, and as what.

    Attributes:
        specs: the archives.
        group: which group the snapshot belongs to.
        time_s: its time; None means now.
        settings: chunks, compression, encryption.
        rules: which parts of trees.
        walker: where trees are walked.
        detection: how unchanged files are found.
        comment: the snapshot's note.
        verify_upid: verify the new snapshot, results signed with this task.
        owner: who owns a new group.
    """

    specs: tuple[Spec, ...]
    group: GroupId
    time_s: int | None = None
    settings: SessionSettings = DEFAULT_SETTINGS
    rules: WalkRules = field(default_factory=WalkRules)
    detection: ChangeDetection = ChangeDetection.METADATA
    comment: str = ""
    verify_upid: str | None = None
    owner: str = "root@pam"
    walker: Walker = Walker.PROCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOutcome:
    """One archive of the new snapshot.

    Attributes:
        size: bytes before deduplication and compression.
        chunks: how many it has; 0 for a blob.
        new_chunks, stored_bytes: files written into the store.
        new_bytes: content that neither the snapshot before nor this one had, before compression.
        reused_bytes: content that they had.
        files, changed_files: regular files, and those of them that were read.
    """

    name: str
    size: int
    chunks: int
    new_chunks: int
    new_bytes: int
    stored_bytes: int
    reused_bytes: int
    files: int = 0
    changed_files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOutcome:
    """A finished backup, or what one would do.

    Attributes:
        base: the snapshot it built on.
        is_dry_run: nothing was stored.
        passed_verification: what reading it again told; None when nobody asked.
    """

    snapshot: SnapshotId
    archives: tuple[ArchiveOutcome, ...]
    duration_s: float
    warnings: tuple[str, ...]
    base: SnapshotId | None = None
    is_dry_run: bool = False
    passed_verification: bool | None = None


def back_up(
    store: Datastore,
    request: BackupRequest,
    progress: Progress,
    *,
    walks: TreeWalks | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> BackupOutcome:
    """Make the snapshot; it is there completely or not at all.

    Args:
        store: open for writing.
        request: what to back up.
        progress: who wants to know.
        walks: those of the request's trees, if they were begun already.
        clock: for the snapshot's time.

    Raises:
        NotFound, BadRequest, Refused: a source or the group is not as it has to be.
        Busy: the group is being backed up already.
        NoSpace, HoldfastError: the store's disk failed.
    """
    began_s = clock.monotonic_s()
    time_s = request.time_s
    if time_s is None:
        time_s = free_second(store, request.group, clock)
    with ExitStack() as stack:
        stack.enter_context(without_cycle_search())
        walks = walks or stack.enter_context(
            TreeWalks(request.specs, request.rules, request.walker)
        )
        session = stack.enter_context(
            BackupSession.start(
                store,
                request.group,
                time_s,
                settings=request.settings,
                owner=request.owner,
                clock=clock,
            )
        )
        if isinstance(progress, NewBytesProgress):
            progress.watch_new_bytes(lambda: session.stats.size)
        run = _Run(session, request, progress, walks)
        if session.base_dropped_reason is not None:
            run.warn(session.base_dropped_reason)
        archives = run.archives()
        progress.phase("finish")
        summary = session.finish(notes=request.comment)
        for warning in summary.warnings:
            run.warn(warning)
    passed: bool | None = None
    if request.verify_upid is not None:
        from holdfast.datastore.verify import verify  # needs numpy, which takes long to load

        progress.phase("verify")
        checked = verify(
            store, [summary.snapshot], upid=request.verify_upid, key=request.settings.key
        )
        passed = not checked.has_failed
    return BackupOutcome(
        snapshot=summary.snapshot,
        archives=archives,
        duration_s=clock.monotonic_s() - began_s,
        warnings=tuple(run.warnings),
        base=summary.base,
        passed_verification=passed,
    )


class _Run:
    """The archives of one session, one after the other."""

    def __init__(
        self,
        session: BackupSession,
        request: BackupRequest,
        progress: Progress,
        walks: TreeWalks,
    ) -> None:
        self.warnings: list[str] = []
        self._session = session
        self._request = request
        self._progress = progress
        self._walks = walks
        self._catalog: CatalogWriter | None = None
        self._catalog_stream: StreamWriter | None = None

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._progress.warn(message)

    def archives(self) -> tuple[ArchiveOutcome, ...]:
        outcomes = []
        for spec in self._request.specs:
            self._progress.phase(spec.name)
            before = self._session.stats
            if spec.kind is SpecKind.BLOB:
                outcomes.append(self._blob(spec))
                continue
            tree = self._tree(spec) if spec.kind is SpecKind.TREE else TreeSummary()
            size = tree.size_bytes if spec.kind is SpecKind.TREE else self._image(spec)
            outcomes.append(_outcome(spec.name, size, before, self._session.stats, tree))
        if self._catalog is not None and self._catalog_stream is not None:
            self._catalog.finish()
            self._catalog_stream.close()
        return tuple(outcomes)

    def _tree(self, spec: Spec) -> TreeSummary:
        request, session = self._request, self._session
        source = TreeSource(
            name=spec.name,
            root=os.fsencode(spec.path),
            events=self._walks.events(spec),
            contents=self._walks.contents(spec),
            rules=request.rules,
        )
        if request.detection is ChangeDetection.LEGACY:
            if self._catalog is None:
                from holdfast.archive.catalog import CatalogWriter

                self._catalog_stream = session.stream(CATALOG_NAME, chunk_mean=CATALOG_CHUNK_MEAN)
                self._catalog = CatalogWriter(self._catalog_stream)
            return back_up_unified(session, source, self._catalog, self._progress, self.warnings)
        return back_up_split(session, source, request.detection, self._progress, self.warnings)

    def _image(self, spec: Spec) -> int:
        from holdfast.block.nbd_uri import is_nbd_address

        if is_nbd_address(spec.path):
            return self._nbd_image(spec)
        from holdfast.block.image_backup import ImageSource, back_up_image

        with ImageSource(spec.path) as source:
            self._progress.total(bytes=source.size)
            writer = self._session.image(f"{spec.name}.fidx", source.size)
            outcome = back_up_image(
                source, writer, advance=lambda count: self._progress.advance(bytes=count)
            )
        for warning in outcome.warnings:
            self.warn(warning)
        return outcome.size

    def _nbd_image(self, spec: Spec) -> int:
        from holdfast.block.nbd_pull import NbdSource, pull_image  # loads numpy and asyncio
        from holdfast.block.nbd_uri import NbdAddress

        with NbdSource(NbdAddress.parse(spec.path)) as export:
            self._progress.total(bytes=export.size_bytes)
            writer = self._session.image(f"{spec.name}.fidx", export.size_bytes)
            pull_image(export, writer, advance=lambda count: self._progress.advance(bytes=count))
            return export.size_bytes

    def _blob(self, spec: Spec) -> ArchiveOutcome:
        data = _read_blob_source(spec.path)
        entry = self._session.blob(f"{spec.name}.blob", data)
        return ArchiveOutcome(
            name=spec.name,
            size=len(data),
            chunks=0,
            new_chunks=0,
            new_bytes=len(data),
            stored_bytes=entry.size,
            reused_bytes=0,
        )


def _image_size(spec: Spec) -> int:
    from holdfast.block.nbd_uri import NbdAddress, is_nbd_address

    if is_nbd_address(spec.path):
        from holdfast.block.nbd_pull import NbdSource

        with NbdSource(NbdAddress.parse(spec.path)) as export:
            return export.size_bytes
    from holdfast.block.image_backup import ImageSource

    with ImageSource(spec.path) as image:
        return image.size


def _read_blob_source(path: str) -> bytes:
    try:
        with files.explained(f"reading {path}"):
            fd = files.open_read(path, extra_flags=os.O_NONBLOCK)
            try:
                return files.read_all(fd, size_max=BLOB_BYTES_MAX, what=path)
            finally:
                os.close(fd)
    except DamagedData as error:
        raise BadRequest(
            f"{path} cannot be stored as one blob: {error.reason}",
            hint="store larger files as an image, NAME.img:FILE, or in an archive",
        ) from error
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist") from None


def _outcome(
    name: str, size: int, before: UploadStats, after: UploadStats, tree: TreeSummary
) -> ArchiveOutcome:
    return ArchiveOutcome(
        name=name,
        size=size,
        chunks=after.count + after.reused_chunks - before.count - before.reused_chunks,
        new_chunks=after.new_chunks - before.new_chunks,
        new_bytes=after.size - before.size,
        stored_bytes=after.new_bytes - before.new_bytes,
        reused_bytes=after.reused_bytes - before.reused_bytes,
        files=tree.files,
        changed_files=tree.changed_files,
    )


# Dry run ------------------------------------------------------------------------------------------


def preview(
    store: Datastore,
    request: BackupRequest,
    progress: Progress,
    *,
    walks: TreeWalks | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> BackupOutcome:
    """Walk and compare, read no content, store nothing (see back_up for errors)."""
    began_s = clock.monotonic_s()
    warnings: list[str] = []
    newest = store.newest_finished(request.group) if store.exists(request.group) else None
    base = None
    if newest is not None:
        mode = request.settings.crypt_mode
        base = BaseSnapshot(store, newest, store.manifest(newest), KnownChunks(), mode)
    archives = []
    with ExitStack() as stack:
        walks = walks or stack.enter_context(
            TreeWalks(request.specs, request.rules, request.walker)
        )
        for spec in request.specs:
            progress.phase(spec.name)
            tree = TreeSummary()
            if spec.kind is SpecKind.TREE:
                source = TreeSource(
                    name=spec.name,
                    root=os.fsencode(spec.path),
                    events=walks.events(spec),
                    rules=request.rules,
                )
                previous = None
                if base is not None and request.detection is ChangeDetection.METADATA:
                    previous = load_previous(store, base, source.stem, request.settings.content_key)
                tree = preview_tree(source, previous, progress, warnings)
            elif spec.kind is SpecKind.IMAGE:
                tree.size_bytes = tree.content_bytes = _image_size(spec)
            else:
                tree.size_bytes = tree.content_bytes = len(_read_blob_source(spec.path))
            archives.append(
                ArchiveOutcome(
                    name=spec.name,
                    size=tree.size_bytes,
                    chunks=0,
                    new_chunks=0,
                    new_bytes=tree.content_bytes,
                    stored_bytes=0,
                    reused_bytes=tree.reused_bytes,
                    files=tree.files,
                    changed_files=tree.changed_files,
                )
            )
    time_s = int(clock.now_s()) if request.time_s is None else request.time_s
    return BackupOutcome(
        snapshot=SnapshotId(request.group, time_s),
        archives=tuple(archives),
        duration_s=clock.monotonic_s() - began_s,
        warnings=tuple(warnings),
        base=newest,
        is_dry_run=True,
    )
