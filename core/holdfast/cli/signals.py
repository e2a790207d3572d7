"""Being asked to stop: the first signal ends the work cleanly, the second at once.

Operations undo what is half done when an exception passes through them; a signal is one more
exception, raised in the main thread. It derives from KeyboardInterrupt, so nothing that catches
`Exception` can swallow it.
"""

import os
import signal
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal(KeyboardInterrupt):
    """Raised where the main thread is when SIGINT, SIGTERM or SIGHUP arrives."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def install() -> None:
    """Turn the first signal into StopSignal; the second ends the process without any ado."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, background shells
            signal.signal(number, _first)


def _first(number: int, frame: FrameType | None) -> None:
    del frame
    for other in _SIGNALS:
        if signal.getsignal(other) is not signal.SIG_IGN:
            signal.signal(other, _second)
    raise StopSignal(number)


def _second(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)
