"""`python -m tests.harness.killed_command N WORDS...`: holdfast, ended by SIGKILL at its n-th effect.

Effects are those on files below the directories in KILL_BELOW (colon-separated), as the fault gate
sees them; N = 0 kills nobody and prints the number of effects to the file KILL_COUNT.
"""

import os
import signal
import sys

from holdfast.cli.main import main
from holdfast.host import gate

_seen = 0


def _count(call: str, path: object) -> None:
    global _seen  # noqa: PLW0603  # one process, one count
    if call in ("open", "read") or not isinstance(path, str | bytes):
        return
    text = os.fsdecode(path)
    if not text.startswith(tuple(os.environ["KILL_BELOW"].split(":"))):
        return
    _seen += 1
    if _seen == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with gate.installed(_count):
        code = main(sys.argv[2:])
    if "KILL_COUNT" in os.environ:
        with open(os.environ["KILL_COUNT"], "w", encoding="ascii") as file:
            file.write(str(_seen))
    sys.exit(code)
