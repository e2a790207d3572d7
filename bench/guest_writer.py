"""A guest of a benchmark: writes over NBD, in a process of its own, and says how long each took."""

import asyncio
import multiprocessing
import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_uri import NbdAddress

CHUNK: Final = 4 << 20
WRITES: Final = 1000
SIZE: Final = (WRITES + 60) * CHUNK
_PAUSE_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Latency:
    """How long guests waited, in milliseconds."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        ordered = sorted(seconds)
        rank = min(len(ordered) - 1, int(len(ordered) * 0.99))
        return cls(round(statistics.median(ordered) * 1000, 3), round(ordered[rank] * 1000, 3))


def _write_all(address: NbdAddress, writes: int) -> list[float]:
    """Waits of writes of 4 KiB, each into a chunk that was not copied yet, from the end back."""
    rng, waits = random.Random(1), []
    with NbdClient.connect(address) as client:
        for number in range(writes):
            at = (WRITES + 59 - number) * CHUNK + rng.randrange(16) * 4096
            begin = time.perf_counter()
            client.write(at, b"g" * 4096)
            waits.append(time.perf_counter() - begin)
            time.sleep(_PAUSE_S)  # noqa: TID251 - guests think, too
    return waits


async def guest_latency(address: NbdAddress, writes: int = WRITES) -> Latency:
    """Let a guest write and tell how long it waited."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        loop = asyncio.get_running_loop()
        return Latency.of(await loop.run_in_executor(processes, _write_all, address, writes))
