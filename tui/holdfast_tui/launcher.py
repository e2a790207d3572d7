"""The working side: starts `holdfast` commands; the app itself never changes anything.

Long work becomes a detached worker that outlives the app, by the same way as `--detach`. Short
changes (protect, comment, enable ...) run as a child that is waited for. Neither this module is
imported nor its class made in read-only mode.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.errors import HoldfastError
from holdfast.jobs import worker
from holdfast_tui.options import Options

_SHORT_S_MAX = 120
_SECRET = "HOLDFAST_PASSWORD"  # noqa: S105  # where it is looked for


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command.

    Attributes:
        upid: of the detached task; empty for short commands.
        said: its words, errors first; cleaned by whoever shows them.
    """

    is_ok: bool
    upid: str = ""
    said: str = ""
    out: str = ""


class Launcher:
    """Starts commands with the global options of this run. Call from threads only."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def start(self, store: str | None, words: Sequence[str], *, secret: bytes = b"") -> Outcome:
        """Start a long command as a detached worker; returns when its task is in the journal."""
        try:
            secrets = {f"{_SECRET}_FILE": secret} if secret else worker.NO_SECRETS
            started = worker.start_detached(self._options.words(store, words), secrets)
        except HoldfastError as error:
            return Outcome(is_ok=False, said=str(error))
        if started.upid is None:
            return Outcome(is_ok=False, said=_last_sentences(started.said))
        return Outcome(is_ok=True, upid=str(started.upid), said=started.remark)

    def run(self, store: str | None, words: Sequence[str], *, secret: bytes = b"") -> Outcome:
        """Run a short command to its end."""
        handed = {_SECRET: os.fsdecode(secret)} if secret else {}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "holdfast", *self._options.words(store, words)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_SHORT_S_MAX,
                env=os.environ | self._options.environment | handed,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return Outcome(is_ok=False, said=f"no answer for {_SHORT_S_MAX} seconds")
        except OSError as error:
            return Outcome(is_ok=False, said=f"cannot start holdfast: {error.strerror}")
        said = _last_sentences(done.stderr.decode("utf-8", "replace"))
        out = done.stdout.decode("utf-8", "replace")
        return Outcome(is_ok=done.returncode in (0, 3), said=said, out=out)


def _last_sentences(text: str) -> str:
    lines = [line.removeprefix("error: ").strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-2:])[:400]
