"""`nbd export`, `nbd backup` and `bitmap`: an image that guests use while it is backed up."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.harness.stores import empty_store

from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_uri import NbdAddress
from holdfast.block.partial_image import PartialImage
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.ids import SnapshotId
from holdfast.units import KIB, MIB

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
SIZE = 40 * MIB + 512
CHUNK = 4 * MIB


@pytest.fixture(scope="module")
def store() -> Iterator[Datastore]:
    with empty_store() as store:
        yield store


class Place:
    """An image, the program, and a store."""

    def __init__(self, directory: Path, store: Datastore) -> None:
        self.store = store
        self.image = directory / "disk.raw"
        self.image.write_bytes(random.Random(4).randbytes(SIZE))
        self.socket = directory / "s"
        self.id = directory.name[-40:].strip("_")
        self.fleecing = directory / "fleecing"
        self.fleecing.mkdir()
        self._start = [sys.executable, "-m", "holdfast", "--store", store.base, "--state-dir"]
        self._start += [str(directory / "state"), "--json"]

    def said_before(self) -> str:
        """What is told before a backup, in words for a person."""
        SYSTEM_CLOCK.wait(1.1)
        words = [word for word in self._start if word != "--json"]
        command = [*words, "nbd", "backup", str(self.socket)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENV)
        return done.stderr

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._start, *words], capture_output=True, text=True, check=False, env=ENV
        )

    def said(self, *words: str) -> Any:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def exported(self, *options: str, ends: str = "terminate") -> Iterator[NbdClient]:
        words = ["nbd", "export", str(self.image), "--socket", str(self.socket), "--id", self.id]
        process = subprocess.Popen(
            [*self._start, *words, *options], stdout=subprocess.PIPE, env=ENV
        )
        assert process.stdout is not None
        uri = json.loads(process.stdout.readline())["uri"]
        try:
            with NbdClient.connect(NbdAddress.parse(uri)) as client:
                yield client
        finally:
            getattr(process, ends)()
            process.communicate()

    def back_up(self) -> Any:
        SYSTEM_CLOCK.wait(1.1)  # snapshots are named by the second
        return self.said("nbd", "backup", str(self.socket))

    def content(self, answer: Any) -> bytes:
        snapshot = SnapshotId.parse(answer["snapshot"])
        index = self.store.open_index(snapshot, "disk.img.fidx")
        return b"".join(StreamReader(index, ChunkReader(ChunkStore.of(self.store))).pieces())


@pytest.fixture
def place(tmp_path: Path, store: Datastore) -> Place:
    return Place(tmp_path, store)


@pytest.mark.parametrize("fleecing", [True, False], ids=["fleecing", "direct"])
def test_backups_of_a_served_image_read_what_guests_wrote(place: Place, fleecing: bool) -> None:
    options = ("--fleecing-dir", str(place.fleecing)) if fleecing else ()
    with place.exported(*options) as guest:
        first = place.back_up()
        assert place.content(first) == place.image.read_bytes()
        guest.write(5 * MIB, b"new" * 1000)
        guest.write_zeroes(20 * MIB, 8 * MIB)
        second = place.back_up()
        assert place.content(second) == place.image.read_bytes()
        guest.write(SIZE - 3, b"end")
    listed = place.said("bitmap", "list", str(place.image))
    assert [(b["dirty_bytes"], b["inconsistent"]) for b in listed] == [(64 * KIB, False)]
    with place.exported(*options):
        third = place.back_up()
        assert place.content(third) == place.image.read_bytes()
    assert "no previous snapshot" in first["full_reason"]
    assert (second["full_reason"], third["full_reason"]) == (None, None)
    assert third["read_bytes"] == 512
    assert second["read_bytes"] <= 3 * CHUNK
    assert list(place.fleecing.iterdir()) == []


def test_why_everything_is_read_is_said_before_it_is(place: Place) -> None:
    with place.exported("--max-workers", "2", "--max-chunk", "128k"):
        first, second = place.said_before(), place.said_before()
    cost, read = first.splitlines()
    assert cost == f"{SIZE} of {SIZE} bytes are read: there is no previous snapshot of this disk"
    assert read.startswith(f"read {SIZE} of {SIZE} bytes")
    assert second.splitlines() == [f"read 0 of {SIZE} bytes"]


def test_a_killed_server_means_a_full_read_and_says_so(place: Place) -> None:
    with place.exported(ends="kill") as guest:
        place.back_up()
        guest.write(0, b"unseen")
        guest.flush()
    assert place.said("bitmap", "list", str(place.image))[0]["inconsistent"]
    with place.exported("--fleecing-dir", str(place.fleecing)):
        again = place.back_up()
        assert "inconsistent" in again["full_reason"]
        assert place.content(again) == place.image.read_bytes()
        assert place.back_up()["full_reason"] is None


def test_an_image_changed_behind_the_server_is_noticed(place: Place) -> None:
    with place.exported():
        place.back_up()
    data = bytearray(place.image.read_bytes())
    data[:5] = b"other"
    place.image.write_bytes(data)
    with place.exported():
        again = place.back_up()
    assert "inconsistent" in again["full_reason"]
    assert place.content(again) == data


def test_bitmaps_are_made_merged_cleared_and_removed(place: Place) -> None:
    image = str(place.image)
    place.said("bitmap", "add", image, "mine", "--granularity", "4k")
    with place.exported() as guest:
        guest.write(MIB, b"x")
        assert place.run("bitmap", "remove", image, "mine").returncode == 11
        assert place.run("nbd", "export", image, "--socket", "t", "--id", "x").returncode == 11
    place.said("bitmap", "add", image, "other")
    place.said("bitmap", "merge", image, "other", "mine")
    dirty = {b["name"]: b["dirty_bytes"] for b in place.said("bitmap", "list", image)}
    assert dirty == {"mine": 4 * KIB, "other": 64 * KIB}
    place.said("bitmap", "clear", image, "other")
    place.said("bitmap", "remove", image, "mine")
    assert place.run("bitmap", "remove", image, "mine").returncode == 10
    assert [b["dirty_bytes"] for b in place.said("bitmap", "list", image)] == [0]


def test_a_store_that_fails_is_retried_from_what_it_took(place: Place) -> None:
    """Some chunk files cannot be made for a while; the guest is served all the time."""
    with place.exported() as guest:
        place.back_up()
        for number in range(8):
            guest.write(number * CHUNK + 77, bytes([number + 1]) * 100)
        image = place.image.read_bytes()
        digests = [hashlib.sha256(image[n * CHUNK : (n + 1) * CHUNK]).hexdigest() for n in range(8)]
        chunks = Path(place.store.base) / ".chunks"
        broken = [chunks / digest[:4] for digest in digests[4:]]
        for path in broken:
            path.rename(path.with_suffix(".aside"))
            path.touch()
        SYSTEM_CLOCK.wait(1.1)
        stored: set[int] = set()
        while len(stored) < 4:  # what is still queued when a chunk fails is left to the next run
            assert place.run("nbd", "backup", str(place.socket)).returncode != 0
            partial = PartialImage.load(f"{place.image}.partial")
            assert partial is not None
            before, stored = stored, set(partial.held().numbers().tolist())
            assert before <= stored
        for path in broken:
            path.unlink()
            path.with_suffix(".aside").rename(path)
        guest.write(9 * CHUNK, b"later")
        retry = place.back_up()
        assert place.content(retry) == place.image.read_bytes()
        assert retry["full_reason"] is None
        assert stored == set(range(4))
        wanted = set(range(8)) - stored | {9}  # not stored, or written since; nothing else
        assert retry["read_bytes"] == len(wanted) * CHUNK
