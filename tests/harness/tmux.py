"""A private tmux server with one window: the terminal UI as a person meets it."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.processes import has_ended
from tests.harness.program import Program

WAIT_S = 90.0
LOOK_S = 0.1


@dataclass(slots=True)
class Tmux:
    """Starts `holdfast` in a window of `size`; use as a context manager."""

    program: Program
    socket: Path
    size: tuple[int, int] = (80, 24)

    def _tmux(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**self._environment, "TERM": "xterm-256color"},
        )
        assert done.returncode == 0 or not check, (words, done.stderr)
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        clean = dict(self.program.environment)
        clean.pop("NO_COLOR", None)
        clean.pop("TMUX", None)
        return clean

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close_window()

    def open(self, *words: str) -> None:
        """A window that runs `holdfast WORDS` and closes with it."""
        width, height = self.size
        command = [sys.executable, "-m", "holdfast", *words]
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), *command)

    def close_window(self) -> None:
        """As if the terminal's window had been closed: everything in it gets SIGHUP, and ends."""
        pids = self._tmux("list-panes", "-a", "-F", "#{pane_pid}", check=False).split()
        self._tmux("kill-server", check=False)
        for pid in pids:
            assert has_ended(int(pid)), "the program outlives its window"

    def press(self, *keys: str) -> None:
        """Keys by tmux's names (`Enter`, `Escape`, `C-r`) or letters."""
        for key in keys:
            self._tmux("send-keys", *(("-l",) if len(key) == 1 else ()), "--", key)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", "--", text)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", check=False)

    def wait_for(self, text: str, *, seconds: float = WAIT_S) -> str:
        """The screen as soon as it shows `text`."""
        deadline = time.monotonic() + seconds
        shown = ""
        while time.monotonic() < deadline:
            shown = self.screen()
            if text in shown:
                return shown
            _pause()
        raise AssertionError(f"{text!r} did not appear in\n{shown}")


def _pause() -> None:
    from holdfast.host.clock import SYSTEM_CLOCK

    SYSTEM_CLOCK.wait(LOOK_S)
