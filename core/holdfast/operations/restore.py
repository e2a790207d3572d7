"""Bring the archives of a snapshot back: files into a directory, images to files or devices."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from holdfast.archive.content_cursor import ContentCursor
from holdfast.archive.patterns import Match, parse_arguments
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.decoder import Decoder
from holdfast.archive.pxar.items import Entry
from holdfast.archive.restore import TreeRestore
from holdfast.archive.restore_levels import NOT_OPEN
from holdfast.archive.restore_rules import Overwrite, RestoreOutcome, RestoreRules
from holdfast.archive.restore_without import Without
from holdfast.block.image_restore import Target, restore_image
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.index import Index
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.manifest import CryptMode, Manifest
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, KeyProblem, NotFound, NothingMatched, Refused
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.ids import SnapshotId
from holdfast.operations.contents import Archive, archives
from holdfast.operations.many_tuples import without_cycle_search
from holdfast.operations.progress import Progress

_READ_AHEAD: Final = 3
_CACHE_CHUNKS: Final = 4
_META_CACHE_CHUNKS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """What to bring back, and where to.

    Attributes:
        target: a directory for trees; for a single image or blob also a file or device.
        archive: one of the snapshot's archives; None for all of them.
        patterns: paths to take in, or with `!` to leave out; none means everything.
        paths: exact ones, see RestoreRules.
        without: what to leave out of each entry of a tree.
        key: of an encrypted snapshot.
    """

    snapshot: SnapshotId
    target: str
    archive: str | None = None
    patterns: tuple[bytes, ...] = ()
    paths: Mapping[bytes, bool] = field(default_factory=dict)
    overwrite: Overwrite = Overwrite.FRESH
    without: Without = Without.NOTHING
    dry_run: bool = False
    key: EncryptionKey | None = None

    @property
    def is_partial(self) -> bool:
        """Whether only some paths are wanted."""
        return bool(self.patterns or self.paths)


@dataclass(slots=True)
class Restored:
    """What came back, all archives together."""

    duration_s: float = 0.0
    tree: RestoreOutcome = field(default_factory=RestoreOutcome)
    image_bytes: int = 0
    images: int = 0
    blobs: int = 0


def restore(
    store: Datastore, request: RestoreRequest, progress: Progress, *, clock: Clock = SYSTEM_CLOCK
) -> Restored:
    """Restore; entries that fail alone are told in the outcome.

    Raises:
        NotFound: no such snapshot or archive.
        NothingMatched: the patterns take in nothing.
        Refused: the target is not empty and nothing was said about overwriting.
        KeyProblem: the snapshot is encrypted, and this is not its key.
        DamagedData: an archive cannot be read at all.
        NoSpace, HoldfastError: the target's disk failed.
    """
    began_s = clock.monotonic_s()
    manifest = store.manifest(request.snapshot, key=request.key)
    chosen = _chosen(manifest, request)
    run = _Run(store, manifest, request, progress)
    targets = _targets(chosen, request)
    with without_cycle_search():
        for archive, target in zip(chosen, targets, strict=True):
            progress.phase(archive.name)
            run.restore(archive, target)
    if request.is_partial and run.restored.tree.is_empty:
        raise NothingMatched(
            "no path in the snapshot matches",
            hint="`holdfast ls SNAPSHOT ARCHIVE -R` shows what there is; `*` stops at slashes",
        )
    run.restored.duration_s = clock.monotonic_s() - began_s
    return run.restored


def _chosen(manifest: Manifest, request: RestoreRequest) -> list[Archive]:
    known = [
        archive
        for archive in archives(manifest.files)
        if archive.name.endswith((".pxar", ".img"))
        or archive.filenames[0].endswith((".blob", ".fidx"))
    ]
    if request.archive is None:
        hidden = ("rsa-encrypted.key", "client.log")
        return [archive for archive in known if archive.name not in hidden]
    for archive in known:
        if request.archive in (archive.name, *archive.filenames):
            return [archive]
        if request.archive in {os.path.splitext(name)[0] for name in archive.filenames}:
            return [archive]
    raise NotFound(
        f"{request.snapshot} has no archive {request.archive!r}",
        hint=f"it has {', '.join(archive.name for archive in known)}",
    )


def _is_tree(archive: Archive) -> bool:
    return archive.name.endswith(".pxar")


def _targets(chosen: list[Archive], request: RestoreRequest) -> list[str]:
    """Where each archive goes: a tree into the target itself, unless there are several trees."""
    trees = sum(map(_is_tree, chosen))
    if not chosen:
        raise NotFound(f"{request.snapshot} holds nothing that can be restored")
    if request.is_partial and not trees:
        raise BadRequest("patterns choose files of an archive of files, and there is none here")
    if len(chosen) == 1 and not trees:
        target = request.target
        if os.path.isdir(target) or target.endswith("/"):
            target = os.path.join(target, chosen[0].name)
        return [target]
    if trees == 1 and len(chosen) == 1:
        return [request.target]
    return [
        os.path.join(
            request.target,
            archive.name.removesuffix(".pxar") if _is_tree(archive) else archive.name,
        )
        for archive in chosen
    ]


class _Run:
    """All archives of one request."""

    def __init__(
        self, store: Datastore, manifest: Manifest, request: RestoreRequest, progress: Progress
    ) -> None:
        self.restored = Restored()
        self._store = store
        self._manifest = manifest
        self._request = request
        self._progress = progress
        self._chunks = ChunkReader(ChunkStore.of(store), request.key)

    def restore(self, archive: Archive, target: str) -> None:
        if archive.crypt_mode is CryptMode.ENCRYPT and self._request.key is None:
            raise KeyProblem(
                f"{archive.name} of {self._request.snapshot} is encrypted",
                hint="give its key with --keyfile",
            )
        if _is_tree(archive):
            self._tree(archive, target)
        elif archive.filenames[0].endswith(".fidx"):
            self._image(archive, target)
        elif not self._request.is_partial:
            self._blob(archive, target)

    def _tree(self, archive: Archive, target: str) -> None:
        request = self._request
        rules = RestoreRules(
            overwrite=request.overwrite,
            patterns=tuple(parse_arguments(request.patterns, default=Match.INCLUDE)),
            paths=request.paths,
            without=request.without,
            dry_run=request.dry_run,
        )
        with ExitStack() as stack:
            meta, payload = self._streams(archive, stack, is_whole=not rules.is_partial)
            self._progress.total(bytes=(payload or meta).size if not rules.is_partial else None)
            what = f"archive {archive.name}"
            decoder = Decoder(meta, payload, what=what)
            run = TreeRestore(
                decoder,
                ContentCursor(payload or meta, is_split=decoder.is_split),
                resolve_link=_Links(meta, payload, what).resolve,
                target_fd=stack.enter_context(_open_target(target, rules)),
                rules=rules,
                progress=self._progress,
            )
            try:
                run.run()
            finally:
                self.restored.tree.add(run.outcome)

    def _streams(
        self, archive: Archive, stack: ExitStack, *, is_whole: bool
    ) -> tuple[StreamReader, StreamReader | None]:
        """The stream of entries and that of contents; read ahead when all of it is wanted."""
        is_split = len(archive.filenames) > 1
        names = sorted(archive.filenames)  # .mpxar before .ppxar
        readers = []
        for number, name in enumerate(names):
            holds_content = number == len(names) - 1
            readers.append(
                stack.enter_context(
                    StreamReader(
                        self._index(name),
                        self._chunks,
                        cache_chunks=_CACHE_CHUNKS if holds_content else _META_CACHE_CHUNKS,
                        read_ahead=_READ_AHEAD if is_whole and holds_content else 0,
                    )
                )
            )
        return readers[0], readers[1] if is_split else None

    def _index(self, filename: str) -> Index:
        return self._store.open_index(self._request.snapshot, filename, key=self._request.key)

    def _image(self, archive: Archive, target: str) -> None:
        if self._request.is_partial:
            return
        rule = self._request.overwrite
        _make_parent(target, dry_run=self._request.dry_run)
        how = Target.NEW
        if rule is Overwrite.ALWAYS:
            how = Target.RESUME
        elif os.path.exists(target):
            if rule is not Overwrite.FRESH and not _is_device(target):
                self.restored.tree.conflicts.append(target)
                return
            raise Refused(
                f"{target} exists", hint="--overwrite always writes over it, block by block"
            )
        index = self._index(archive.filenames[0])
        self._progress.total(bytes=index.size_bytes)
        outcome = restore_image(
            index,
            self._chunks,
            target,
            target=how,
            key=self._request.key,
            dry_run=self._request.dry_run,
            advance=lambda count: self._progress.advance(bytes=count),
        )
        self.restored.images += 1
        self.restored.image_bytes += outcome.size

    def _blob(self, archive: Archive, target: str) -> None:
        data = self._store.read_blob(
            self._request.snapshot, archive.filenames[0], self._request.key
        )
        rule = self._request.overwrite
        if os.path.lexists(target) and rule is not Overwrite.ALWAYS:
            if rule is Overwrite.FRESH:
                raise Refused(f"{target} exists", hint="--overwrite always replaces it")
            self.restored.tree.conflicts.append(target)
            return
        self.restored.blobs += 1
        if self._request.dry_run:
            return
        _make_parent(target, dry_run=False)
        with files.explained(f"writing {target}"):
            files.replace_file(target, [data], mode=0o600)


class _Links:
    """Finds what hard links belong to; most archives have none, so it opens nothing until asked."""

    def __init__(self, meta: StreamReader, payload: StreamReader | None, what: str) -> None:
        self._meta = meta
        self._payload = payload
        self._what = what
        self._accessor: Accessor | None = None

    def resolve(self, link: Entry) -> Entry:
        if self._accessor is None:
            self._accessor = Accessor(self._meta, self._payload, what=self._what)
        return self._accessor.resolve_hardlink(link)


def _is_device(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISBLK(os.stat(path).st_mode)
    return False


def _make_parent(target: str, *, dry_run: bool) -> None:
    parent = os.path.dirname(os.path.abspath(target))
    if dry_run or os.path.isdir(parent):
        return
    with files.explained(f"making {parent}"):
        os.makedirs(parent, exist_ok=True)


@contextmanager
def _open_target(path: str, rules: RestoreRules) -> Iterator[int]:
    """The directory to restore into, open, made if missing; NOT_OPEN when a dry run has none.

    Raises:
        Refused: it holds something, and the rule wants it empty.
        BadRequest: it is no directory.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with files.explained(f"opening {path}"):
        if not rules.dry_run and not os.path.lexists(path):
            _make_parent(path, dry_run=False)
            files.make_directory(path, mode=0o700)
        try:
            fd = os.open(path, flags)
        except FileNotFoundError:
            if not rules.dry_run:
                raise
            yield NOT_OPEN
            return
        except NotADirectoryError:
            raise BadRequest(f"{path} is not a directory") from None
    try:
        if rules.overwrite is Overwrite.FRESH and os.listdir(fd):
            raise Refused(
                f"{path} is not empty",
                hint="choose a new directory; or say with --overwrite what may happen to existing "
                "files (never, if-newer, keep-both, always); an interrupted restore goes on with "
                "--overwrite never",
            )
        yield fd
    finally:
        os.close(fd)
