"""Garbage collection against writers, removals, verification and Proxmox, at chosen moments.

Events are tied to what the collection says of its progress and to effects on the disk, so each race
happens every time. In all of them a cutoff of zero is used: age protects nothing.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.harness.places import quick_directory
from tests.harness.small_store import UPID, SmallStore

from holdfast.datastore.blob import encode
from holdfast.datastore.gc import GcOutcome, collect_garbage
from holdfast.datastore.keys import plain_digest
from holdfast.datastore.session import BackupSession, SessionSettings
from holdfast.datastore.set_aside import SetAside, set_aside
from holdfast.datastore.store import Datastore
from holdfast.datastore.stream_writer import KnownChunk
from holdfast.errors import Busy, DamagedData
from holdfast.host import gate
from holdfast.ids import GroupId, SnapshotId
from holdfast.units import DAY

GROUP = GroupId.parse("host/a")
ARCHIVE = "x.raw.didx"
FIRST_S = 1_800_000_000
SETTINGS = SessionSettings(workers=1)
OLD, KEPT, OTHER = (letter * 4096 for letter in (b"o", b"k", b"x"))
EVENTS = st.sampled_from(["turn", "remove", "both"])
MOMENTS = st.integers(0, 16)
HOLD_SHARED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as lock_file:
    try:
        fcntl.lockf(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        sys.exit(11)
    print("held", flush=True)
    sys.stdin.read()
"""


