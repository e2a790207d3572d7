"""From changes on the disk to messages: one thread for the journal and jobs, one for each store.

The kernel tells of changes in the journal's directories and in those of the snapshots (never in
`.chunks`). On network file systems, or when the kernel's watches are used up, the thread looks
every few seconds instead, and says so. All reading happens here, never on the event loop; what a
thread finds becomes one message to the app.

A live figure is told at most once a second, the start or end of a task at once.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.errors import HoldfastError
from holdfast_tui.messages import CatalogueSeen, JobsSeen, StoreSeen, TasksSeen
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.reader import Reader

if TYPE_CHECKING:
    from textual.message import Message

LIVE_S: Final = 1.0
LOOK_S: Final = 2.0
STORE_LOOK_S: Final = 20.0
SLOW_FACTOR: Final = 2.0
_STEP_MS: Final = 50
_TICK_MS: Final = 500
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "glusterfs", "9p", "afs"}
)
Post = Callable[["Message"], object]


@dataclass(frozen=True, slots=True)
class Watched:
    """One look at what changed: paths below the watched directories; empty when time is up."""

    paths: tuple[str, ...]


class Watch:
    """Waits for changes below directories, by the kernel or by the clock.

    Attributes:
        is_polling: the kernel does not tell, so the clock decides.
    """

    def __init__(
        self, stop: threading.Event, *, look_s: float, nudge: threading.Event | None = None
    ) -> None:
        self._stop = stop
        self._look_s = look_s
        self._nudge = nudge or threading.Event()
        self.is_polling = False

    def changes(self, directories: list[str], *, recursive: bool) -> Iterator[Watched]:
        """Until stopped, or until one of the directories is gone; yields at least once a tick."""
        if any(map(is_on_network, directories)):
            self.is_polling = True
        if not self.is_polling:
            try:
                yield from self._told(directories, recursive=recursive)
            except (OSError, RuntimeError):  # no watches left, or a directory vanished
                self.is_polling = True
        while self.is_polling and not self._stop.is_set():
            self._wait()
            yield Watched(())

    def _wait(self) -> None:
        """Until the next look is due, or somebody nudges."""
        until = time.monotonic() + self._look_s
        while time.monotonic() < until and not self._nudge.is_set():
            if self._stop.wait(min(self._look_s, _TICK_MS / 1000)):
                return

    def _told(self, directories: list[str], *, recursive: bool) -> Iterator[Watched]:
        from watchfiles import watch

        for changes in watch(
            *directories,
            watch_filter=None,
            debounce=400,
            step=_STEP_MS,
            stop_event=self._stop,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=recursive,
            force_polling=False,
            ignore_permission_denied=True,
        ):
            yield Watched(tuple(path for _change, path in changes))


def is_on_network(path: str) -> bool:
    """Whether `path` lies on a file system of other machines, which the kernel cannot watch."""
    best, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                _device, place, name, *_rest = line.split(" ")
                place = (
                    place.encode().decode("unicode_escape", "replace") if "\\" in place else place
                )
                inside = path == place or path.startswith(place.rstrip("/") + "/")
                if inside and len(place) >= len(best):
                    best, kind = place, name
    except (OSError, ValueError):
        return False
    return kind in _NETWORK


class JournalFeed(threading.Thread):
    """Tasks, their progress, and the configured jobs."""

    def __init__(self, reader: Reader, post: Post, *, live_s: float = LIVE_S) -> None:
        super().__init__(name="journal-feed", daemon=True)
        self._reader = reader
        self._post = post
        self._live_s = live_s
        self._stop_event = threading.Event()
        self._state = reader.options.state_dir
        self._has_running = False
        self._job_runs = False
        self._told_at = 0.0
        self._looked_at = 0.0
        self.watch = Watch(self._stop_event, look_s=LOOK_S)

    def stop(self) -> None:
        self._stop_event.set()

    def look_now(self) -> None:
        """Read everything once; from a thread."""
        board = self._reader.tasks()
        self._has_running = bool(board.running)
        self._told_at = time.monotonic()
        self._post(TasksSeen(board))

    def run(self) -> None:
        self.look_now()
        self._look_at_jobs()
        while not self._stop_event.is_set():
            places = self._places()
            if not places:  # no journal yet: the first job makes it
                if self._stop_event.wait(LOOK_S):
                    return
                continue
            for seen in self.watch.changes(places, recursive=True):
                self._take(seen)
                if self._places() != places:
                    break

    def _places(self) -> list[str]:
        names = ("tasks", "progress", "jobs")
        found = [os.path.join(self._state, name) for name in names]
        found.append(os.path.dirname(self._reader.options.config))
        return [path for path in found if os.path.isdir(path)]

    def _take(self, seen: Watched) -> None:
        now = time.monotonic()
        tasks, jobs = f"{self._state}/tasks/", f"{self._state}/jobs/"
        lists = (f"{tasks}active", f"{tasks}archive")
        if any(path in lists for path in seen.paths) or self._is_due(seen, now):
            self.look_now()
        config = self._reader.options.config
        if any(path.startswith(jobs) or path == config for path in seen.paths) or (
            now - self._looked_at > (LOOK_S if self._job_runs else STORE_LOOK_S)
        ):
            self._look_at_jobs()

    def _is_due(self, seen: Watched, now: float) -> bool:
        since = now - self._told_at
        if self._has_running:
            return since >= self._live_s - _STEP_MS / 1000
        return self.watch.is_polling or (bool(seen.paths) and since >= self._live_s)

    def _look_at_jobs(self) -> None:
        self._looked_at = time.monotonic()
        board = self._reader.jobs()
        self._job_runs = any(job.is_running for job in board.jobs)  # its end changes no file
        self._post(JobsSeen(board))


class StoreFeed(threading.Thread):
    """One store: its file system and gc status at once, its snapshots as soon as they are read.

    `on_catalogue` gets every growing part of the list of snapshots, in this thread.
    """

    def __init__(
        self, reader: Reader, name: str, post: Post, *, look_s: float = STORE_LOOK_S
    ) -> None:
        super().__init__(name=f"store-feed-{name}", daemon=True)
        self.store_name = name
        self._reader = reader
        self._post = post
        self._stop_event = threading.Event()
        self._nudge = threading.Event()
        self._look_s = look_s
        self.watch = Watch(self._stop_event, look_s=look_s, nudge=self._nudge)

    def stop(self) -> None:
        self._stop_event.set()

    def look_soon(self) -> None:
        """Read again at the next tick."""
        self._nudge.set()

    def run(self) -> None:
        facts = self.look_now()
        while not self._stop_event.is_set():
            places = self._places(facts)
            if not places:
                if self._stop_event.wait(self._look_s):
                    return
                facts = self.look_now()
                continue
            looked_at = time.monotonic()
            for seen in self.watch.changes(places, recursive=True):
                now = time.monotonic()
                told = any("/.chunks/" not in path for path in seen.paths) or self._nudge.is_set()
                if (told and now - looked_at >= LIVE_S) or now - looked_at > self._look_s:
                    self._nudge.clear()
                    facts = self.look_now()
                    looked_at = time.monotonic()
                elif told:
                    self._nudge.set()
                if self._places(facts) != places:
                    break

    def look_now(self) -> StoreFacts:
        """Read the store once and tell of it; from a thread."""
        try:
            facts = self._reader.store_facts(self._reader.settings_of(self.store_name))
        except HoldfastError as error:
            facts = StoreFacts(
                name=self.store_name, path="", error=str(error), hint=error.hint or ""
            )
        self._post(StoreSeen(facts))
        if not facts.is_open:
            return facts
        try:
            for part in self._reader.catalogue_parts(self.store_name):
                if self._stop_event.is_set():
                    return facts
                self._post(CatalogueSeen(part))
                if part.is_complete:
                    facts = self._reader.with_counts(facts, part)
        except (HoldfastError, OSError) as error:
            facts = StoreFacts(name=facts.name, path=facts.path, error=str(error))
        self._post(StoreSeen(facts))
        return facts

    @staticmethod
    def _places(facts: StoreFacts) -> list[str]:
        """The directories that hold snapshots; the store's own one would bring `.chunks` along."""
        if not facts.is_open:
            return []
        found = [os.path.join(facts.path, name) for name in ("host", "vm", "ct", "ns")]
        return [path for path in found if os.path.isdir(path)]
