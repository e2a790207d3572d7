"""Stores that cannot be written to, or not even read in part: told in one sentence, never a trace."""

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.stores import materialise_sample

SCRIPT = """
import os, sys
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import HoldfastError
from holdfast.host.locks import LockMode
from holdfast.ids import GroupId, SnapshotId

def tell(name, ask):
    try:
        print(name, ask(), flush=True)
    except HoldfastError as error:
        print(name, type(error).__name__, error, flush=True)

base, user = sys.argv[1], int(sys.argv[2])
snapshot = SnapshotId.parse("vm/100/2024-06-10T06:13:20Z")
store = Datastore.open(base, Access.READ_ONLY)

def locked():
    with store.locks.snapshot(snapshot, LockMode.SHARED):
        return "held"

def restored():
    index = store.open_index(snapshot, "drive-scsi0.img.fidx")
    with StreamReader(index, ChunkReader(ChunkStore(base))) as stream:
        return len(stream.read_at(0, stream.size))

asks = {
    "write": lambda: Datastore.open(base, Access.READ_WRITE).require_writable(),
    "groups": lambda: [str(group) for group in store.groups()],
    "owner": lambda: store.owner(snapshot.group),
    "manifest": lambda: len(store.manifest(snapshot).files),
    "lock": locked,
    "restore": restored,
    "oldest": store.store_lock.oldest_writer,
}
if user:
    for ask in asks.values():
        ask()  # loads every module while this user may still read Python's own files
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    asks["create"] = lambda: Datastore.create(base + "-new").base
for name, ask in asks.items():
    tell(name, ask)
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """The sample below a directory that every user may pass through."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield materialise_sample(Path(place) / "sample")


def _told(base: Path, *prefix: str, user: int = 0) -> dict[str, str]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SCRIPT, str(base), str(user)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in done.stdout.splitlines()}


def _nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        pytest.skip("no user nobody")


def _can_mount() -> bool:
    done = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    return done.returncode == 0


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@needs_root
def test_user_without_any_rights_lists_and_is_refused_the_chunks(base: Path) -> None:
    told = _told(base, user=_nobody())

    assert told["write"].startswith("Refused")
    assert told["groups"] == "['vm/100']"
    assert told["owner"] == "backup@pbs!tok"
    assert told["manifest"] == "2"
    assert told["lock"] == "held"
    assert told["restore"].startswith("Refused not allowed while reading chunk ")
    assert told["oldest"] == "None"
    assert told["create"].startswith("Refused not allowed while creating a store in ")


@needs_root
def test_user_who_may_not_read_a_manifest_is_told_so(base: Path) -> None:
    (base / "vm/100/2024-06-10T06:13:20Z/index.json.blob").chmod(0o600)
    (base / "vm/100/owner").chmod(0o600)

    told = _told(base, user=_nobody())

    assert told["manifest"].startswith("Refused not allowed while reading the manifest of vm/100/")
    assert told["owner"].startswith("Refused not allowed while reading the owner of vm/100")


@needs_root
def test_user_who_may_not_enter_a_directory_is_told_so(base: Path) -> None:
    (base / "vm").chmod(0o700)

    told = _told(base, user=_nobody())

    assert told["groups"].startswith("Refused not allowed while listing the groups")
    assert told["manifest"].startswith("Refused")
    assert told["lock"].startswith("Refused")


@pytest.mark.skipif(not _can_mount(), reason="needs a mount namespace of its own")
def test_store_on_a_read_only_file_system_can_be_read_whole(base: Path) -> None:
    mount = f"mount --bind '{base}' '{base}' && mount -o remount,ro,bind '{base}' && exec \"$@\""

    told = _told(base, "unshare", "-m", "sh", "-c", mount, "sh")

    assert told["write"].startswith("Refused the store ")
    assert told["groups"] == "['vm/100']"
    assert told["lock"] == "held"
    assert told["restore"] == "8389608"
    assert told["oldest"] == "None"
