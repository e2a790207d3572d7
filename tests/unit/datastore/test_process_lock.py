"""The store lock, with real processes on both sides and one that behaves like Proxmox."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from holdfast.datastore.process_lock import StoreLock
from holdfast.errors import Busy

PROXMOX = """
import fcntl, sys
file = open(sys.argv[1] + "/.lock", "r+b")
try:
    fcntl.lockf(file, getattr(fcntl, sys.argv[2]) | fcntl.LOCK_NB)
except OSError:
    print("refused", flush=True)
else:
    print("locked", flush=True)
sys.stdin.read()
"""
OURS = """
import sys
from holdfast.datastore.process_lock import StoreLock
from holdfast.errors import Busy
lock = StoreLock(sys.argv[1])
kind, _, argument = sys.argv[2].partition("=")
guard = lock.chunk_guard()
held = {
    "writer": lambda: lock.writer(int(argument)),
    "gc": lock.gc,
    "shared": lambda: guard.shared(bytes.fromhex(argument)),
    "exclusive": lambda: guard.exclusive(int(argument)),
}[kind]()
try:
    with held:
        print("locked", flush=True)
        sys.stdin.read()
except Busy:
    print("refused", flush=True)
    sys.stdin.read()
"""
Starter = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def base(tmp_path: Path) -> str:
    (tmp_path / ".lock").touch(0o644)
    return str(tmp_path)


@pytest.fixture
def start(base: str) -> Iterator[Starter]:
    """Start a process that tries one lock, says how it went, and lives until its input closes."""
    with ExitStack() as stack:

        def started(program: str, lock: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-c", program, base, lock],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield started


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _is_refused(lock: StoreLock, kind: str) -> bool:
    try:
        with lock.gc() if kind == "gc" else lock.writer(1_700_000_000):
            return False
    except Busy:
        return True


@pytest.mark.parametrize(
    ("proxmox", "ours", "is_refused"),
    [
        ("LOCK_SH", "writer", False),
        ("LOCK_SH", "gc", True),
        ("LOCK_EX", "writer", True),
        ("LOCK_EX", "gc", True),
    ],
)
def test_proxmox_first(
    base: str, start: Starter, proxmox: str, ours: str, is_refused: bool
) -> None:
    process = start(PROXMOX, proxmox)
    assert _answer(process) == "locked"

    assert _is_refused(StoreLock(base), ours) is is_refused

    process.kill()
    process.wait()
    assert not _is_refused(StoreLock(base), ours)


@pytest.mark.parametrize(
    ("ours", "proxmox", "answer"),
    [
        ("writer", "LOCK_SH", "locked"),
        ("writer", "LOCK_EX", "refused"),
        ("gc", "LOCK_SH", "refused"),
        ("gc", "LOCK_EX", "refused"),
    ],
)
def test_proxmox_second(base: str, start: Starter, ours: str, proxmox: str, answer: str) -> None:
    lock = StoreLock(base)

    with lock.gc() if ours == "gc" else lock.writer(1_700_000_000):
        process = start(PROXMOX, proxmox)
        assert _answer(process) == answer
        process.kill()
        process.wait()
    assert _answer(start(PROXMOX, "LOCK_EX")) == "locked"


def test_message_names_the_program_in_the_way(base: str, start: Starter) -> None:
    process = start(PROXMOX, "LOCK_SH")
    assert _answer(process) == "locked"

    with pytest.raises(Busy, match=f"process {process.pid}, python"), StoreLock(base).gc():
        pass


def test_one_collection_at_a_time_within_and_between_processes(base: str, start: Starter) -> None:
    process = start(OURS, "gc")
    assert _answer(process) == "locked"
    assert _is_refused(StoreLock(base), "gc")
    process.kill()
    process.wait()

    with StoreLock(base).gc():
        assert _is_refused(StoreLock(base), "gc")
        assert _answer(start(OURS, "gc")) == "refused"
    assert not _is_refused(StoreLock(base), "gc")


def test_writers_and_our_collection_run_beside_each_other(base: str, start: Starter) -> None:
    assert _answer(start(OURS, "writer=100")) == "locked"
    assert _answer(start(OURS, "gc")) == "locked"
    with StoreLock(base).writer(50):
        pass


def test_oldest_writer_is_found_among_many_in_any_order(base: str, start: Starter) -> None:
    lock = StoreLock(base)
    assert lock.oldest_writer() is None

    with ExitStack() as stack:
        for start_s in (500, 300, 700, 301, 300):
            stack.enter_context(lock.writer(start_s))
        assert lock.oldest_writer() == 300
        other = start(OURS, "writer=200")
        assert _answer(other) == "locked"
        assert lock.oldest_writer() == 200
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert lock.oldest_writer() == 300
    assert lock.oldest_writer() is None


def test_writer_that_tells_no_start_counts_as_the_oldest(base: str, start: Starter) -> None:
    assert _answer(start(PROXMOX, "LOCK_SH")) == "locked"

    with StoreLock(base).writer(500):
        assert StoreLock(base).oldest_writer() == 0


def test_collection_does_not_count_as_a_writer(base: str) -> None:
    with StoreLock(base).gc():
        assert StoreLock(base).oldest_writer() is None


def test_only_the_same_prefix_is_kept_apart(base: str, start: Starter) -> None:
    assert _answer(start(OURS, "exclusive=256")) == "locked"

    with StoreLock(base).chunk_guard() as guard:
        for digest in ("00ff", "0101", "0000", "ffff"):
            with guard.shared(bytes.fromhex(digest) + bytes(30)):
                pass
        with guard.exclusive(257):
            pass


def test_sharers_of_a_prefix_do_not_wait_for_each_other(base: str, start: Starter) -> None:
    assert _answer(start(OURS, "shared=0100")) == "locked"

    with StoreLock(base).chunk_guard() as guard, guard.shared(b"\x01\x00" + bytes(30)):
        pass


@pytest.mark.parametrize(
    ("holder", "digest"), [("exclusive=256", b"\x01\x00"), ("shared=0100", b"")]
)
def test_guard_waits_for_the_other_side_and_for_a_killed_one(
    base: str, start: Starter, holder: str, digest: bytes
) -> None:
    process = start(OURS, holder)
    assert _answer(process) == "locked"
    entered = threading.Event()

    def wait_for_it() -> None:
        guard = StoreLock(base).chunk_guard()
        with guard, guard.shared(digest) if digest else guard.exclusive(256):
            entered.set()

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert not entered.wait(0.05)
    process.send_signal(signal.SIGKILL)
    thread.join(10)
    assert entered.is_set()


def test_guards_of_two_threads_of_one_process_are_kept_apart(base: str) -> None:
    lock = StoreLock(base)
    entered = threading.Event()

    def insert() -> None:
        with lock.chunk_guard() as guard, guard.shared(bytes(32)):
            entered.set()

    thread = threading.Thread(target=insert)
    with lock.chunk_guard() as guard, guard.exclusive(0):
        thread.start()
        assert not entered.wait(0.05)
    thread.join(10)
    assert entered.is_set()


class _RunawayClock:
    """Each look at it takes half a minute."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_s(self) -> float:
        return self.seconds

    def monotonic_s(self) -> float:
        self.seconds += 30
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


