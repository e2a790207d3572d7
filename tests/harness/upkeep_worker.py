"""A process that backs up, collects, prunes or verifies a store, once or until a moment comes.

    python -m tests.harness.upkeep_worker BASE VERB SEED EFFECT UNTIL_S

EFFECT >= 0: SIGKILL right before that effect on the disk, and one round only. EFFECT < 0: rounds
until the clock shows UNTIL_S (0: one round). What a snapshot holds follows from its group and time,
so that anybody can tell later whether it is whole. Ends with 0, or with 1 and a sentence on stderr
when something happened that must not.
"""

import hashlib
import random
import sys
import time
from datetime import UTC
from pathlib import Path

from holdfast.datastore import prune
from holdfast.datastore.gc import collect_garbage
from holdfast.datastore.retention import RetentionPolicy
from holdfast.datastore.session import BackupSession, SessionSettings
from holdfast.datastore.snapshot_check import SnapshotFate
from holdfast.datastore.store import Access, Datastore
from holdfast.datastore.verify import verify
from holdfast.errors import Busy, NotFound, Refused
from holdfast.host import gate
from holdfast.ids import GroupId, SnapshotId
from holdfast.units import KIB
from tests.harness.session_victim import killer
from tests.harness.sessions import add_contents
from tests.harness.small_store import UPID

GROUPS = [GroupId.parse("host/a"), GroupId.parse("host/b")]
SETTINGS = SessionSettings(chunk_mean=64 * KIB)
KEEP = RetentionPolicy(keep_last=2)
PIECE_BYTES = 40 * KIB
PIECES = 12
VARIETY = 3  # how many texts one piece has over time: old ones come back after their removal


def contents_of(snapshot: SnapshotId) -> dict[str, bytes]:
    """Twelve pieces, most of them as in the snapshot a second earlier."""
    parts = []
    for number in range(PIECES):
        version = (snapshot.time_s + number) // PIECES % VARIETY
        seed = f"{snapshot.group.id if number % 3 else 'both'} {number} {version}"
        parts.append(random.Random(seed).randbytes(PIECE_BYTES))
    return {
        "root.pxar.didx": b"".join(parts),
        "fw.conf.blob": hashlib.sha256(str(snapshot).encode()).digest(),
    }


def finished(store: Datastore) -> list[SnapshotId]:
    """Every finished snapshot, oldest first."""
    return [
        snapshot
        for group in store.groups()
        for snapshot in store.snapshots(group)
        if store.is_finished(snapshot)
    ]


def back_up(store: Datastore, group: GroupId) -> None:
    """One snapshot; a second later than the newest."""
    times = [each.time_s for each in store.snapshots(group)] if store.exists(group) else []
    snapshot = SnapshotId(group, max([*times, 1_000_000]) + 1)
    with BackupSession.start(store, group, snapshot.time_s, settings=SETTINGS) as session:
        add_contents(session, contents_of(snapshot))
        session.finish()


def collect(store: Datastore) -> None:
    """A collection that spares nothing for its age."""
    outcome = collect_garbage(store, upid=UPID, cutoff_s=0)
    if outcome.missing_chunks:
        sys.exit(f"chunks are missing: {[one.wanted_by for one in outcome.missing]}")


def check(store: Datastore) -> None:
    """Verify whatever is finished now."""
    outcome = verify(store, finished(store), upid=UPID)
    failed = [
        one
        for one in outcome.snapshots
        if one.fate is SnapshotFate.FAILED and store.exists(one.snapshot)
    ]
    if failed:
        sys.exit(f"verify failed: {failed}")


def forget(store: Datastore) -> None:
    """Keep the newest two of each group."""
    prune.carry_out(store, prune.plan(store, store.groups(), KEEP, zone=UTC))


def one_round(store: Datastore, verb: str, chance: random.Random) -> None:
    """Do it; somebody else being faster is no fault."""
    try:
        if verb == "backup":
            back_up(store, chance.choice(GROUPS))
        else:
            {"gc": collect, "prune": forget, "verify": check}[verb](store)
    except (Busy, NotFound, Refused):
        return


def main() -> None:
    base, verb, seed, effect, until_s = sys.argv[1:6]
    chance = random.Random(f"{verb} {seed}")
    Path(base, ".chunks").mkdir(parents=True, exist_ok=True)
    store = Datastore.open(base, Access.READ_WRITE)
    if int(effect) >= 0:
        with gate.installed(killer(int(effect))):
            one_round(store, verb, chance)
        return
    one_round(store, verb, chance)
    while time.time() < float(until_s):
        one_round(store, verb, chance)


if __name__ == "__main__":
    main()
