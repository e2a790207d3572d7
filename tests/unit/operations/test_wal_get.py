"""Giving WAL back: what is delivered, and when "not in the archive" may be said."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.pg_archive import CLUSTER, MadeArchive, new_archive
from tests.harness.stores import empty_store
from tests.harness.wal_files import SEGMENT, segment_bytes

from holdfast.datastore import blob
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, DamagedData, HoldfastError, Refused
from holdfast.ids import Namespace, SnapshotId
from holdfast.operations.wal_get import Archive, GetRequest, get
from holdfast.postgres.wal_catalogue import INDEX_NAME, WalCatalogue, WalEntry, wal_group
from holdfast.postgres.wal_names import segment_name

BATCH = SnapshotId(wal_group(CLUSTER, Namespace()), 1_700_000_000)


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    with empty_store() as made:
        yield made


@pytest.fixture
def archive(tmp_path: Path, store: Datastore) -> Iterator[MadeArchive]:
    yield from new_archive(tmp_path, store)


def fetch(
    archive: MadeArchive,
    name: str | int,
    *,
    generation: int | None = None,
    with_stage: bool = True,
    allows_gap: bool = False,
    cache: str | None = None,
) -> bytes | None:
    """What a recovering server gets; None for "not in the archive"."""
    target = archive.place / "RECOVERYXLOG"
    target.unlink(missing_ok=True)
    group = wal_group(CLUSTER, archive.ns)
    request = GetRequest(
        name=segment_name(1, name, SEGMENT) if isinstance(name, int) else name,
        target=str(target),
        stage=archive.stage if with_stage else None,
        open_archive=lambda: Archive(
            archive.store, WalCatalogue.load(archive.store, group, cache_path=cache)
        ),
        generation=generation,
        allows_gap=allows_gap,
    )
    found = get(request)
    assert found == target.exists()
    assert [path.name for path in archive.place.glob("RECOVERYXLOG*")] == (
        ["RECOVERYXLOG"] if found else []
    )
    return target.read_bytes() if found else None


def test_a_file_comes_from_the_stage_and_later_from_the_store(archive: MadeArchive) -> None:
    archive.push(1, 2)
    assert fetch(archive, 2) == segment_bytes(2)

    archive.carry()

    assert fetch(archive, 2) == segment_bytes(2)
    assert fetch(archive, 1, with_stage=False) == segment_bytes(1)


def test_what_was_never_archived_is_not_there(archive: MadeArchive) -> None:
    archive.push(1, 2)
    archive.carry()

    assert fetch(archive, 3) is None
    assert fetch(archive, "00000002.history") is None


def test_a_segment_missing_between_others_is_an_error(archive: MadeArchive) -> None:
    archive.push(1, 2)
    archive.carry()
    archive.push(4)

    with pytest.raises(Refused, match="older and newer segments"):
        fetch(archive, 3)
    assert fetch(archive, 3, allows_gap=True) is None


def test_while_an_index_is_damaged_nothing_is_called_absent(archive: MadeArchive) -> None:
    archive.push(1)
    (batch,) = archive.carry()
    archive.push(2)
    path = Path(archive.store.path_of(batch, INDEX_NAME))
    path.write_bytes(path.read_bytes()[:-2])

    with pytest.raises(HoldfastError, match="is unknown"):
        fetch(archive, 7)
    assert fetch(archive, 2) == segment_bytes(2), "what is there is given all the same"


def test_a_damaged_chunk_is_never_delivered(archive: MadeArchive) -> None:
    archive.push(1, seed=55)
    (batch,) = archive.carry()
    digest = archive.store.open_index(batch, "wal.didx").digest_at(0).hex()
    path = Path(archive.store.base) / ".chunks" / digest[:4] / digest
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(DamagedData):
        fetch(archive, 1)


def test_a_damaged_file_of_the_stage_is_never_delivered(archive: MadeArchive) -> None:
    archive.push(1)
    current = archive.stage.current()
    assert current is not None
    path = Path(current.staged_path(segment_name(1, 1, SEGMENT)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(DamagedData):
        fetch(archive, 1)


def test_an_index_that_lies_about_places_delivers_nothing(archive: MadeArchive) -> None:
    archive.push(1, 2)
    (batch,) = archive.carry()
    group = wal_group(CLUSTER, archive.ns)
    catalogue = WalCatalogue.load(archive.store, group)
    (entry,) = catalogue.entries[segment_name(1, 1, SEGMENT)]
    for offset in (SEGMENT, 5, 10 * SEGMENT):
        wrong = WalEntry(
            name=entry.name,
            generation=entry.generation,
            offset=offset,
            size=entry.size,
            sha256=entry.sha256,
            archived_at=0,
            batch=batch,
        )
        lying = Archive(archive.store, WalCatalogue(group, {entry.name.text: [wrong]}))
        target = archive.place / "RECOVERYXLOG"
        request = GetRequest(
            name=entry.name.text,
            target=str(target),
            stage=None,
            open_archive=partial(_same, lying),
        )
        with pytest.raises(DamagedData):
            get(request)
        assert not target.exists()


def _same(archive: Archive) -> Archive:
    return archive


def test_two_histories_want_to_be_told_apart(archive: MadeArchive) -> None:
    archive.push(1, 2)
    archive.carry()
    archive.push(2, seed=1)
    old, new = (one.time_s for one in archive.stage.generations())

    with pytest.raises(Refused, match="time went back"):
        fetch(archive, 2)
    archive.carry()
    with pytest.raises(Refused, match="different contents"):
        fetch(archive, 2)

    assert fetch(archive, 2, generation=old) == segment_bytes(2)
    assert fetch(archive, 2, generation=new) == segment_bytes(2, seed=1)
    assert fetch(archive, 1) == segment_bytes(1), "there is only one of it"
    assert fetch(archive, 1, generation=new) is None


def test_history_files_of_earlier_histories_count(archive: MadeArchive) -> None:
    archive.push_text("00000002.history", "1\t0/100\tx\n")
    archive.push(2)
    archive.carry()
    archive.push(2, seed=1)
    new = archive.stage.generations()[-1].time_s

    assert fetch(archive, "00000002.history", generation=new) == b"1\t0/100\tx\n"


def test_stored_twice_after_a_crash_is_no_conflict(archive: MadeArchive) -> None:
    archive.push(1)
    archive.carry()
    current = archive.stage.current()
    assert current is not None
    (Path(current.carried_path) / segment_name(1, 1, SEGMENT)).unlink()
    archive.push(1)
    archive.carry()

    assert len(archive.status(with_stage=False).catalogue.entries) == 1
    assert fetch(archive, 1, with_stage=False) == segment_bytes(1)


def test_the_cache_gives_the_same_answers_and_may_be_nonsense(archive: MadeArchive) -> None:
    cache = archive.place / "cache" / "file"
    archive.push(1, 2)
    archive.carry()
    assert fetch(archive, 1, with_stage=False, cache=str(cache)) == segment_bytes(1)
    good = cache.read_bytes()
    archive.push(3)
    archive.carry()

    assert fetch(archive, 3, with_stage=False, cache=str(cache)) == segment_bytes(3)
    for nonsense in (b"", b"{}", b"\xff", good[:-9], good.replace(b'"offset":0', b'"offset":-1')):
        cache.write_bytes(nonsense)
        assert fetch(archive, 3, with_stage=False, cache=str(cache)) == segment_bytes(3)


@pytest.mark.parametrize("name", ["../x", "RECOVERYXLOG", "", "000000010000000000000001.zst"])
def test_a_name_that_is_none_is_refused(archive: MadeArchive, name: str) -> None:
    with pytest.raises(BadRequest):
        fetch(archive, name)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "offset", "size", "sha256", "archived_at", "generation"]),
                inner | st.just("a" * 64) | st.just("000000010000000000000001"),
                max_size=6,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_an_entry_or_damage(value: object) -> None:
    try:
        entry = WalEntry.from_json(value, BATCH)
    except DamagedData:
        return
    assert entry.offset >= 0
    assert 0 <= entry.size <= 1 << 30


def test_an_index_that_is_no_list_is_damage(archive: MadeArchive) -> None:
    archive.push(1)
    (batch,) = archive.carry()
    for content in (b"{}", b"5", b"[1]", b"nonsense", b"[" * 9999, json.dumps([{}]).encode()):
        parts = b"".join(bytes(part) for part in blob.encode(content, level=None))
        Path(archive.store.path_of(batch, INDEX_NAME)).write_bytes(parts)
        found = WalCatalogue.load(archive.store, wal_group(CLUSTER, archive.ns))
        assert [one for one, _reason in found.unreadable] == [batch]
