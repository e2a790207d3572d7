"""The terminal UI in a test: a home with a real store and journal, the app without a terminal.

async with opened(bench) as pilot:      # the real app on the real store, feeds running
await settled(pilot)                # facts have come in, nothing is being read
await pilot.press("2")
assert "host/web1" in screen_text(pilot)
"""

import os
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from holdfast_tui.app import HoldfastApp
from holdfast_tui.model.request import Target
from holdfast_tui.options import Options
from holdfast_tui.reader import Reader
from holdfast_tui.render.look import Look
from tests.harness.places import quick_directory
from tests.harness.program import Program

HOSTILE_NAMES = (
    b"plain.txt",
    b"with blank",
    b"\x1b]0;owned\x07title",
    b"\xff\xfe not utf-8",
    "\u202egnp.exe".encode(),
    b"line\nend",
    "umläut-日本".encode(),
)
_WRITTEN_S = 1_767_157_200  # the last day of 2025
WAIT_S = 60.0  # a machine that is busy with other things says nothing about the code


@dataclass(slots=True)
class Bench:
    """A home of its own, with a configuration, a journal and the store `main`.

    Attributes:
        home: everything is below it.
        program: runs `holdfast` in a process, with this home.
        snapshots: names of those of host/web1, oldest first.
        damaged: digest of a chunk that was damaged and found; empty for none.
    """

    home: Path
    program: Program
    snapshots: list[str]
    damaged: str = ""

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def files(self) -> Path:
        """What was backed up as `etc.pxar`."""
        return self.home / "etc"

    def options(self, **more: Any) -> Options:
        config, state = str(self.home / "config.toml"), str(self.home / "state")
        return Options(
            **{
                "config": config,
                "state_dir": state,
                "default_config": config,
                "default_state_dir": state,
                **more,
            }
        )


@contextmanager
def bench_directory() -> Iterator[Path]:
    """In memory where there is room: a store has 65,536 directories."""
    with quick_directory() as place:
        yield Path(place)


def make_bench(
    home: Path, *, damage: bool = False, environment: dict[str, str] | None = None
) -> Bench:
    """Three snapshots of host/web1 (etc.pxar, web.conf) and one of vm/100, two of them verified.

    Made by the real program. With `damage` one chunk is changed behind its back and found by a
    verification.
    """
    program = Program(home, environment or {})
    (home / "store" / ".chunks").mkdir(parents=True, mode=0o750)  # without 65,536 directories
    (home / "store" / ".lock").touch()
    (home / "config.toml").write_text(f'[stores.main]\npath = "{home / "store"}"\n')
    etc = home / "etc"
    (etc / "nginx" / "conf.d").mkdir(parents=True)
    rng = random.Random(7)
    for name in HOSTILE_NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(etc), name))).write_bytes(rng.randbytes(900))
    (etc / "nginx" / "nginx.conf").write_text("worker_processes 4;\n" * 40)
    (etc / "nginx" / "conf.d" / "api.conf").write_text("server { listen 443; }\n" * 9)
    (etc / "big.bin").write_bytes(rng.randbytes(300_000))
    (home / "web.conf").write_text("role = web\n")
    snapshots = []
    for day, change in ((1, "first"), (2, "second"), (3, "third")):
        (etc / "nginx" / "conf.d" / "api.conf").write_text(f"server {{ # {change}\n}}\n" * 9)
        (etc / f"new-{change}.txt").write_text(change)
        _pin_times(etc, _WRITTEN_S + 86_400 * day)
        made = program.json(
            *("backup", f"etc.pxar:{etc}", f"web.conf:{home / 'web.conf'}"),
            *("--id", "web1", "--time", f"2026-01-0{day}T06:00:00Z"),
        )
        snapshots.append(made["snapshot"])
    image = home / "disk.raw"
    image.write_bytes(rng.randbytes(1 << 20) + bytes(3 << 20))
    machine = ("--type", "vm", "--id", "100", "--time", "2026-01-02T02:00:00Z")
    program.run("backup", f"drive-scsi0.img:{image}", *machine, "--chunk-size", "64")
    program.run("verify", "host/web1/2026-01-01T06:00:00Z")
    bench = Bench(home, program, snapshots)
    if damage:
        bench.damaged = damage_one(bench)
    return bench


