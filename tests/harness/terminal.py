"""The terminal UI in a pseudo-terminal of its own: bytes it sends, what they draw, keys to it."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.harness.program import Program


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@dataclass(slots=True)
class Terminal:
    """One run of `holdfast WORDS` on a pty. Use as a context manager.

    Attributes:
        prefix: a program around it, such as strace.
        script: run this file instead of holdfast.
        sent: everything the program wrote to the terminal.
    """

    program: Program
    words: tuple[str, ...] = ()
    size: tuple[int, int] = (80, 24)
    environment: dict[str, str] = field(default_factory=dict)
    sent: bytearray = field(default_factory=bytearray)
    prefix: tuple[str, ...] = ()
    script: str = ""
    _fd: int = -1
    _child: "subprocess.Popen[bytes] | None" = None
    _screen: Any = None

    def __enter__(self) -> Self:
        master, slave = os.openpty()
        width, height = self.size
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        environment = {
            **{
                name: value
                for name, value in self.program.environment.items()
                if name != "NO_COLOR"
            },
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            **self.environment,
        }
        holdfast = ["-m", "holdfast", *self.words]
        self._child = subprocess.Popen(
            [*self.prefix, sys.executable, *([self.script] if self.script else holdfast)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509  # no threads have been started yet
        )
        os.close(slave)
        self._fd = master
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._drain_until_end(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._fd >= 0:
            os.close(self._fd)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def read_for(self, seconds: float) -> int:
        """Take what comes for so long; bytes."""
        deadline = time.monotonic() + seconds
        before = len(self.sent)
        while (left := deadline - time.monotonic()) > 0:
            if not self.take(left):
                break
        return len(self.sent) - before

    def read_until(self, text: str, *, seconds: float = 90.0) -> float:
        """Take what comes until the screen shows `text`; seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if text in self.screen():
                return time.monotonic() - began
            self.take(0.05)
        raise AssertionError(f"{text!r} did not appear in\n{self.screen()}")

    def read_until_bytes(self, text: bytes, *, seconds: float = 90.0) -> float:
        """The same without drawing a screen: for measuring."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if text in self.sent:
                return time.monotonic() - began
            self.take(0.05)
        raise AssertionError(f"{text!r} did not come")

    def take(self, seconds: float) -> bool:
        """One read; False when the program has gone."""
        ready, _out, _odd = select.select([self._fd], [], [], max(0.0, seconds))
        if not ready:
            return True
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:
            return False
        self.sent += data
        if self._screen is not None:
            self._feed(data)
        return bool(data)

    def press(self, keys: str) -> None:
        """Send keys as a terminal would."""
        os.write(self._fd, keys.encode())

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def wait(self, seconds: float = 60.0) -> int:
        """Read until the program ends; its exit code."""
        return self._drain_until_end(seconds)

    def _drain_until_end(self, seconds: float) -> int:
        assert self._child is not None
        deadline = time.monotonic() + seconds
        while self._child.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("holdfast", seconds)
            if not self.take(0.05):
                return self._child.wait(max(0.1, deadline - time.monotonic()))
        self.read_for(0.1)
        return self._child.returncode

    def screen(self) -> str:
        """What a terminal shows after all that was sent, as text."""
        import pyte

        if self._screen is None:
            screen = pyte.Screen(*self.size)
            self._screen = (screen, pyte.ByteStream(screen))
            self._feed(bytes(self.sent))
        shown, _stream = self._screen
        return "\n".join(line.rstrip() for line in shown.display)

    def _feed(self, data: bytes) -> None:
        import re

        # private sequences that the emulator takes for text
        data = re.sub(
            rb"\x1b\[[<>=?][0-9;]*[uctqpm$]+|\x1b\[\?[0-9;]+\$p|\x1bP.*?\x1b\\", b"", data
        )
        _shown, stream = self._screen
        stream.feed(data)