class AtMoment:
    """An observer that does something when the collection has said the n-th word."""

    def __init__(self, events: dict[int, Callable[[], None]]) -> None:
        self.words = 0
        self._events = events

    def _word(self) -> None:
        event = self._events.pop(self.words, None)
        self.words += 1
        if event is not None:
            event()

    def phase(self, name: str) -> None:
        del name
        self._word()

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        del items, bytes
        self._word()

    def total(self, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        pass

    def item(self, name: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


class AtListing:
    """Does something right before the n-th directory is listed, by this thread."""

    def __init__(self, events: dict[int, Callable[[], None]]) -> None:
        self._events = events
        self._count = 0
        self._thread = threading.get_ident()

    def hear(self, event: str) -> None:
        if event != "os.scandir" or threading.get_ident() != self._thread:
            return
        happening = self._events.pop(self._count, None)
        self._count += 1
        if happening is not None:
            happening()


listeners: list[AtListing] = []  # at most one; an audit hook itself cannot be taken away again
sys.addaudithook(lambda event, _args: listeners[0].hear(event) if listeners else None)


@pytest.fixture
def small() -> Iterator[SmallStore]:
    with quick_directory() as place:
        yield SmallStore(place / "store")


def collect(store: Datastore, events: dict[int, Callable[[], None]] | None = None) -> GcOutcome:
    return collect_garbage(store, upid=UPID, cutoff_s=0, observer=AtMoment(events or {}))


class ReusingBackup:
    """A backup that inherits every chunk of its base and touches none."""

    def __init__(self, store: Datastore, time_s: int) -> None:
        self._session = BackupSession.start(store, GROUP, time_s, settings=SETTINGS)
        assert self._session.base is not None
        self.base = self._session.base.snapshot
        self._inherited = self._session.base.index(ARCHIVE)

    def finish(self) -> SnapshotId:
        index = self._inherited
        assert index is not None
        ranges = [index.range_at(number) for number in range(index.chunk_count)]
        with self._session as session:
            stream = session.stream(ARCHIVE)
            stream.inject(
                [
                    KnownChunk(digest, end - start)
                    for digest, (start, end) in zip(index.digests(), ranges, strict=True)
                ]
            )
            stream.close()
            return session.finish().snapshot


def name(day: int) -> str:
    return f"host/a/2026-01-{day:02}T00:00:00Z"


def remove_what_can_be(store: Datastore) -> None:
    """All but the newest finished snapshot, except those that a backup builds on."""
    done = [each for each in store.snapshots(GROUP) if store.is_finished(each)]
    for snapshot in done[:-1]:
        with suppress(Busy):
            store.remove_snapshot(snapshot)


@settings(max_examples=60, deadline=None)
@given(words=st.dictionaries(st.integers(0, 9), EVENTS), listings=st.dictionaries(MOMENTS, EVENTS))
@example(words={}, listings=dict.fromkeys(range(2, 8), "both"))
@example(words={1: "both", 2: "both"}, listings={})
def test_a_chunk_handed_from_snapshot_to_snapshot_is_never_lost(
    words: dict[int, str], listings: dict[int, str]
) -> None:
    """Goal: chains of short backups and removals behind the walker's back cost nothing.

    Method: backups that only inherit are finished, begun and their bases removed at drawn moments.
    """
    with quick_directory() as place:
        small = SmallStore(place / "store")
        for day in (1, 2, 3):
            small.snapshot(name(day), {ARCHIVE: [OLD, KEPT]})
        small.age_chunks(2 * DAY)
        running = [ReusingBackup(small.store, FIRST_S)]

        def turn() -> None:
            before = running.pop().finish()
            running.append(ReusingBackup(small.store, before.time_s + 1))

        def event(kind: str) -> Callable[[], None]:
            def happen() -> None:
                heard = listeners.copy()
                listeners.clear()  # what happens here lists directories, too
                if kind != "remove":
                    turn()
                if kind != "turn":
                    remove_what_can_be(small.store)
                listeners.extend(heard)

            return happen

        listeners.append(AtListing({at: event(kind) for at, kind in listings.items()}))
        try:
            outcome = collect(small.store, {word: event(kind) for word, kind in words.items()})
        finally:
            listeners.clear()

        running.pop().finish()
        assert outcome.missing_chunks == 0
        assert small.digests() == {plain_digest(OLD), plain_digest(KEPT)}


def test_the_base_goes_while_the_walk_is_between_two_snapshots(small: SmallStore) -> None:
    small.snapshot(name(1), {ARCHIVE: [OTHER]})
    small.snapshot(name(2), {ARCHIVE: [OLD]})
    small.age_chunks(2 * DAY)
    running = ReusingBackup(small.store, FIRST_S)

    def hand_over() -> None:
        running.finish()
        small.store.remove_snapshot(running.base)

    outcome = collect(small.store, {1: hand_over})  # the first index is marked, the second is not

    assert outcome.status.index_file_count == 2
    assert plain_digest(OLD) in small.digests()


def test_a_writer_that_registers_late_keeps_what_it_touches_after_that(small: SmallStore) -> None:
    garbage = small.put(OLD)
    small.age_chunks(2 * DAY)
    began_s = int(small.path(garbage).stat().st_mtime) - 3600  # computed long before

    def register_and_touch() -> None:
        with small.store.store_lock.writer(began_s):
            small.put(OLD)

    outcome = collect(small.store, {1: register_and_touch})  # at the start of the sweep

    assert garbage in small.digests()
    assert outcome.status.removed_chunks == 0


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_an_insert_waits_for_the_sweep_and_then_writes_anew(small: SmallStore) -> None:
    digest = small.put(OLD)
    small.age_chunks(2 * DAY)
    threads: list[threading.Thread] = []

    def during(call: str, path: object) -> None:
        if call == "unlink" and str(path) == str(small.path(digest)) and not threads:
            threads.append(in_a_thread(lambda: small.put(OLD)))
            threads[0].join(0.1)
            assert threads[0].is_alive()  # kept out of the directory while the sweep decides

    with gate.installed(during):
        outcome = collect(small.store)
        threads[0].join()

    assert outcome.status.removed_chunks == 1
    assert small.path(digest).read_bytes() == b"".join(encode(OLD))


def test_the_sweep_waits_for_an_insert_and_then_finds_the_chunk_young(small: SmallStore) -> None:
    digest = small.put(OLD)
    small.age_chunks(2 * DAY)
    touching, looked = threading.Event(), threading.Event()

    def during(call: str, path: object) -> None:
        if call == "touch" and str(path) == str(small.path(digest)):
            touching.set()  # inside the shared lock, the access time is still old
            assert looked.wait(20)

    with gate.installed(during):
        writer = in_a_thread(lambda: small.put(OLD))
        assert touching.wait(20)

        def let_go_soon() -> None:
            threading.Timer(0.1, looked.set).start()

        outcome = collect(small.store, {1: let_go_soon})
        writer.join()

    assert outcome.status.removed_chunks == 0
    assert digest in small.digests()


def test_proxmox_and_the_collection_keep_each_other_out(small: SmallStore) -> None:
    lock = str(small.base / ".lock")
    small.store.store_lock.chunk_guard().close()  # makes the lock file
    codes: list[int] = []

    def try_to_write() -> None:
        done = subprocess.run([sys.executable, "-c", HOLD_SHARED, lock], check=False, input=b"")
        codes.append(done.returncode)

    collect(small.store, {0: try_to_write, 1: try_to_write, 5: try_to_write})
    assert codes == [11, 11, 11]

    with subprocess.Popen(
        [sys.executable, "-c", HOLD_SHARED, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as proxmox:
        assert proxmox.stdout is not None
        assert proxmox.stdout.readline() == b"held\n"
        with pytest.raises(Busy):
            collect(small.store)
        assert proxmox.stdin is not None
        proxmox.stdin.close()
    assert collect(small.store).status.removed_chunks == 0


def test_clocks_that_step_back_during_the_collection_cost_nothing(small: SmallStore) -> None:
    """Goal: touched chunks that look old stay. Method: age them again behind every touch."""
    small.snapshot(name(1), {ARCHIVE: [OLD, KEPT]})
    small.age_chunks(2 * DAY)

    outcome = collect(small.store, {word: partial(small.age_chunks, DAY) for word in range(300)})

    assert outcome.status.removed_chunks == 0
    assert len(small.digests()) == 2


def test_a_chunk_that_is_healed_before_the_second_look_is_not_set_aside(small: SmallStore) -> None:
    digest = small.put(OLD)

    def look(fd: int) -> None:
        if os.pread(fd, 1 << 20, 0) != b"".join(encode(OLD)):
            raise DamagedData("chunk", "flipped")

    with small.store.store_lock.chunk_guard() as guard:
        assert set_aside(str(small.path(digest)), digest, guard, look) is SetAside.HEALED
        small.flip(digest)
        assert set_aside(str(small.path(digest)), digest, guard, look) is SetAside.RENAMED
        assert set_aside(str(small.path(digest)), digest, guard, look) is SetAside.GONE


def test_a_chunk_healed_by_a_proxmox_writer_in_the_last_moment_is_put_back(
    small: SmallStore,
) -> None:
    digest = small.put(OLD)
    small.flip(digest)
    path = small.path(digest)

    def look(_fd: int) -> None:
        raise DamagedData("chunk", "flipped")

    def heal(call: str, _target: object) -> None:
        if call == "rename":  # whoever heals replaces the file, so that it has another inode
            (path.parent / "new").write_bytes(b"".join(encode(OLD)))
            (path.parent / "new").rename(path)
            gate.active = None

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_SHARED, str(small.base / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder, small.store.store_lock.chunk_guard() as guard:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with gate.installed(heal):
            assert set_aside(str(path), digest, guard, look) is SetAside.HEALED
        assert holder.stdin is not None
        holder.stdin.close()

    assert path.read_bytes() == b"".join(encode(OLD))
    assert [each.name for each in small.chunk_files()] == [digest.hex()]
