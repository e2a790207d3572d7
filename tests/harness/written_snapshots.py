"""Snapshots of host/web1 written byte by byte through the format modules, no backup involved."""

from pathlib import Path
from typing import Final

from holdfast.datastore import blob
from holdfast.datastore.dynamic_index import DynamicIndexWriter
from holdfast.datastore.keys import plain_digest
from holdfast.datastore.manifest import CryptMode, FileEntry, Manifest
from holdfast.datastore.store import Access, Datastore
from holdfast.ids import SnapshotId
from holdfast.upid import Upid

OLDEST: Final = "host/web1/2026-01-01T06:00:00Z"
UNFINISHED: Final = "host/web1/2026-02-01T06:00:00Z"
NEWEST: Final = "host/web1/2026-03-01T06:00:00Z"
SHARED: Final = b"a chunk in both" * 100
NEW: Final = b"a chunk of the newest alone" * 100
VERIFIED_S: Final = 1_772_409_600  # 2026-03-02T00:00:00Z


def fill(base: Path) -> None:
    """Put three snapshots into the empty store at `base`: finished, unfinished, failed verify."""
    store = Datastore.open(str(base), Access.READ_WRITE)
    for name in (OLDEST, UNFINISHED, NEWEST):
        snapshot = SnapshotId.parse(name)
        with store.locked_group(snapshot.group, "root@pam"):
            store.make_snapshot_directory(snapshot)
        if name == UNFINISHED:
            continue
        chunks = [SHARED] if name == OLDEST else [SHARED, NEW]
        _write(store, snapshot, chunks, failed=name == NEWEST)


def _write(store: Datastore, snapshot: SnapshotId, chunks: list[bytes], *, failed: bool) -> None:
    writer = DynamicIndexWriter(store.path_of(snapshot, "etc.pxar.didx"))
    end = 0
    for data in chunks:
        end += len(data)
        digest = plain_digest(data)
        writer.append(end, digest)
        path = Path(store.base, ".chunks", digest.hex()[:4], digest.hex())
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(blob.encode(data)))
    summary = writer.close()
    raw = b"".join(blob.encode(b"/dev/sda1 / ext4\n"))
    Path(store.path_of(snapshot, "fstab.conf.blob")).write_bytes(raw)
    upid = Upid(
        node="web1",
        pid=1,
        pstart=2,
        task_id=3,
        start_s=VERIFIED_S,
        worker_type="verify",
        worker_id="store",
        auth_id="root@pam",
    )
    store.write_manifest(
        snapshot,
        Manifest(
            snapshot,
            (
                FileEntry("etc.pxar.didx", CryptMode.NONE, summary.size_bytes, summary.checksum),
                FileEntry("fstab.conf.blob", CryptMode.NONE, len(raw), plain_digest(raw)),
            ),
            unprotected={"verify_state": {"state": "failed", "upid": str(upid)}} if failed else {},
        ),
    )
