"""A made-up database, a real archive, and everything that can go wrong between them, in any order.

The model is the truth: which files were accepted (a push ended with success) in which history, and
what is in them. Pushes, syncs, workers and the user's script are real processes around a real stage
and a real store; base backups are blobs that say up to which segment they reach. After every step
the newest base backup of the current history and the archived files have to give exactly what the
model says, without a hole, through the same code that answers a recovering server.

Workers are forked from here instead of being started anew (a start takes 50 times as long), and
their clock runs faster, because batches are named by the second.
"""

import hashlib
import json
import os
import random
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from holdfast.datastore.options import StoreOptions, SyncLevel
from holdfast.datastore.session import DEFAULT_SETTINGS, BackupSession, free_second
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import HoldfastError
from holdfast.ids import BackupType, GroupId, Namespace
from holdfast.operations.wal_carry import Carried, CarryTarget, carry
from holdfast.operations.wal_get import Archive, GetRequest, get
from holdfast.operations.wal_sync import Sync
from holdfast.postgres.base_record import BaseRecord
from holdfast.postgres.wal_catalogue import WalCatalogue, wal_group
from holdfast.postgres.wal_names import segment_name
from holdfast.postgres.wal_push import ask_for_sync, store_file
from holdfast.postgres.wal_stage import ARCHIVE, SNAPSHOT, WalStage
from tests.harness.wal_files import SEGMENT, new_stage, segment_bytes

CLUSTER: Final = "pg-main"
SPEED: Final = 40.0
PATIENCE_S: Final = 60.0
SCRIPT: Final = """#!/bin/sh
# tells the test that it runs, and waits for an order: an exit code
mkfifo {base}/orders/$$ || exit 9
echo "$1 $2" > {base}/calls/.$$ && mv {base}/calls/.$$ {base}/calls/script-$$
read -r code < {base}/orders/$$
exit "$code"
"""


def pause(seconds: float) -> None:
    """Let other processes run for a moment."""
    select.select([], [], [], seconds)


class FastClock:
    """Time that runs SPEED times as fast, for workers only."""

    def __init__(self) -> None:
        self._start = time.time()

    def now_s(self) -> float:
        return self._start + (time.time() - self._start) * SPEED

    def monotonic_s(self) -> float:
        return time.monotonic() * SPEED

    def wait(self, seconds: float) -> None:
        pause(seconds / SPEED)


@dataclass(slots=True)
class History:
    """What the server had accepted since time last went back.

    Attributes:
        generation: as the stage calls it.
        files: content by segment number.
    """

    generation: str
    files: dict[int, bytes] = field(default_factory=dict)


