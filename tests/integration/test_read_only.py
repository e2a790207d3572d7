"""Reading changes nothing: watched from outside, system call by system call."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.places import quick_directory
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
    *(
        "preadv2",
        "preadv",
        "lseek",
        "lstat",
        "mmap",
        "newfstatat",
        "pread64",
        "read",
        "readlink",
        "stat",
        "statx",
    ),
    *("ioctl", "statfs", "fstatfs"),
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
    assert _checked_calls(log, base) > 30


def _checked_calls(log: Path, place: Path) -> int:
    """Fail at a call on `place` that could write; how many files and directories were opened."""
    opened = 0
    for line in log.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if str(place) not in line or match is None or match[1] == "execve":
            continue  # without a match: the rest of a call begun on another line
        call, arguments = match.groups()
        if call == "write" and str(place) not in arguments.partition(",")[0]:
            continue  # to somewhere else, about the store
        if call in ("open", "openat"):
            opened += 1
            assert not re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", arguments), line
            assert "O_NOATIME" in arguments, line
        else:
            assert call in HARMLESS, line
        assert call != "mmap" or "PROT_WRITE" not in arguments, line
    return opened


@pytest.fixture(scope="module")
def real_store() -> Iterator[Path]:
    """A store with two snapshots of a small tree, made by the program itself."""
    with quick_directory() as place:
        tree = Path(place) / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "sub" / "letter").write_text("dear reader\n")
        (tree / "numbers").write_bytes(bytes(range(256)) * 4000)
        common = ("--store", f"{place}/store", "--state-dir", f"{place}/state")
        config = ("--config", f"{place}/config.toml")
        _holdfast(*config, "init", f"{place}/store")
        for number in (1, 2):
            (tree / "changing").write_text(f"{number}")
            when = f"2026-01-0{number}T00:00:00Z"
            _holdfast(*config, *common, "backup", f"tree.pxar:{tree}", "--id", "h", "--time", when)
        yield Path(place)


def _holdfast(*arguments: str, under: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*under, sys.executable, "-m", "holdfast", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode in (0, 3), done.stderr  # 3: the doctor has warnings for this machine
    return done


FIRST = "host/h/2026-01-01T00:00:00Z"
SECOND = "host/h/2026-01-02T00:00:00Z"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("snapshots",), FIRST),
        (("show", FIRST), "tree.mpxar"),
        (("ls", FIRST, "tree.pxar", "-R"), "letter"),
        (("cat", FIRST, "tree.pxar", "sub/letter"), "dear reader"),
        (("find", "**/letter"), "letter"),
        (("diff", FIRST, SECOND), "changing"),
        (("stats",), ""),
        (("verify",), "2 ok"),
        (("gc", "--dry-run"), ""),
        (("prune", "--keep-last", "1", "--dry-run"), FIRST),
        (("restore", SECOND, "OUT"), ""),
        (("export", SECOND, "tree.pxar", "--format", "tar", "-o", "OUT.tar"), ""),
        (("doctor",), ""),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_no_command_writes_to_a_store_that_is_only_read(
    real_store: Path, tmp_path: Path, command: tuple[str, ...], told: str
) -> None:
    log, state = tmp_path / "strace.log", tmp_path / "state"
    arguments = [each.replace("OUT", str(tmp_path / "out")) for each in command]
    place = ("--config", f"{tmp_path}/none.toml", "--state-dir", str(state))

    done = _holdfast(
        *("--read-only", "--store", str(real_store / "store"), *place, *arguments),
        under=("strace", "-f", "-y", "-s", "4096", "-o", str(log)),
    )

    assert told in done.stdout + done.stderr
    assert _checked_calls(log, real_store / "store") > 1
    assert not state.exists()
