"""`holdfast demo`: a small store of real data with one thing wrong in it.

Every step but the data itself is an ordinary command, shown as it would be typed.
"""

import io
import json
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from typing import Any, Final

from holdfast.cli import main, plain_text
from holdfast.cli.console import Console
from holdfast.config.settings import Settings, default_store_path
from holdfast.errors import EXIT_OK, EXIT_WARNINGS, DamagedData, HoldfastError
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.ids import SnapshotId, epoch_to_name
from holdfast.operations import demo_data
from holdfast.units import DAY

_GROUP: Final = "host/python"
_MACHINE: Final = "vm/100"
_CHUNKS: Final = ("--chunk-size", "256")  # KiB: a small tree shall have more than seven chunks


def add_arguments(parser: ArgumentParser) -> None:
    """Where."""
    parser.add_argument(
        "--path", metavar="DIR", help="the store (default: holdfast/store in your data directory)"
    )


class Tour:
    """Runs ordinary commands on the demo's store and shows them."""

    def __init__(self, console: Console, args: Namespace, store: str) -> None:
        self._console = console
        self._globals = ["--store", store, "--config", args.config, "--state-dir", args.state_dir]
        self._is_default = _default_store(args) == store

    def run(self, *words: str, accepted: tuple[int, ...] = (EXIT_OK,)) -> Any:  # any JSON
        """Run one command and return its JSON document."""
        self._console.remark(f"$ holdfast {shlex.join(words)}")
        captured = io.StringIO()
        with redirect_stdout(captured):
            code = main.main([*self._globals, "--quiet", "--json", *words])
        if code not in accepted:
            raise HoldfastError(
                f"the demo stopped: `holdfast {shlex.join(words)}` ended with {code}"
            )
        return json.loads(captured.getvalue())

    def show(self, *words: str) -> None:
        """Run one command with its output as a person sees it."""
        self._console.data(f"\n$ holdfast {shlex.join(words)}")
        captured = io.StringIO()
        with redirect_stdout(captured):
            main.main([*self._globals, "--no-color", *words])
        self._console.data(captured.getvalue().rstrip())

    def typed(self, words: str) -> str:
        """How a person types a command that works on this store."""
        where = "" if self._is_default else f" -s {shlex.quote(self._globals[1])}"
        return f"./run{where} {words}"


def _default_store(args: Namespace) -> str | None:
    """The store that a command works on when none is named."""
    try:
        return os.path.abspath(Settings.read(args.config).store(None).path)
    except HoldfastError:  # several, so that there is no default
        return None


def run(args: Namespace, console: Console) -> int:
    """Make the data, back it up, damage it, verify it, and show what there is to see."""
    store = os.path.abspath(args.path or args.store or default_store_path())
    files = f"{store}-files"
    os.makedirs(files, exist_ok=True)
    tour = Tour(console, args, store)
    if not os.path.isdir(os.path.join(store, ".chunks")):
        console.remark(f"making a store in {store}: 65,536 directories, once")
        _make_store(store)
    now_s = _free_second(store)
    library, image = os.path.join(files, "python"), os.path.join(files, "disk.raw")

    count = demo_data.copy_library(library)
    console.remark(f"copied Python's own library: {count:,} files")
    fine = (EXIT_OK, EXIT_WARNINGS)  # a second demo is warned of the damage of the first
    tour.run(*_backup(f"python.pxar:{library}", _GROUP, now_s - 2 * DAY), accepted=fine)
    changed = demo_data.change_library(library, seed=now_s)
    console.remark(f"a day's work: {changed} files added, changed, renamed or removed")
    second = tour.run(*_backup(f"python.pxar:{library}", _GROUP, now_s - DAY), accepted=fine)
    made = demo_data.make_image(image, seed=100)
    console.remark(f"made {made}")
    tour.run(*_backup(f"drive-scsi0.img:{image}", _MACHINE, now_s), accepted=fine)

    with console.progress() as progress:
        snapshot = SnapshotId.parse(second["snapshot"])
        digest = demo_data.damage_one_chunk(store, snapshot, progress)
    console.remark(f"flipped one bit of chunk {digest.hex()[:16]}..., to have something to find")
    checked = tour.run("verify", accepted=(EXIT_OK, DamagedData.exit_code))
    failed = [item["snapshot"] for item in checked["snapshots"] if item["state"] != "ok"]

    if args.json:
        console.document({"store": store, "snapshot": second["snapshot"], "failed": failed})
        return EXIT_OK
    if console.writes_to_terminal and sys.stdin.isatty() and sys.stderr.isatty():
        where = ["--store", store, "--config", args.config, "--state-dir", args.state_dir]
        return main.main([*where, "tui"])
    _summary(console, tour, second, digest)
    return EXIT_OK


def _make_store(path: str) -> None:
    from holdfast.datastore.store import Datastore

    os.makedirs(os.path.dirname(path), exist_ok=True)
    Datastore.create(path)


def _free_second(path: str) -> int:
    """The second that the demo's snapshots are dated from; another demo may just have used one."""
    from holdfast.datastore.store import Access, Datastore

    store = Datastore.open(path, Access.READ_ONLY)
    now_s = int(SYSTEM_CLOCK.now_s())
    while any(
        store.exists(SnapshotId.parse(f"{group}/{epoch_to_name(now_s - age)}"))
        for group, age in ((_GROUP, 2 * DAY), (_GROUP, DAY), (_MACHINE, 0))
    ):
        SYSTEM_CLOCK.wait(max(now_s + 1 - SYSTEM_CLOCK.now_s(), 0))
        now_s += 1
    return now_s


def _backup(spec: str, group: str, time_s: int) -> tuple[str, ...]:
    kind, _slash, name = group.partition("/")
    time_name = epoch_to_name(time_s)
    return ("backup", spec, "--type", kind, "--id", name, "--time", time_name, *_CHUNKS)


def _summary(console: Console, tour: Tour, second: dict[str, Any], digest: bytes) -> None:
    archive = second["archives"][0]
    stored = plain_text.size_text(archive["stored_bytes"])
    whole = plain_text.size_text(archive["size"])
    console.data(f"\nthe second backup of Python's library: {whole}, {stored} stored for it")
    tour.show("snapshots")
    snapshot = second["snapshot"]
    console.data(
        "\n".join(
            (
                "",
                console.styled("A snapshot FAILED its verification, as it should.", "title"),
                "Try next:",
                f"  {tour.typed(f'affected {digest.hex()}')}",
                f"  {tour.typed(f'ls {snapshot} python.pxar /json')}",
                f"  {tour.typed('find json/decoder.py')}",
                f"  {tour.typed(f'restore {_GROUP} /tmp/python-back -n')}",
                f"  {tour.typed('stats')}",
            )
        )
    )
