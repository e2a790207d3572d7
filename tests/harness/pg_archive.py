"""An archive of a made-up cluster in a real store: WAL carried from a stage, bases as manifests."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.datastore.session import DEFAULT_SETTINGS, BackupSession
from holdfast.datastore.store import Datastore
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId, epoch_to_name
from holdfast.operations.pg_status import StatusRequest, look
from holdfast.operations.pg_view import ClusterStatus
from holdfast.operations.wal_carry import CarryTarget, carry, leave_stage
from holdfast.postgres.wal_catalogue import wal_group
from holdfast.postgres.wal_names import format_lsn, segment_name
from holdfast.postgres.wal_push import store_file
from holdfast.postgres.wal_stage import WalStage
from tests.harness.driven_clock import DrivenClock
from tests.harness.wal_files import CLUSTER_ID, SEGMENT, new_stage, write_segment

CLUSTER = "pg-main"


def at(segment: int) -> int:
    """When the made-up server last wrote to a segment: a minute each."""
    return 1_700_000_000 + 60 * segment


@dataclass(slots=True)
class MadeArchive:
    """A store, a stage and a clock that goes along with the segments."""

    place: Path
    store: Datastore
    ns: Namespace
    clock: DrivenClock = field(default_factory=lambda: DrivenClock(float(at(0))))
    stage: WalStage = field(init=False)

    def __post_init__(self) -> None:
        self.stage = new_stage(self.place / "stage")

    @property
    def bases(self) -> GroupId:
        return GroupId(BackupType.HOST, CLUSTER, self.ns)

    def push(self, *numbers: int, timeline: int = 1, seed: int = 0) -> None:
        """The server hands segments in, a minute after the other."""
        for number in numbers:
            path = write_segment(self.place / "server", number, timeline=timeline, seed=seed)
            os.utime(path, (at(number), at(number)))
            self.clock.time_s = float(at(number) + 1)
            if self.stage.current() is None:
                self.stage.begin_generation(at(0), instead_of=None)
            store_file(self.stage, str(path))

    def push_text(self, name: str, text: str) -> None:
        path = self.place / "server" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        store_file(self.stage, str(path))

    def carry(self) -> list[SnapshotId]:
        """Everything on the stage goes to the store, as one batch."""
        target = CarryTarget(
            store=self.store, group=wal_group(CLUSTER, self.ns), settings=DEFAULT_SETTINGS
        )
        carried = carry(self.stage, target, clock=self.clock)
        leave_stage(self.stage)
        return list(carried.batches)

    def base(
        self,
        segment: int,
        *,
        timeline: int = 1,
        chain: tuple[str, ...] = (),
        cluster: int = CLUSTER_ID,
        has_wal: bool = False,
    ) -> SnapshotId:
        """A base backup that starts and stops in a segment, half a minute before its end."""
        time_s = at(segment) - 30
        about = {
            "kind": "differential" if chain else "full",
            "system_identifier": str(cluster),
            "start": {
                "lsn": format_lsn(segment * SEGMENT + 40),
                "tli": timeline,
                "time": epoch_to_name(time_s - 5),
            },
            "stop": {
                "lsn": format_lsn((segment + 1) * SEGMENT),
                "tli": timeline,
                "time": epoch_to_name(time_s),
            },
            "parent": chain[-1].rpartition("/")[2] if chain else None,
            "chain": [name.rpartition("/")[2] for name in chain],
            "wal_included": has_wal,
            "wal_required": {
                "first": segment_name(timeline, segment, SEGMENT),
                "last": segment_name(timeline, segment, SEGMENT),
            },
        }
        with BackupSession.start(self.store, self.bases, time_s, clock=self.clock) as session:
            session.blob("pg.json.blob", b"{}")
            return session.finish(unprotected={"pg": about}).snapshot

    def status(self, *, with_stage: bool = True) -> ClusterStatus:
        request = StatusRequest(
            store=self.store,
            cluster=CLUSTER,
            ns=self.ns,
            stage=self.stage if with_stage else None,
        )
        return look(request, clock=self.clock)


def new_archive(place: Path, store: Datastore) -> Iterator[MadeArchive]:
    """For a fixture: an archive in a namespace of its own."""
    ns = Namespace((f"t{len(store.namespaces())}",))
    store.create_namespace(ns)
    made = MadeArchive(place, store, ns)
    yield made
    made.stage.close()
