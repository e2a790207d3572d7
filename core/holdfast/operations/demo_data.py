"""Real data to play with: Python's own library, a disk image with a file system, a damaged chunk."""

import os
import random
import shutil
import subprocess
import sysconfig
from typing import Final

from holdfast.datastore import digest_set
from holdfast.datastore.exclusive import exclusive_digests
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import NotFound
from holdfast.host import files
from holdfast.ids import SnapshotId
from holdfast.operations.progress import Progress
from holdfast.units import KIB, MIB

_LEFT_OUT: Final = ("__pycache__", "site-packages", "dist-packages", "test", "idlelib", "config-*")
_IMAGE_BYTES: Final = 96 * MIB


def copy_library(target: str) -> int:
    """A copy of Python's standard library below `target`; how many files it has."""
    source = sysconfig.get_path("stdlib")
    shutil.rmtree(target, ignore_errors=True)
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(source, target, symlinks=True, ignore=ignored, ignore_dangling_symlinks=True)
    return sum(len(names) for _directory, _below, names in os.walk(target))


def change_library(target: str, *, seed: int) -> int:
    """What a day's work does to a tree: files added, changed, renamed, removed; how many."""
    source = random.Random(seed)  # noqa: S311  # data, not secrets
    paths = sorted(
        os.path.join(directory, name)
        for directory, _below, names in os.walk(target)
        for name in names
        if name.endswith(".py")
    )
    chosen = source.sample(paths, min(12, len(paths)))
    for path in chosen[:8]:
        with open(path, "a", encoding="utf-8") as text:
            text.write(f"\n# changed on purpose, {source.getrandbits(32):08x}\n")
    for path in chosen[8:10]:
        os.unlink(path)
    for path in chosen[10:]:
        shutil.move(path, f"{path}.old")
    with open(os.path.join(target, "measurements.bin"), "wb") as binary:
        binary.write(source.randbytes(6 * MIB))
    return len(chosen) + 1


def make_image(path: str, *, seed: int) -> str:
    """A disk image at `path`, with an ext4 file system in it if the machine has the tools.

    Returns:
        What was made, for people.
    """
    for old in (path, f"{path}.files"):
        if os.path.isdir(old):
            shutil.rmtree(old)
        elif os.path.exists(old):
            os.unlink(old)
    source = random.Random(seed)  # noqa: S311  # data, not secrets
    contents = f"{path}.files"
    os.makedirs(contents)
    for number in range(40):
        with open(os.path.join(contents, f"report-{number}.txt"), "wb") as text:
            text.write(b"%d " % source.getrandbits(64) * (source.randrange(1, 4) * 4 * KIB))
    with open(os.path.join(contents, "database.bin"), "wb") as binary:
        binary.write(source.randbytes(12 * MIB))
    with open(path, "wb") as image:
        image.truncate(_IMAGE_BYTES)
    tool = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
    made = "a raw disk image"
    if tool is not None:
        done = subprocess.run(
            [tool, "-q", "-F", "-d", contents, path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            made = "a disk image with an ext4 file system"
    if made == "a raw disk image":
        with open(path, "r+b") as image:
            image.seek(8 * MIB)
            for name in sorted(os.listdir(contents)):
                with open(os.path.join(contents, name), "rb") as content:
                    shutil.copyfileobj(content, image)
    shutil.rmtree(contents)
    return made


def damage_one_chunk(base: str, snapshot: SnapshotId, progress: Progress) -> bytes:
    """Flip one bit of a chunk that only `snapshot` needs; its digest (NotFound if there is none)."""
    store = Datastore.open(base, Access.READ_WRITE)
    digests, _holders = exclusive_digests(store, [snapshot], observer=progress)
    candidates = list(digest_set.digest_bytes(digests))
    paths = {digest: f"{base}/.chunks/{digest.hex()[:4]}/{digest.hex()}" for digest in candidates}
    there = [digest for digest in sorted(candidates) if os.path.exists(paths[digest])]
    if not there:
        raise NotFound(f"{snapshot} shares every chunk with other snapshots")
    victim = max(there, key=lambda digest: os.stat(paths[digest]).st_size)
    with files.explained("damaging a chunk"):
        fd = os.open(paths[victim], os.O_RDWR | os.O_CLOEXEC)
        try:
            middle = os.fstat(fd).st_size // 2
            byte = os.pread(fd, 1, middle)[0]
            files.pwrite_all(fd, bytes([byte ^ 1]), middle, path=paths[victim])
        finally:
            os.close(fd)
    return victim