def test_guard_gives_up_after_a_minute(base: str) -> None:
    with StoreLock(base).chunk_guard() as holder, holder.exclusive(7):
        impatient = StoreLock(base, clock=_RunawayClock()).chunk_guard()
        with impatient, pytest.raises(Busy), impatient.exclusive(7):
            pass


def test_guard_does_not_wait_for_a_program_that_holds_the_whole_store(
    base: str, start: Starter
) -> None:
    assert _answer(start(PROXMOX, "LOCK_SH")) == "locked"

    with StoreLock(base).chunk_guard() as guard:
        with pytest.raises(Busy, match="another program"), guard.exclusive(7):
            pass
        with guard.shared(bytes(32)):
            pass


def test_guard_refuses_two_prefixes_at_once_and_impossible_ones(base: str) -> None:
    with StoreLock(base).chunk_guard() as guard:
        with guard.exclusive(3), pytest.raises(RuntimeError), guard.exclusive(4):
            pass
        for prefix in (-1, 1 << 16):
            with pytest.raises(ValueError, match=str(prefix)), guard.exclusive(prefix):
                pass


def test_closing_an_unrelated_descriptor_of_the_file_keeps_our_locks(
    base: str, start: Starter
) -> None:
    with StoreLock(base).writer(5):
        os.close(os.open(os.path.join(base, ".lock"), os.O_RDONLY))
        assert _answer(start(PROXMOX, "LOCK_EX")) == "refused"


def test_asking_for_the_oldest_writer_makes_no_lock_file(tmp_path: Path) -> None:
    assert StoreLock(str(tmp_path)).oldest_writer() is None
    assert list(tmp_path.iterdir()) == []


def test_missing_lock_file_is_made_with_its_mode(tmp_path: Path) -> None:
    with StoreLock(str(tmp_path)).writer(5):
        assert (tmp_path / ".lock").stat().st_mode & 0o7777 == 0o644
