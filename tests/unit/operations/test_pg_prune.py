"""Retention of a cluster: never a base without its WAL, never WAL for nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.pg_archive import MadeArchive, at, new_archive
from tests.harness.stores import empty_store

from holdfast.datastore.retention import RetentionPolicy
from holdfast.datastore.store import Datastore
from holdfast.errors import Refused
from holdfast.operations.forget import ForgetRequest, forget
from holdfast.operations.pg_prune import PgDecision, PgPruneRequest, carry_out, plan
from holdfast.operations.progress import NullProgress
from holdfast.operations.prune import PruneRequest
from holdfast.operations.prune import plan as plan_generic


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    with empty_store() as made:
        yield made


@pytest.fixture
def archive(tmp_path: Path, store: Datastore) -> Iterator[MadeArchive]:
    yield from new_archive(tmp_path, store)


def decide(archive: MadeArchive, *, last: int, pitr_s: int | None = None) -> list[PgDecision]:
    status = archive.status(with_stage=False)
    policy = RetentionPolicy(keep_last=last)
    request = PgPruneRequest(store=archive.store, status=status, policy=policy, pitr_s=pitr_s)
    return plan(request, clock=archive.clock)


def kept_batches(archive: MadeArchive, decisions: list[PgDecision]) -> list[int]:
    """Numbers of the segments in batches that stay."""
    wal = archive.status(with_stage=False).catalogue
    kept = {one.snapshot for one in decisions if one.keeps}
    return sorted(entry.name.low for entry in wal if entry.batch in kept)


def test_wal_before_the_oldest_kept_base_goes(archive: MadeArchive) -> None:
    for number in range(1, 9):
        archive.push(number)
        if number in (2, 5):
            archive.base(number)
        archive.carry()

    decisions = decide(archive, last=1)
    carry_out(archive.store, decisions, archive.status().catalogue.group, NullProgress())

    assert kept_batches(archive, decisions) == [5, 6, 7, 8]
    status = archive.status(with_stage=False)
    assert [one.snapshot.time_s for one in status.bases] == [at(5) - 30]
    assert status.problems == []
    (window,) = status.histories[-1].windows
    assert (window.from_s, window.until_s) == (at(5) - 30, at(8))


def test_wal_behind_a_batch_that_stays_stays_too(archive: MadeArchive) -> None:
    for number in range(1, 6):
        archive.push(number)
        archive.carry()
    archive.base(5)
    decisions = decide(archive, last=1)
    gone = sorted((one.snapshot for one in decisions if not one.keeps), key=lambda one: one.time_s)
    archive.store.set_protected(gone[1], protected=True)  # since the plan was made

    done = carry_out(archive.store, decisions, archive.status().catalogue.group, NullProgress())

    assert done.removed == (gone[0],)
    assert [one.snapshot for one in done.refused] == [gone[1]]
    assert all(archive.store.exists(one) for one in gone[1:])


def test_a_kept_differential_keeps_what_it_builds_on(archive: MadeArchive) -> None:
    archive.push(1, 2, 3)
    full = archive.base(1)
    archive.base(3, chain=(str(full),))
    archive.carry()

    decisions = decide(archive, last=1)

    assert all(one.keeps for one in decisions)
    assert any("builds on it" in one.reason for one in decisions)


def test_before_the_window_bases_keep_only_their_own_wal(archive: MadeArchive) -> None:
    for number in range(1, 13):
        archive.push(number)
        if number in (2, 5, 9):
            archive.base(number)
        archive.carry()

    decisions = decide(archive, last=3, pitr_s=int(archive.clock.now_s()) - at(9) + 45)

    assert kept_batches(archive, decisions) == [2, 5, 6, 7, 8, 9, 10, 11, 12]


def test_without_a_base_in_the_present_history_its_newest_run_stays(archive: MadeArchive) -> None:
    for number in (1, 2, 4, 5):
        archive.push(number)
        archive.carry()

    assert kept_batches(archive, decide(archive, last=1)) == [4, 5]


def test_history_files_stay_for_ever(archive: MadeArchive) -> None:
    archive.push_text("00000002.history", "1\t0/100\tx\n")
    archive.push(1)
    archive.carry()
    archive.push(5)
    archive.base(5)
    archive.carry()

    decisions = decide(archive, last=1)

    assert [one.keeps for one in decisions if one.snapshot.group.id.endswith(".wal")] == [
        True,
        True,
    ]


def test_prune_and_forget_leave_clusters_alone(archive: MadeArchive) -> None:
    archive.push(1, 2)
    full = archive.base(1)
    archive.base(2, chain=(str(full),))
    (batch,) = archive.carry()
    policy = RetentionPolicy(keep_last=1)

    for group in (str(full.group), str(batch.group)):
        request = PruneRequest(store=archive.store, ns=archive.ns, policy=policy, group=group)
        with pytest.raises(Refused, match="database cluster"):
            plan_generic(request, NullProgress())
    everything = PruneRequest(store=archive.store, ns=archive.ns, policy=policy)
    assert plan_generic(everything, NullProgress()).decisions == ()
    with pytest.raises(Refused, match="holds WAL"):
        forget(ForgetRequest(store=archive.store, snapshots=[batch]), NullProgress())
    with pytest.raises(Refused, match="builds on"):
        forget(ForgetRequest(store=archive.store, snapshots=[full]), NullProgress())


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    segments=st.sets(st.integers(1, 10), min_size=2),
    bases=st.sets(st.integers(1, 10), min_size=1, max_size=3),
    last=st.integers(1, 3),
)
def test_kept_bases_reach_as_far_after_pruning_as_before(
    tmp_path_factory: pytest.TempPathFactory,
    store: Datastore,
    segments: set[int],
    bases: set[int],
    last: int,
) -> None:
    for archive in new_archive(tmp_path_factory.mktemp("archive"), store):
        for number in range(1, 11):
            if number in segments:
                archive.push(number)
                archive.carry()
            if number in bases:
                archive.clock.time_s = float(at(number))
                archive.base(number)
        before = {
            one.base.name: one.last
            for history in archive.status(with_stage=False).histories
            for one in history.reaches
        }
        decisions = decide(archive, last=last)
        carry_out(archive.store, decisions, archive.status().catalogue.group, NullProgress())

        after = {
            one.base.name: one.last
            for history in archive.status(with_stage=False).histories
            for one in history.reaches
        }
        assert len(after) == min(last, len(bases))
        assert after == {name: before[name] for name in after}
