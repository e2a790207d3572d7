"""Notices changes below the sources of jobs with `on-change = true`."""

import os
import threading
from collections.abc import Callable

from holdfast.config.jobs import JobSettings
from holdfast.host.clock import SYSTEM_CLOCK, Clock


class ChangeWatch:
    """Watches in a thread (inotify, through watchfiles); fulfils scheduler.Changes.

    A change of a source that is already being read by its job still counts: it may have come too
    late for that run.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._say = say
        self._clock = clock
        self._last: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, jobs: list[JobSettings]) -> None:
        self.close()
        paths: dict[str, list[str]] = {}
        for job in jobs:
            for source in job.sources:
                path = os.path.realpath(source_path(source))
                if os.path.exists(path):
                    paths.setdefault(path, []).append(job.name)
                else:
                    self._say(f"job {job.name}: cannot watch {path}: it is not there")
        if paths:
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(paths, self._stop), name="change-watch", daemon=True
            )
            self._thread.start()

    def last_change_s(self, name: str) -> float | None:
        return self._last.get(name)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None

    def _run(self, paths: dict[str, list[str]], stop: threading.Event) -> None:
        import watchfiles

        try:
            for changes in watchfiles.watch(
                *paths, watch_filter=None, stop_event=stop, debounce=500, rust_timeout=1000
            ):
                now_s = self._clock.now_s()
                changed = {path for _kind, path in changes}
                for root, names in paths.items():
                    if any(path == root or path.startswith(f"{root}/") for path in changed):
                        self._last.update(dict.fromkeys(names, now_s))
        except (OSError, RuntimeError) as error:
            self._say(f"sources are no longer watched: {error}")


def source_path(source: str) -> str:
    """The path in `name.pxar:/path` or `/path`."""
    name, colon, path = source.partition(":")
    return path if colon and "/" not in name else source
