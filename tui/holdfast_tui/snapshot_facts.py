"""What the detail view reads of one snapshot: its manifest, its chunks, and who shares them.

For threads. Chunk files are looked for, never read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from holdfast.datastore import verify_history
from holdfast.datastore.manifest import ChunkUploadStats, VerifyState
from holdfast.ids import SnapshotId
from holdfast.operations.contents import archives
from holdfast_tui.insights import Steps

if TYPE_CHECKING:
    from holdfast.datastore.digest_set import Digests, Mask
    from holdfast.datastore.index import Index
    from holdfast.datastore.store import Datastore

MAP_CELLS: Final = 42
LOOKED_FOR_MAX: Final = 200_000
_SIBLINGS_MAX: Final = 60
_LOST_SHOWN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFacts:
    """One archive.

    Attributes:
        kind: of its files: `stream`, `image`, `blob`.
        chunks: in the stream's order, repeated ones too; 0 for a blob.
        fresh: chunks that the snapshot before does not have.
        lost: first digests without a file, with the byte of their stream they begin at.
        lost_count: of all of them.
        cells: the stream from begin to end: `X` lost, `n` mostly new, `+` known before.
    """

    name: str
    kind: str
    size: int
    crypt: str
    chunks: int = 0
    fresh: int = 0
    stored: int | None = None
    lost: tuple[tuple[str, int], ...] = ()
    lost_count: int = 0
    cells: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFacts:
    """One snapshot.

    Attributes:
        sharing: other snapshots of the group, and which part of this one's chunks they have, 0..1.
        own_bytes: length of the files in the snapshot's directory.
        before: the snapshot before this one, which `fresh` compares with.
    """

    archives: tuple[ArchiveFacts, ...] = ()
    upload: ChunkUploadStats | None = None
    history: tuple[VerifyState, ...] = ()
    fingerprint: str | None = None
    is_signed: bool = False
    sharing: tuple[tuple[SnapshotId, float], ...] = ()
    own_bytes: int = 0
    before: SnapshotId | None = None
    warnings: tuple[str, ...] = field(default=())


def read_facts(
    store: "Datastore", snapshot: SnapshotId, group: Sequence[SnapshotId], steps: Steps
) -> SnapshotFacts:
    """Everything (HoldfastError).

    Args:
        store: open for reading.
        snapshot: a finished one.
        group: the finished snapshots of its group, newest first.
        steps: told how far it is.
    """
    from holdfast.datastore import digest_set

    manifest = store.manifest(snapshot)
    older = [each for each in group if each.time_s < snapshot.time_s]
    before = older[0] if older else None
    known = _digests(store, before, steps) if before is not None else digest_set.empty()
    found = []
    own = digest_set.DigestSet()
    for archive in archives(manifest.files):
        columns = [
            (name, store.open_index_file(snapshot, name))
            for name in archive.filenames
            if name.endswith("idx")
        ]
        for _name, index in columns:
            own.add(digest_set.column(index))
        facts = ArchiveFacts(
            name=archive.name,
            kind=_kind(archive.filenames),
            size=archive.size,
            crypt=archive.crypt_mode.value,
        )
        found.append(_with_chunks(store, facts, [index for _n, index in columns], known, steps))
    digests = own.ordered()
    return SnapshotFacts(
        archives=tuple(found),
        upload=manifest.chunk_upload_stats,
        history=tuple(verify_history.read(manifest.unprotected)),
        fingerprint=manifest.key_fingerprint,
        is_signed=manifest.signature is not None,
        sharing=tuple(_sharing(store, snapshot, group, digests, steps)),
        own_bytes=sum(file.size for file in store.files(snapshot)),
        before=before,
        warnings=tuple(steps.warnings),
    )


def _kind(filenames: Sequence[str]) -> str:
    if filenames[0].endswith(".blob"):
        return "blob"
    return "image" if filenames[0].endswith(".fidx") else "stream"


def _with_chunks(
    store: "Datastore",
    facts: ArchiveFacts,
    indexes: Sequence["Index"],
    known: "Digests",
    steps: Steps,
) -> ArchiveFacts:
    """Counts and map of all streams of an archive, one after the other."""
    from dataclasses import replace

    import numpy as np

    from holdfast.datastore import digest_set
    from holdfast.datastore.stats import stored_files

    chunks = fresh = stored = lost_count = 0
    lost: list[tuple[str, int]] = []
    new_ones: list[Mask] = []
    lost_ones: list[Mask] = []
    is_looked_for = True
    for index in indexes:
        column = digest_set.column(index)
        is_new = ~digest_set.positions(known, column)[1]
        distinct = digest_set.distinct(column)
        is_looked_for = is_looked_for and len(distinct) <= LOOKED_FOR_MAX
        gone = digest_set.empty()
        if is_looked_for:
            sizes, is_there = stored_files(store.base, distinct, steps)
            stored += int(sizes.sum(dtype=np.int64))
            gone = distinct[~is_there]
        is_lost = digest_set.positions(gone, column)[1]
        numbers = np.flatnonzero(is_lost).tolist()[:_LOST_SHOWN]
        lost += [(index.digest_at(at).hex(), index.range_at(at)[0]) for at in numbers]
        chunks += len(column)
        fresh += int(is_new.sum())
        lost_count += len(gone)
        new_ones.append(is_new)
        lost_ones.append(is_lost)
    return replace(
        facts,
        chunks=chunks,
        fresh=fresh,
        stored=stored if is_looked_for and indexes else None,
        lost=tuple(lost),
        lost_count=lost_count,
        cells=_cells(np.concatenate(new_ones), np.concatenate(lost_ones)) if indexes else "",
    )


def _cells(is_new: "Mask", is_lost: "Mask") -> str:
    import numpy as np

    each = max(1, MAP_CELLS // max(1, len(is_new)))  # few chunks: several cells each
    is_new, is_lost = np.repeat(is_new, each), np.repeat(is_lost, each)
    count = max(1, min(MAP_CELLS, len(is_new)))
    parts = zip(np.array_split(is_new, count), np.array_split(is_lost, count), strict=True)
    return "".join(
        "X" if bad.any() else "n" if fresh.mean() > 0.5 else "+"  # noqa: PLR2004  # most of it
        for fresh, bad in parts
        if len(fresh)
    )


def _digests(store: "Datastore", snapshot: SnapshotId, steps: Steps) -> "Digests":
    """All of a snapshot, sorted; what cannot be read is left out."""
    from holdfast.datastore import digest_set
    from holdfast.errors import HoldfastError

    found = digest_set.DigestSet()
    try:
        for file in store.files(snapshot):
            if file.name.endswith("idx"):
                found.add(digest_set.column(store.open_index_file(snapshot, file.name)))
    except HoldfastError as error:
        steps.warn(str(error))
    return found.ordered()


def _sharing(
    store: "Datastore",
    snapshot: SnapshotId,
    group: Sequence[SnapshotId],
    digests: "Digests",
    steps: Steps,
) -> list[tuple[SnapshotId, float]]:
    """The nearest snapshots of the group, newest first."""
    from holdfast.datastore import digest_set

    near = sorted(group, key=lambda each: abs(each.time_s - snapshot.time_s))[: _SIBLINGS_MAX + 1]
    others = [each for each in group if each != snapshot and each in set(near)]
    steps.phase("group")
    steps.total(items=len(others))
    found = []
    for other in others:
        there = digest_set.positions(_digests(store, other, steps), digests)[1]
        found.append((other, float(there.mean()) if len(digests) else 0.0))
        steps.advance(items=1)
    return found