class Model:
    """The database, its archive, and the steps of the test."""

    def __init__(self, base: Path, store_path: Path, seed: int) -> None:
        self.base = base
        self.store_path = store_path
        self.dice = random.Random(seed)
        self.clock = FastClock()
        self.histories: list[History] = []
        self.next_number = 1
        self.content_seed = 0
        self.last_accepted_s = 0.0
        self.pids: set[int] = set()
        self.counts: dict[str, int] = {}
        for name in ("calls", "orders", "server", "workers"):
            (base / name).mkdir()
        stage = new_stage(base / "stage", cluster=CLUSTER, pause_s_first=2.0, pause_s_max=8.0)
        self.stage_path = stage.path
        stage.close()
        script = base / "stage" / "scripts" / "backup"
        script.write_text(SCRIPT.format(base=base))
        script.chmod(0o755)

    # Processes ------------------------------------------------------------------------------------

    def fork(self, work: Callable[[], int]) -> int:
        pid = os.fork()
        if pid:
            self.pids.add(pid)
            return pid
        code = 99
        try:
            os.setsid()
            code = work()
        except HoldfastError as error:
            (self.base / "errors").open("a").write(f"{error}\n")
            code = 1
        except BaseException as error:  # noqa: BLE001  # told to the parent by the exit code
            (self.base / "errors").open("a").write(f"{type(error).__name__} {error}\n")
        finally:
            os._exit(code)

    def finish(self, pid: int) -> int:
        """Wait for a process, answering whoever asks meanwhile; its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.pids.discard(pid)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"a process hangs: {self.explain()}"
            pause(0.001)

    def reap(self) -> None:
        for pid in list(self.pids):
            done, _status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.pids.discard(pid)

    def explain(self) -> str:
        errors = self.base / "errors"
        return errors.read_text()[-2000:] if errors.exists() else "no errors were noted"

    def open_stage(self) -> WalStage:
        return WalStage.open(self.stage_path)

    def open_store(self, access: Access = Access.READ_WRITE) -> Datastore:
        return Datastore.open(
            str(self.store_path), access, options=StoreOptions(sync_level=SyncLevel.FILE)
        )

    # What workers do ------------------------------------------------------------------------------

    def start_worker(self, stage: WalStage) -> int:
        """Instead of a new program: a fork, which shares the locks as a started one does."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            self.note_worker()
            Sync(stage, self, say=self.say, clock=self.clock).take_over()
        except BaseException as error:  # noqa: BLE001
            self.say(f"worker: {type(error).__name__} {error}")
        finally:
            os._exit(0)

    def note_worker(self) -> None:
        (self.base / "workers" / str(os.getpid())).touch()

    def say(self, text: str) -> None:
        with (self.base / "log").open("a") as log:
            log.write(f"{os.getpid()} {text}\n")

    def carry(self) -> Carried:
        with self.open_stage() as stage:
            target = CarryTarget(
                store=self.open_store(),
                group=wal_group(CLUSTER, Namespace()),
                settings=DEFAULT_SETTINGS,
            )
            return carry(stage, target, clock=self.clock)

    def take_base(self) -> BaseRecord:
        """Ask the test for a base backup; it says what is in it, or that it fails."""
        pid = os.getpid()
        orders = self.base / "orders" / str(pid)
        if not orders.exists():
            os.mkfifo(orders)
        hidden = self.base / "calls" / f".{pid}"
        hidden.touch()
        hidden.rename(self.base / "calls" / f"base-{pid}")
        answer = json.loads(orders.read_text())
        if answer is None:
            raise HoldfastError("the base backup failed")
        store = self.open_store()
        group = GroupId(BackupType.HOST, CLUSTER)
        time_s = free_second(store, group, self.clock)
        with BackupSession.start(store, group, time_s, clock=self.clock) as session:
            session.blob("base.json.blob", json.dumps(answer).encode())
            summary = session.finish()
        return BaseRecord(snapshot=str(summary.snapshot), time_s=time_s, base_bytes=8 * 10_000)

    # Steps ----------------------------------------------------------------------------------------

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def write_segment(self, number: int) -> Path:
        path = self.base / "server" / segment_name(1, number, SEGMENT)
        data = segment_bytes(number, seed=self.content_seed, random_bytes=10_000)
        path.write_bytes(data)
        return path

    def push(self, number: int, *, killed_after_s: float | None = None) -> None:
        """The server hands a file in until it hears success; perhaps the first try is killed."""
        path = self.write_segment(number)

        def work() -> int:
            with self.open_stage() as stage:
                pushed = store_file(stage, str(path))
                flags = ARCHIVE | (SNAPSHOT if pushed.went_back else 0)
                ask_for_sync(stage, flags, start=self.start_worker)
            return 0

        if killed_after_s is not None:
            pid = self.fork(work)
            pause(killed_after_s)
            os.kill(pid, signal.SIGKILL)
            self.finish(pid)
            self.count("push killed")
        code = self.finish(self.fork(work))
        assert code == 0, f"push ended with {code}: {self.explain()}"
        self.last_accepted_s = time.time()
        self.accept(number, path.read_bytes())

    def accept(self, number: int, content: bytes) -> None:
        generation = os.readlink(os.path.join(self.stage_path, "current"))
        if not self.histories or self.histories[-1].generation != generation:
            if self.histories:
                last = self.histories[-1].files
                is_before = len(self.histories) > 1 and number < next(iter(last))
                is_other = last.get(number, content) != content
                assert is_other or is_before, "a new history without a reason"
            self.histories.append(History(generation))
        files = self.histories[-1].files
        assert files.get(number, content) == content, "another content in the same history"
        files[number] = content

    def push_next(self) -> None:
        self.count("push")
        kill = self.dice.random() < 0.15
        self.push(self.next_number, killed_after_s=self.dice.random() * 0.02 if kill else None)
        self.next_number += 1

    def push_again(self) -> None:
        """The server crashed before it noted its success."""
        if self.histories and self.histories[-1].files:
            self.count("push again")
            self.push(max(self.histories[-1].files))

    def go_back(self) -> None:
        """The server is restored to an earlier state: running base backups die with it."""
        if self.next_number < 4:
            return
        self.count("went back")
        for call in self.calls("base-"):
            self.answer(call, success=False)
        self.next_number = self.dice.randrange(max(1, self.next_number - 5), self.next_number)
        self.content_seed += 1

    def calls(self, kind: str = "") -> list[Path]:
        """Steps of workers that wait for an order, of living processes only."""
        found = []
        for path in sorted((self.base / "calls").iterdir()):
            pid = int(path.name.rpartition("-")[2] or 0) if not path.name.startswith(".") else 0
            if not pid or not path.name.startswith(kind):
                continue
            if _is_alive(pid):
                found.append(path)
            else:
                path.unlink()
        return found

    def answer(self, call: Path, *, success: bool) -> None:
        """Let a step end; a base backup that succeeds reaches up to the segment before the next."""
        kind, _dash, pid = call.name.partition("-")
        order: object = None
        if kind == "script":
            order = 0 if success else 3
            self.count(f"script {'done' if success else 'failed'}")
        elif success:
            order = {"seed": self.content_seed, "up_to": self.next_number - 1}
            self.push_next()  # the end of a base backup switches to the next segment
            self.count("base taken")
        if kind == "base" and order is None:
            self.count("base failed")
        call.unlink(missing_ok=True)
        self.write_order(self.base / "orders" / pid, json.dumps(order))

    def write_order(self, fifo: Path, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # fails when nobody reads
                with os.fdopen(fd, "wb", buffering=0) as reader:
                    reader.write(f"{text}\n".encode())
            except OSError:  # not yet reading, or killed meanwhile, even between the two
                if not _is_alive(int(fifo.name)):
                    return
                pause(0.001)
            else:
                return

    def answer_somebody(self) -> None:
        if calls := self.calls():
            self.answer(self.dice.choice(calls), success=self.dice.random() < 0.7)

    def kill_worker(self) -> None:
        for path in (self.base / "workers").iterdir():
            if _is_alive(int(path.name)):
                self.count("worker killed")
                os.kill(int(path.name), signal.SIGKILL)
            path.unlink()

    def kill_at_work(self) -> None:
        """Kill the worker in the middle of a step, with all that was asked for still owed."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.calls() and time.monotonic() < deadline:
            pause(0.005)
        self.kill_worker()
        self.kill_script()

    def kill_script(self) -> None:
        for call in self.calls("script-"):
            self.count("script killed")
            os.kill(int(call.name.partition("-")[2]), signal.SIGKILL)

    def ask(self) -> None:
        """`sync`, `force-sync` or `full-sync` in the foreground; it goes on while the test does."""
        flags = self.dice.choice((0, ARCHIVE, ARCHIVE | SNAPSHOT))
        self.count("sync asked")

        def work() -> int:
            self.note_worker()
            with self.open_stage() as stage:
                if not Sync(stage, self, say=self.say, clock=self.clock).serve(flags):
                    stage.requests.wait()
            return 0

        self.fork(work)

    def look(self) -> None:
        """`wait` with a small timeout."""
        with self.open_stage() as stage:
            stage.requests.wait(self.dice.choice((0, 0.01)))

    def step(self) -> None:
        actions = (
            [self.push_next] * 6
            + [self.answer_somebody] * 8
            + [self.kill_worker] * 2
            + [self.push_again, self.kill_script, self.ask, self.look, self.go_back]
        )
        self.dice.choice(actions)()
        if self.dice.random() < 0.5:
            pause(self.dice.random() * 0.01)
        self.reap()

    # Invariants -----------------------------------------------------------------------------------

    def archive(self) -> Archive:
        store = self.open_store(Access.READ_ONLY)
        group = wal_group(CLUSTER, Namespace())
        cache = str(self.base / "cache" / "catalogue")
        return Archive(store, WalCatalogue.load(store, group, cache_path=cache))

    def fetch(self, stage: WalStage, number: int, generation: str) -> bytes | None:
        """What a recovering server is given."""
        target = self.base / "got"
        request = GetRequest(
            name=segment_name(1, number, SEGMENT),
            target=str(target),
            stage=stage,
            open_archive=self.archive,
            generation=int(generation),
        )
        return target.read_bytes() if get(request) else None

    def check(self, *, everything: bool = False) -> None:
        if not self.histories:
            return
        with self.open_stage() as stage:
            for history in self.histories[:-1]:
                self.check_files(stage, history, everything=everything, count=1)
            current = self.histories[-1]
            generation = stage.current()
            assert generation is not None
            if generation.name != current.generation:  # a killed push began it; nothing is in it
                assert generation.staged_names() == []
                return
            base = BaseRecord.read(generation)
            if base is not None:
                self.check_base(base, current)
            self.check_files(stage, current, everything=everything, count=4)

    def check_base(self, base: BaseRecord, current: History) -> None:
        from holdfast.ids import SnapshotId

        store = self.open_store(Access.READ_ONLY)
        snapshot = SnapshotId.parse(base.snapshot)
        said = json.loads(store.read_blob(snapshot, "base.json.blob"))
        numbers = sorted(current.files)
        wanted = [number for number in numbers if number > said["up_to"]]
        assert wanted, "a base backup without the segment it ended in"
        expected = list(range(said["up_to"] + 1, numbers[-1] + 1))
        assert wanted == expected, f"a hole after the base {said}: {wanted}"
        first = segment_bytes(wanted[0], seed=said["seed"], random_bytes=10_000)
        assert current.files[wanted[0]] == first, "a base backup of another history"

    def check_files(
        self, stage: WalStage, history: History, *, everything: bool, count: int
    ) -> None:
        numbers = sorted(history.files)
        chosen = numbers if everything else self.dice.sample(numbers, min(count, len(numbers)))
        if numbers and numbers[-1] not in chosen:
            chosen = [*chosen, numbers[-1]]
        for number in chosen:
            found = self.fetch(stage, number, history.generation)
            expected = history.files[number]
            assert found is not None, f"segment {number} of {history.generation} is lost"
            assert _digest(found) == _digest(expected), f"segment {number} changed"

    def calm(self) -> None:
        """Everything succeeds from now on, until nothing is owed."""
        deadline = time.monotonic() + PATIENCE_S

        def sync() -> int:
            with self.open_stage() as stage:
                if not Sync(stage, self, say=self.say, clock=self.clock).serve(0):
                    stage.requests.wait()
            return 0

        while True:
            pid = self.fork(sync)
            while pid in self.pids:
                for call in self.calls():
                    self.answer(call, success=True)
                self.reap()
                assert time.monotonic() < deadline, f"it never gets calm: {self.explain()}"
                pause(0.002)
            with self.open_stage() as stage:
                if not stage.requests.flags().owed and not stage.requests.is_worker_alive():
                    return

    def close(self) -> None:
        self.kill_worker()
        for pid in list(self.pids):
            if _is_alive(pid):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for call in self.calls():
            os.kill(int(call.name.partition("-")[2]), signal.SIGKILL)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")
