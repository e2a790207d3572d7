"""Reading changes nothing: watched from outside, system call by system call."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.stores import SAMPLE, materialise_sample

READER = """
import sys
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import ReadOnlyViolation
from holdfast.host.locks import LockMode

store = Datastore.open(sys.argv[1], Access.READ_ONLY)
key = EncryptionKey(bytes.fromhex(sys.argv[2]))
chunks = ChunkReader(ChunkStore(store.base), key)
for ns in store.namespaces():
    for group in store.groups(ns):
        print(group, store.owner(group), repr(store.notes(group)))
        for snapshot in store.snapshots(group):
            store.files(snapshot), store.is_protected(snapshot)
            if not store.is_finished(snapshot):
                continue
            with store.locks.snapshot(snapshot, LockMode.SHARED):
                manifest = store.manifest(snapshot)
                manifest.check_signature(key)
                for entry in manifest.files:
                    if entry.filename.endswith(".blob"):
                        store.read_blob(snapshot, entry.filename, key)
                        continue
                    index = store.open_index(snapshot, entry.filename)
                    with StreamReader(index, chunks) as stream:
                        print(snapshot, entry.filename, len(stream.read_at(0, stream.size)))
            try:
                store.remove_snapshot(snapshot)
            except ReadOnlyViolation:
                print("kept", snapshot)
"""
HARMLESS = {
    *("access", "close", "faccessat", "faccessat2", "fcntl", "flock", "fstat", "getdents64"),
    *("lseek", "lstat", "mmap", "newfstatat", "pread64", "read", "readlink", "stat", "statx"),
    "ioctl",
}
CALL = re.compile(r"^(?:\d+ +)?(?:\d+\.\d+ )?(\w+)\((.*)$")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = materialise_sample(tmp_path / "sample")
    for path in sorted(base.rglob("*"), reverse=True):
        os.utime(path, (1_000_000_000, 1_100_000_000))
    return base


def _times(base: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for directory, names, files in os.walk(base):
        for name in ("", *names, *files):
            info = os.lstat(os.path.join(directory, name))
            found[os.path.join(directory, name)] = (
                info.st_atime_ns,
                info.st_mtime_ns,
                info.st_ctime_ns,
            )
    return found


def _run(base: Path, *prefix: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*prefix, sys.executable, "-c", READER, str(base), SAMPLE["expect"]["enc_key_hex"]],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_nothing_of_a_store_is_touched_by_listing_and_reading_all_of_it(base: Path) -> None:
    first = _times(base)  # this very walk moves the access times of directories
    before = _times(base)
    assert first.keys() == before.keys()

    done = _run(base)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kept") == 3
    assert "vm/100/2024-06-10T06:13:20Z drive-scsi0.img.fidx 8389608" in done.stdout
    assert _times(base) == before


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_system_call_could_write_below_the_store(base: Path, tmp_path: Path) -> None:
    log = tmp_path / "strace.log"

    done = _run(base, "strace", "-f", "-y", "-s", "4096", "-o", str(log))

    assert done.returncode == 0, done.stderr
    below = [line for line in log.read_text(errors="replace").splitlines() if str(base) in line]
    opened = 0
    for line in below:
        match = CALL.match(line)
        if match is None or match[1] == "execve":  # the rest of a call begun on another line
            continue
        call, arguments = match.groups()
        if call in ("open", "openat"):
            opened += 1
            assert not re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", arguments), line
            assert "O_NOATIME" in arguments, line
        else:
            assert call in HARMLESS, line
        if call == "mmap":
            assert "PROT_WRITE" not in arguments, line
    assert opened > 30
