"""The event loop only shows: files are read in threads, and keys are not kept waiting."""

import asyncio
import time
from pathlib import Path

from tests.harness.places import quick_directory
from tests.harness.small_store import SmallStore
from tests.harness.tui import Bench, app_of, opened, press, settled
from tests.harness.write_watch import reads_of_this_thread_noted

SNAPSHOTS = 1500


async def test_no_file_of_a_store_or_the_journal_is_read_on_the_event_loop(
    looked_at: Bench,
) -> None:
    with reads_of_this_thread_noted(str(looked_at.home)) as reads:
        async with opened(looked_at, size=(120, 40)) as pilot:
            await settled(pilot)
            for key in "2345678":
                await press(pilot, key, "j", "k")
                await settled(pilot)
        assert reads == []


async def test_the_loop_goes_on_while_many_snapshots_are_read(bench: Bench) -> None:
    """Goal: a key never waits for a store. Method: measure how late the loop wakes up meanwhile."""
    with quick_directory() as place:
        small = SmallStore(Path(place) / "many")
        for number in range(SNAPSHOTS):
            day, hour = divmod(number, 24)
            stamp = time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(1_700_000_000 + day * 86_400))
            name = f"host/m{hour}/{stamp}"
            small.snapshot(name, {"a.didx": [b"x"]})
        config = bench.home / "config.toml"
        config.write_text(config.read_text() + f'[stores.many]\npath = "{place}/many"\n')
        async with opened(bench) as pilot:
            app = app_of(pilot)
            late: list[float] = []
            while "many" not in app.catalogues or not app.catalogues["many"].is_complete:
                began = time.monotonic()
                await asyncio.sleep(0.005)
                late.append(time.monotonic() - began - 0.005)
            assert app.catalogues["many"].count == SNAPSHOTS
        late.sort()
        assert late[len(late) // 2] < 0.05  # most of the time at once, on a busy machine as well
