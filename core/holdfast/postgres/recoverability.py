"""Which moments a cluster can be recovered to, from base backups and archived WAL: pure arithmetic.

A base backup is consistent at its stop. From there recovery replays segment after segment of its
timeline, at a switch on into the timeline it wants to reach, and ends at the first segment that is
missing. So each base gives a window, from its stop to the time of the last segment reached;
windows of one timeline that meet are one. What lies between two windows cannot be recovered.

Segments are compared by number on their timeline, never by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.postgres.text_files import Ancestor
from holdfast.postgres.wal_names import FIRST_TIMELINE, last_segment_before, segment_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base backup.

    Attributes:
        name: of the snapshot.
        timeline: it was taken on.
        start_lsn, stop_lsn: its WAL.
        stop_s: when it was consistent.
        has_wal: whether the snapshot has the WAL from start to stop in itself.
    """

    name: str
    timeline: int
    start_lsn: int
    stop_lsn: int
    stop_s: int
    has_wal: bool = False


@dataclass(slots=True)
class WalSet:
    """The archived segments of one history.

    Attributes:
        segment_bytes: size of a segment.
        written: when the server last wrote to a segment, by timeline and number.
        ancestors: of each timeline whose history file is archived.
    """

    segment_bytes: int
    written: dict[int, dict[int, int]] = field(default_factory=dict)
    ancestors: dict[int, tuple[Ancestor, ...]] = field(default_factory=dict)

    def add(self, timeline: int, segment: int, written_s: int) -> None:
        self.written.setdefault(timeline, {})[segment] = written_s

    def timelines(self) -> list[int]:
        """Those with segments, in order."""
        return sorted(self.written)

    def without_history(self) -> list[int]:
        """Timelines that nobody can tell the origin of."""
        return [
            one for one in self.timelines() if one != FIRST_TIMELINE and one not in self.ancestors
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far one base gets on the way to one timeline.

    Attributes:
        base: it starts from.
        timeline: it is meant to end on.
        until_s: when the last reached segment was written; the base's stop when there is none.
        last: timeline and number of that segment, None when there is none.
        missing: timeline and number of the segment where it stops although later ones are there;
            None when it reaches the end of the archive.
        is_consistent: whether the base's own stop is reached; else the base is worth nothing.
    """

    base: Base
    timeline: int
    until_s: int
    last: tuple[int, int] | None
    missing: tuple[int, int] | None
    is_consistent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Every moment from `from_s` to `until_s` can be recovered to.

    Attributes:
        timeline: the moments are on.
        bases: whose reaches make it, oldest first.
        missing: the segment that ends it, when later ones are there.
    """

    timeline: int
    from_s: int
    until_s: int
    bases: tuple[str, ...]
    missing: tuple[int, int] | None


def _way(base: Base, wal: WalSet, timeline: int) -> list[tuple[int, int | None]] | None:
    """Timelines to follow, each with the switch LSN it is left at; None when there is no way."""
    if timeline == base.timeline:
        return [(timeline, None)]
    ancestors = wal.ancestors.get(timeline, ())
    numbers = [one.timeline for one in ancestors]
    if base.timeline not in numbers:
        return None
    later = ancestors[numbers.index(base.timeline) :]
    if later[0].switch_lsn < base.stop_lsn:
        return None  # the timeline was left before the base was consistent
    return [*((one.timeline, one.switch_lsn) for one in later), (timeline, None)]


def reach(base: Base, wal: WalSet, timeline: int) -> Reach | None:
    """How far `base` gets towards `timeline`; None when that does not descend from it."""
    way = _way(base, wal, timeline)
    if way is None:
        return None
    size = wal.segment_bytes
    stop_segment = last_segment_before(base.stop_lsn, size)
    segment = stop_segment + 1 if base.has_wal else segment_of(base.start_lsn, size)
    last: tuple[int, int] | None = None
    until_s = base.stop_s
    missing: tuple[int, int] | None = None
    for one, switch_lsn in way:
        there = wal.written.get(one, {})
        end = None if switch_lsn is None else segment_of(switch_lsn, size)
        while segment in there and (end is None or segment < end):
            last = (one, segment)
            until_s = max(until_s, there[segment])
            segment += 1
        if end is not None and segment < end:
            missing = (one, segment)
            break
    else:
        final = wal.written.get(timeline, {})
        if any(number > segment for number in final):
            missing = (timeline, segment)
    return Reach(
        base=base,
        timeline=timeline,
        until_s=until_s,
        last=last,
        missing=missing,
        is_consistent=base.has_wal
        or (last is not None and (last[0] != base.timeline or last[1] >= stop_segment)),
    )


def reaches(bases: Iterable[Base], wal: WalSet) -> list[Reach]:
    """Every base towards every timeline that descends from it, oldest base first."""
    found = []
    for base in sorted(bases, key=lambda one: one.stop_s):
        for timeline in sorted({base.timeline, *wal.timelines()}):
            one = reach(base, wal, timeline)
            if one is not None:
                found.append(one)
    return found


def windows(found: Sequence[Reach]) -> list[Window]:
    """The windows of recoverability, by timeline, oldest first."""
    result: list[Window] = []
    for timeline in sorted({one.timeline for one in found}):
        mine = [one for one in found if one.timeline == timeline and one.is_consistent]
        for one in sorted(mine, key=lambda each: each.base.stop_s):
            last = result[-1] if result else None
            if last is not None and last.timeline == timeline and one.base.stop_s <= last.until_s:
                further = one.until_s >= last.until_s
                result[-1] = Window(
                    timeline=timeline,
                    from_s=last.from_s,
                    until_s=max(last.until_s, one.until_s),
                    bases=(*last.bases, one.base.name),
                    missing=one.missing if further else last.missing,
                )
            else:
                result.append(
                    Window(
                        timeline=timeline,
                        from_s=one.base.stop_s,
                        until_s=one.until_s,
                        bases=(one.base.name,),
                        missing=one.missing,
                    )
                )
    return result


def needed_from(bases: Iterable[Base], wal: WalSet) -> Mapping[int, int]:
    """The first segment to keep on each timeline, so that every one of `bases` reaches the end.

    Timelines that are missing in the answer are not needed by any base; the newest run of segments
    that reaches the present is kept by the caller all the same.
    """
    size = wal.segment_bytes
    needed: dict[int, int] = {}
    for base in bases:
        for timeline in {base.timeline, *wal.timelines()}:
            way = _way(base, wal, timeline)
            if way is None:
                continue
            first = segment_of(base.start_lsn, size)
            for one, switch_lsn in way:
                needed[one] = min(needed.get(one, first), first)
                if switch_lsn is not None:
                    first = segment_of(switch_lsn, size)
    return needed


def newest_run(wal: WalSet) -> tuple[int, int] | None:
    """Timeline and first number of the unbroken run of segments that reaches the present."""
    if not wal.written:
        return None
    timeline = max(wal.written, key=lambda one: (max(wal.written[one].values(), default=0), one))
    there = wal.written[timeline]
    first = max(there)
    while first - 1 in there:
        first -= 1
    return timeline, first
