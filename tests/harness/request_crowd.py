"""A crowd of processes around one request file, some of them killed at random moments.

Run as a program: `python -m tests.harness.request_crowd DIRECTORY ROUNDS SEED`. Each round forks
askers (who become workers when nobody works) and waiters, and kills some of the askers after a
random delay. It prints one JSON line with what happened; the oracle is independent of the code
under test:
  - an item is a file below `todo/FLAG/`, written before it is asked for; an asker notes that its
    request was accepted by a file in `accepted/` after `begin` has returned;
  - a worker lists `todo/FLAG/` when its round starts and removes what it listed when the round is
    done, so an item asked for later needs another round;
  - two workers at once meet at an flock, which the kernel frees when one is killed.
After each round one more worker asks for nothing: then no accepted item may be left.
"""

import fcntl
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from holdfast.jobs.request_flags import RequestFlags, Round

FLAGS = (1, 2)
ROUND_S_MAX = 30.0


def pause(seconds: float) -> None:
    """Let other processes run for a moment: the disorder that the test wants."""
    select.select([], [], [], seconds)


def do_round(base: Path, dice: random.Random, round_: Round) -> int:
    """One round of a worker: list, take a moment, remove; sometimes fail and keep owing."""
    monitor = os.open(base / "monitor", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(monitor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (base / "two-workers").touch()
    try:
        left = round_.owed
        for flag in FLAGS:
            if not round_.owed & flag:
                continue
            listed = sorted((base / "todo" / str(flag)).iterdir())
            pause(dice.random() * 0.003)
            if dice.random() < 0.2:
                continue  # failed: nothing done, owed as before
            for item in listed:
                item.unlink(missing_ok=True)
            left &= ~flag
        return left
    finally:
        os.close(monitor)


def ask(base: Path, seed: int) -> None:
    dice = random.Random(seed)
    pause(dice.random() * 0.004)
    flag = dice.choice(FLAGS)
    item = base / "todo" / str(flag) / str(os.getpid())
    item.touch()
    with RequestFlags.open(str(base / "flags")) as requests:
        owed = requests.begin(flag)
        (base / "accepted" / f"{os.getpid()}-{flag}").touch()
        arrived = owed or 0
        while owed:
            requests.publish(owed)
            left = do_round(base, dice, Round(owed=owed, arrived=arrived))
            arrived = requests.collect()
            owed = left | arrived
            if not owed:
                requests.finish()


def wait(base: Path, seed: int) -> None:
    dice = random.Random(seed)
    pause(dice.random() * 0.004)
    with RequestFlags.open_to_watch(str(base / "flags")) as requests:
        if not requests.wait(dice.choice((None, ROUND_S_MAX))):
            (base / "waited-too-long").touch()


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def reap(pids: list[int], deadline: float) -> list[int]:
    """Exit codes in order (negative: signal); whoever is late is killed and counts as -99."""
    codes = []
    for pid in pids:
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes.append(os.waitstatus_to_exitcode(status))
                break
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                codes.append(-99)
                break
            pause(0.0005)
    return codes


def one_round(base: Path, seed: int) -> dict[str, int]:
    dice = random.Random(seed)
    RequestFlags.open(str(base / "flags")).close()
    askers = [fork(partial(ask, base, dice.getrandbits(32))) for _ in range(dice.randint(2, 5))]
    waiters = [fork(partial(wait, base, dice.getrandbits(32))) for _ in range(2)]
    for victim in dice.sample(askers, dice.randint(0, len(askers))):
        pause(dice.random() * 0.004)
        os.kill(victim, signal.SIGKILL)
    codes = reap(askers + waiters, time.monotonic() + ROUND_S_MAX)
    with RequestFlags.open(str(base / "flags")) as requests:
        taken_up = requests.flags().owed
        requests.serve(0, lambda round_: do_round(base, dice, round_))
        left_in_byte = requests.flags().owed
        alive = requests.is_worker_alive()
    accepted = {entry.name for entry in (base / "accepted").iterdir()}
    lost = [
        name
        for name in accepted
        if (base / "todo" / name.partition("-")[2] / name.partition("-")[0]).exists()
    ]
    for flag in FLAGS:
        for item in (base / "todo" / str(flag)).iterdir():
            item.unlink()  # written by one that was killed before it could ask
    for entry in (base / "accepted").iterdir():
        entry.unlink()
    return {
        "killed": codes.count(-signal.SIGKILL),
        "failed": sum(code not in (0, -signal.SIGKILL) for code in codes),
        "accepted": len(accepted),
        "lost": len(lost),
        "taken_up": int(taken_up != 0),
        "still_owed": left_in_byte,
        "still_alive": int(alive),
    }


def main(directory: str, rounds: int, seed: int) -> None:
    base = Path(directory)
    for name in ("accepted", *(f"todo/{flag}" for flag in FLAGS)):
        (base / name).mkdir(parents=True)
    total: dict[str, int] = {}
    for number in range(rounds):
        for key, value in one_round(base, seed * 1_000_003 + number).items():
            total[key] = total.get(key, 0) + value
    total["two_workers"] = int((base / "two-workers").exists())
    total["waited_too_long"] = int((base / "waited-too-long").exists())
    print(json.dumps(total))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
