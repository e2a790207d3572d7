"""Windows of recoverability, against a plain simulation of a recovering server."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.postgres.recoverability import (
    Base,
    WalSet,
    needed_from,
    newest_run,
    reach,
    reaches,
    windows,
)
from holdfast.postgres.text_files import Ancestor
from holdfast.units import MIB

SIZE = 1 * MIB


def base_at(segment: int, *, stop_s: int, timeline: int = 1, has_wal: bool = False) -> Base:
    """Starts in a segment and ends with it."""
    return Base(
        name=f"b{segment}",
        timeline=timeline,
        start_lsn=segment * SIZE + 40,
        stop_lsn=(segment + 1) * SIZE,
        stop_s=stop_s,
        has_wal=has_wal,
    )


def wal_of(*segments: int, timeline: int = 1) -> WalSet:
    wal = WalSet(SIZE)
    for number in segments:
        wal.add(timeline, number, number * 100)
    return wal


def test_a_gap_ends_one_window_and_the_next_base_begins_another() -> None:
    wal = wal_of(1, 2, 3, 4, 6, 7, 8)
    bases = [base_at(1, stop_s=110), base_at(7, stop_s=710)]

    first, second = windows(reaches(bases, wal))

    assert (first.from_s, first.until_s, first.missing) == (110, 400, (1, 5))
    assert (second.from_s, second.until_s, second.missing) == (710, 800, None)


def test_windows_that_meet_are_one() -> None:
    wal = wal_of(*range(1, 9))
    bases = [base_at(1, stop_s=110), base_at(5, stop_s=510)]

    (only,) = windows(reaches(bases, wal))

    assert (only.from_s, only.until_s, only.bases) == (110, 800, ("b1", "b5"))


def test_a_base_without_its_own_wal_gives_no_window() -> None:
    assert windows(reaches([base_at(3, stop_s=1)], wal_of(4, 5))) == []
    (own,) = windows(reaches([base_at(3, stop_s=300, has_wal=True)], wal_of(4, 5)))
    assert (own.from_s, own.until_s) == (300, 500)


def test_recovery_goes_on_over_a_switch_with_the_new_timelines_copy() -> None:
    wal = wal_of(1, 2, 3, 4)
    for number in (3, 4, 5):
        wal.add(2, number, number * 1000)
    wal.ancestors[2] = (Ancestor(1, 3 * SIZE + 500),)
    base = base_at(1, stop_s=110)

    old, new = reach(base, wal, 1), reach(base, wal, 2)

    assert old is not None
    assert new is not None
    assert (old.last, old.until_s) == ((1, 4), 400)
    assert (new.last, new.until_s, new.missing) == ((2, 5), 5000, None)
    late = base_at(3, stop_s=350)
    assert reach(late, wal, 2) is None, "the timeline was left before the base was consistent"
    assert wal.without_history() == []
    assert needed_from([base], wal) == {1: 1, 2: 3}


def test_a_timeline_without_its_history_file_is_noticed() -> None:
    wal = wal_of(1, 2)
    wal.add(2, 2, 5)

    assert wal.without_history() == [2]
    assert reach(base_at(1, stop_s=1), wal, 2) is None


def test_the_newest_run_is_the_one_that_reaches_the_present() -> None:
    wal = wal_of(1, 2, 5, 6, 7)

    assert newest_run(wal) == (1, 5)
    assert newest_run(WalSet(SIZE)) is None


@given(
    present=st.sets(st.integers(0, 14)),
    starts=st.lists(st.integers(0, 14), min_size=1, max_size=3, unique=True),
    has_wal=st.booleans(),
)
def test_reaches_are_what_a_server_would_replay(
    present: set[int], starts: list[int], *, has_wal: bool
) -> None:
    wal = wal_of(*present)
    for start in starts:
        base = base_at(start, stop_s=start * 100 + 50, has_wal=has_wal)
        at = start + 1 if has_wal else start
        while at in present:
            at += 1

        found = reach(base, wal, 1)

        assert found is not None
        assert found.is_consistent == (has_wal or start in present)
        expected_missing = (1, at) if any(one > at for one in present) else None
        assert found.missing == expected_missing
        assert found.until_s == max(base.stop_s, (at - 1) * 100 if found.last else 0)


@given(present=st.sets(st.integers(0, 14)), kept=st.sets(st.integers(0, 14), min_size=1))
def test_what_is_needed_lets_every_kept_base_reach_as_far_as_before(
    present: set[int], kept: set[int]
) -> None:
    wal = wal_of(*present)
    bases = [base_at(number, stop_s=number) for number in kept]
    first = needed_from(bases, wal)[1]

    pruned = wal_of(*(number for number in present if number >= first))

    assert [one.last for one in reaches(bases, pruned)] == [one.last for one in reaches(bases, wal)]
    assert first == min(kept)
