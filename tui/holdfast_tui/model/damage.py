"""Lost chunks, the files they carry and the ways out, as rows; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from holdfast.ids import GroupId, Namespace, SnapshotId
from holdfast.operations.contents import archive_name
from holdfast_tui.model.explorer import named
from holdfast_tui.model.jobs import Job
from holdfast_tui.model.snapshots import Catalogue, SnapshotRow, VerifyCounts
from holdfast_tui.render import fmt
from holdfast_tui.render.look import Mark

if TYPE_CHECKING:
    from holdfast.datastore.damage import LostChunk
    from holdfast.operations.affected import AffectedArchive


@dataclass(frozen=True, slots=True)
class Hit:
    """A snapshot's archive that uses the chunk; `ranges` are bytes of its stream."""

    snapshot: SnapshotId
    filename: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def archive(self) -> str:
        return archive_name(self.filename)

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.ranges)


@dataclass(frozen=True, slots=True)
class HitFile:
    """A path that has bytes in the chunk; or, for an image, the bytes themselves."""

    snapshot: SnapshotId
    archive: str
    path: str


class Way(Enum):
    """What a way out does."""

    OTHER_STORE = "other store"
    GOOD_BACKUP = "good backup"
    BACK_UP = "back up"
    VERIFY = "verify"
    REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """One line of the ways out.

    Attributes:
        text: what it is.
        gain: what it repairs or brings.
        changes: it changes something, so it is asked for and off in read-only mode.
        store, snapshot, job: what it works with.
    """

    way: Way
    text: str
    gain: str = ""
    changes: bool = False
    store: str = ""
    snapshot: SnapshotId | None = None
    job: str = ""


def hits_of(chunk: "LostChunk") -> list[Hit]:
    """By time, newest first."""
    found = [Hit(use.snapshot, use.filename, use.ranges) for use in chunk.uses]
    found.sort(key=lambda hit: hit.snapshot.time_s, reverse=True)
    return found


def files_of(archives: "Sequence[AffectedArchive]") -> list[HitFile]:
    """Every path of every archive; what has no files shows its bytes.

    Where the listing itself is damaged, or encrypted and there is no key, that is said instead.
    """
    from holdfast.shown import printable

    found = []
    for one in archives:
        archive = archive_name(one.archive)
        if one.paths:
            found += [HitFile(one.snapshot, archive, printable(path)) for path in one.paths]
        elif one.gap is not None:
            found.append(HitFile(one.snapshot, archive, f"paths unknown: {one.gap}"))
        else:
            spans = ", ".join(
                f"{fmt.size(end - start)} at {fmt.size(start)}" for start, end in one.ranges[:3]
            )
            found.append(HitFile(one.snapshot, archive, f"bytes: {spans}"))
    found.sort(key=lambda file: (-file.snapshot.time_s, file.archive))
    return found


def newest_good(
    rows: Sequence[SnapshotRow], reached: Mapping[SnapshotId, int], now_s: float
) -> SnapshotRow | None:
    """The newest snapshot of a group that no known damage reaches, verified ones first."""
    good = [
        row
        for row in rows
        if row.snapshot not in reached and row.verify_mark(now_s) in (Mark.OK, Mark.OLD, Mark.NONE)
    ]
    verified = [row for row in good if row.verify_mark(now_s) is not Mark.NONE]
    return next(iter(sorted(verified or good, key=lambda row: -row.time_s)), None)


def ways_out(
    chunk: "LostChunk",
    hit: Hit,
    *,
    copies: Mapping[str, frozenset[SnapshotId]],
    catalogue: Catalogue,
    reached: Mapping[SnapshotId, int],
    jobs: Sequence[Job],
    store: str,
    now_s: float,
) -> list[WayOut]:
    """What can be done about a chunk, seen from one snapshot that it hits; the best first.

    Args:
        chunk: the lost one.
        hit: the snapshot under the cursor.
        copies: stores that hold a sound file of the chunk, and which snapshots hit they hold, too.
        catalogue: snapshots of this store.
        reached: snapshots that any lost chunk hits.
        jobs: all configured ones.
        store: this store's name.
        now_s: seconds since 1970.
    """
    group = hit.snapshot.group
    found = [
        WayOut(
            way=Way.OTHER_STORE,
            text=f"{other} holds a good copy of the chunk"
            + (" and this snapshot: restore from there" if hit.snapshot in held else ""),
            gain="all of it" if hit.snapshot in held else "",
            store=other,
            snapshot=hit.snapshot if hit.snapshot in held else None,
        )
        for other, held in sorted(copies.items())
    ]
    good = newest_good(catalogue.groups.get(group, ()), reached, now_s)
    if good is not None:
        when = "later" if good.time_s > hit.snapshot.time_s else "earlier"
        found.append(
            WayOut(
                way=Way.GOOD_BACKUP,
                text=f"the {when} backup of {fmt.moment(good.time_s)} does not use the chunk",
                gain="its version of the files",
                store=store,
                snapshot=good.snapshot,
            )
        )
    found.append(_new_backup(chunk, hit, _job_of(group, jobs, store), store))
    found.append(
        WayOut(
            way=Way.VERIFY,
            text=f"verify {named(chunk.snapshots)} again",
            gain="tells whether it healed",
            changes=True,
        )
    )
    found.append(
        WayOut(
            way=Way.REST,
            text=f"restore the undamaged files of {group} {fmt.moment(hit.snapshot.time_s)}",
            gain="all but the files listed",
            store=store,
            snapshot=hit.snapshot,
        )
    )
    return found


def _new_backup(chunk: "LostChunk", hit: Hit, job: Job | None, store: str) -> WayOut:
    group = hit.snapshot.group
    gain = f"may heal {fmt.plural(len(chunk.snapshots), 'snapshot')}"
    if job is None:
        return WayOut(
            way=Way.BACK_UP,
            text=f"back up {group} again (2 Snaps: B): the source may still have the data",
            gain=gain,
            store=store,
            snapshot=hit.snapshot,
        )
    return WayOut(
        way=Way.BACK_UP,
        text=f"back up {group} again with {job.name}: the source may still have the data",
        gain=gain,
        changes=True,
        job=job.name,
    )


def _job_of(group: GroupId, jobs: Sequence[Job], store: str) -> Job | None:
    """The configured backup job that writes the group."""
    from holdfast.operations.job_steps import group_of

    for job in jobs:
        settings = job.settings
        is_here = settings.store in (None, store) and (settings.ns or "") == str(group.ns)
        if settings.kind.value == "backup" and is_here and group_of(settings) == str(group):
            return job
    return None


def coverage(catalogue: Catalogue, now_s: float) -> list[tuple[Namespace, VerifyCounts, int]]:
    """Of each namespace: its counts, and of how many snapshots."""
    rows: dict[Namespace, list[SnapshotRow]] = {}
    for group, members in catalogue.groups.items():
        rows.setdefault(group.ns, []).extend(members)
    return [
        (ns, VerifyCounts.of(members, now_s), len(members))
        for ns, members in sorted(rows.items(), key=lambda pair: pair[0].parts)
    ]
