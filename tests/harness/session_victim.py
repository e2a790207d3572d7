"""A backup that dies by SIGKILL right before its N-th effect on the disk; run as a program.

    python -m tests.harness.session_victim BASE TIME_S EFFECT SEED

An effect that is a write is first carried out in part, so that torn files are left as well.
Prints nothing; ends with 0 when the backup finished before its effect number EFFECT.
"""

import itertools
import os
import random
import signal
import sys
import threading
from pathlib import Path

from holdfast.datastore.session import SessionSettings
from holdfast.host import gate
from holdfast.units import KIB
from tests.harness.sessions import back_up, small_store

TORN_BYTES = 7
SETTINGS = SessionSettings(chunk_mean=64 * KIB)


def contents(seed: int) -> dict[str, bytes]:
    """What a backup of this seed holds; neighbouring seeds share most of it."""
    source = random.Random(seed // 2)
    shared, own = source.randbytes(400 * KIB), random.Random(seed).randbytes(100 * KIB)
    return {
        "root.pxar.didx": shared + own,
        "disk.img.fidx": own,
        "fw.conf.blob": own[:100],
    }


def killer(effect: int) -> gate.Gate:
    """Lets `effect` effects pass and ends the process at the next one."""
    numbers = itertools.count()
    lock = threading.Lock()

    def decide(call: str, _path: object) -> int | None:
        with lock:
            number = next(numbers)
            if number < effect:
                return None
            if call == "write" and number == effect:
                return TORN_BYTES
            os.kill(os.getpid(), signal.SIGKILL)
        return None

    return decide


def main() -> None:
    base, time_s, effect, seed = sys.argv[1], *map(int, sys.argv[2:5])
    store = small_store(Path(base))
    with gate.installed(killer(effect)):
        back_up(store, contents(seed), time_s=time_s, settings=SETTINGS)


if __name__ == "__main__":
    main()
