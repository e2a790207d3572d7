"""A store against a dictionary: back up, forget, prune, verify, gc, time passing, crashes."""

import hashlib
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import UTC
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.harness.sessions import add_contents, small_store
from tests.harness.small_store import UPID, age

from holdfast.datastore import prune
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.gc import collect_garbage, preview_garbage
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.retention import RetentionPolicy
from holdfast.datastore.session import BackupSession
from holdfast.datastore.snapshot_check import SnapshotFate
from holdfast.datastore.store import Datastore
from holdfast.datastore.verify import verify
from holdfast.host import gate
from holdfast.ids import GroupId, SnapshotId
from holdfast.units import DAY, HOUR, KIB

GROUPS = [GroupId.parse("host/a"), GroupId.parse("vm/1")]
CONTENTS = st.dictionaries(
    st.sampled_from(["x.pxar.didx", "y.img.fidx", "z.conf.blob"]),
    st.integers(0, 5),  # one of six texts, so that chunks are shared
    min_size=1,
)
CUTOFF_S = DAY


class Crash(BaseException):
    """The process is gone: nothing after it runs but what a kernel does."""


def text_of(number: int) -> bytes:
    return (hashlib.sha256(bytes([number])).digest() * 4 * KIB)[: 90 * KIB]


def read_back(store: Datastore, snapshot: SnapshotId) -> dict[str, bytes]:
    chunks = ChunkReader(ChunkStore(store.base))
    found = {}
    for entry in store.manifest(snapshot).files:
        if entry.filename.endswith(".blob"):
            found[entry.filename] = store.read_blob(snapshot, entry.filename)
        else:
            reader = StreamReader(store.open_index(snapshot, entry.filename), chunks)
            found[entry.filename] = reader.read_at(0, reader.size)
    return found


class StoreModel(RuleBasedStateMachine):
    """Every snapshot the model knows reads back as it was written, whatever happened since."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.snapshots: dict[SnapshotId, dict[str, bytes]] = {}
        self.protected: set[SnapshotId] = set()
        self.now_s = int(time.time()) - 1000 * DAY
        self.store = small_store(self.place)

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    @initialize(contents=CONTENTS)
    def begin(self, contents: dict[str, int]) -> None:
        self.back_up(GROUPS[0], contents)

    @rule(group=st.sampled_from(GROUPS), contents=CONTENTS)
    def back_up(self, group: GroupId, contents: dict[str, int]) -> None:
        self.now_s += HOUR
        data = {name: text_of(number) for name, number in contents.items()}
        with BackupSession.start(self.store, group, self.now_s) as session:
            add_contents(session, data)
            self.snapshots[session.finish().snapshot] = data

    @rule(group=st.sampled_from(GROUPS), contents=CONTENTS, step=st.integers(1, 12))
    def back_up_and_crash(self, group: GroupId, contents: dict[str, int], step: int) -> None:
        self.now_s += HOUR
        left = [step]

        def cut(call: str, path: object) -> int | None:
            del call, path
            left[0] -= 1
            if left[0] <= 0:  # from here on nothing reaches the disk any more
                raise Crash
            return None

        with suppress(Crash), gate.installed(cut):
            session = BackupSession.start(self.store, group, self.now_s)
            try:
                add_contents(session, {name: text_of(n) for name, n in contents.items()})
                raise Crash  # before the manifest at the latest
            finally:
                with suppress(Crash):
                    session.__exit__(Crash, Crash(), None)
        self.store = small_store(self.place)

    @rule(days=st.integers(0, 3))
    def time_passes(self, days: int) -> None:
        self.now_s += days * DAY
        for path in (self.place / ".chunks").glob("*/*"):
            age(path, days * DAY + (time.time() - path.stat().st_atime))

    @rule()
    def collect(self) -> None:
        told = preview_garbage(self.store, cutoff_s=CUTOFF_S)
        done = collect_garbage(self.store, upid=UPID, cutoff_s=CUTOFF_S)
        assert told.status.removed_bytes == done.status.removed_bytes
        assert done.missing_chunks == 0

    @rule(last=st.integers(1, 3), daily=st.integers(0, 2))
    def prune(self, last: int, daily: int) -> None:
        policy = RetentionPolicy(keep_last=last, keep_daily=daily)
        planned = prune.plan(self.store, GROUPS, policy, zone=UTC)
        for snapshot in prune.carry_out(self.store, planned).removed:
            assert snapshot not in self.protected
            self.snapshots.pop(snapshot, None)

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def protect(self, data: st.DataObject) -> None:
        snapshot = data.draw(st.sampled_from(sorted(self.snapshots, key=str)))
        self.store.set_protected(snapshot, protected=True)
        self.protected.add(snapshot)

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        snapshot = data.draw(st.sampled_from(sorted(self.snapshots, key=str)))
        if snapshot not in self.protected:
            self.store.remove_snapshot(snapshot)
            del self.snapshots[snapshot]

    @precondition(lambda self: self.snapshots)
    @rule()
    def verify(self) -> None:
        outcome = verify(self.store, list(self.snapshots), upid=UPID)
        assert {one.fate for one in outcome.snapshots} == {SnapshotFate.OK}

    @invariant()
    def everything_reads_back(self) -> None:
        listed = {
            snapshot
            for group in self.store.groups()
            for snapshot in self.store.snapshots(group)
            if self.store.is_finished(snapshot)
        }
        assert listed == set(self.snapshots)
        for snapshot, data in self.snapshots.items():
            assert read_back(self.store, snapshot) == data


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(
    max_examples=12,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