def _pin_times(place: Path, moment_s: float) -> None:
    """What was written just now was written then."""
    for path in (place, *place.rglob("*")):
        if path.lstat().st_mtime > _WRITTEN_S + 86_400 * 30:
            os.utime(path, (moment_s, moment_s))


def damage_one(bench: Bench) -> str:
    """Change a chunk that only the newest snapshot of host/web1 has, and have verify find it."""
    from holdfast.datastore.store import Access, Datastore
    from holdfast.ids import SnapshotId

    store = Datastore.open(str(bench.store), Access.READ_ONLY)

    def digests(name: str) -> set[bytes]:
        snapshot = SnapshotId.parse(name)
        found = set()
        for entry in store.manifest(snapshot).files:
            if entry.filename.endswith(".ppxar.didx"):  # contents, so that files can be named
                index = store.open_index(snapshot, entry.filename)
                found |= {index.digest_at(at) for at in range(index.chunk_count)}
        return found

    own = digests(bench.snapshots[-1]) - digests(bench.snapshots[0])
    digest = min(own).hex()
    path = bench.store / ".chunks" / digest[:4] / digest
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    bench.program.run("verify", code=20)
    return digest


def copied(bench: Bench, home: Path) -> Bench:
    """Another bench that a test may change."""
    home.mkdir(parents=True, exist_ok=True)
    for source in bench.home.iterdir():
        if source.is_dir():
            shutil.copytree(source, home / source.name, symlinks=True)
        else:
            shutil.copy2(source, home / source.name)
    config = home / "config.toml"
    config.write_text(config.read_text().replace(str(bench.home), str(home)))
    return Bench(home, Program(home), list(bench.snapshots), bench.damaged)


@asynccontextmanager
async def opened(
    bench: Bench,
    *,
    size: tuple[int, int] = (100, 30),
    look: Look | None = None,
    view: str = "dashboard",
    target: Target | None = None,
    live: bool = True,
    reader: Reader | None = None,
    **options: Any,
) -> AsyncIterator[Pilot[str]]:
    """The app on the bench, in a terminal of `size` that nobody sees."""
    app = HoldfastApp(
        bench.options(**options),
        look or Look(),
        reader=reader,
        start_view=view,
        start_target=target,
        live=live,
    )
    async with app.run_test(size=size) as pilot:
        yield pilot


def app_of(pilot: Pilot[str]) -> HoldfastApp:
    assert isinstance(pilot.app, HoldfastApp)
    return pilot.app


async def until(pilot: Pilot[str], holds: Callable[[], object], *, what: str = "") -> None:
    """Let the app work until `holds()`; fails after a minute, with the screen."""
    import time

    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {what}\n{screen_text(pilot)}")
        await pilot.pause(0.02)
    await pilot.pause()


async def settled(pilot: Pilot[str]) -> None:
    """Wait until every store was read and no worker of the app is busy."""
    app = app_of(pilot)

    def is_quiet() -> bool:
        stores = app.store_facts.values()
        known = app.has_looked_for_stores and app.board.read_at > 0 and app.job_board.read_at > 0
        read = all(facts.snapshots is not None or facts.error for facts in stores)
        return known and read and not [each for each in app.workers if each.is_running]

    if app._live:
        await until(pilot, is_quiet, what="the app came to rest")
    await pilot.pause()


async def press(pilot: Pilot[str], *keys: str) -> None:
    """Press keys and wait for what they started."""
    await pilot.press(*keys)
    app = app_of(pilot)
    await until(
        pilot,
        lambda: not [each for each in app.workers if each.is_running] or app.screen.is_modal,
        what=f"the end of {keys}",
    )


def screen_text(pilot: Pilot[str]) -> str:
    """What the terminal shows, as text without colours."""
    app = pilot.app
    strips = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(part.text for part in strip).rstrip() for strip in strips)
