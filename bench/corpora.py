"""Trees and images to measure with: the same bytes for the same seed, on any machine.

small   many small files, as in /usr/share: text-like, a few kilobytes each
mixed   large files, half of them compressible, half not
image   a disk image with holes of zeros in it
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_TEXT: Final = """
backup chunk index snapshot restore verify digest manifest store group file tree image block the a of
and to in is that for on with as by from this be or not are which at it
"""
_WORDS: Final = _TEXT.split()
# 256 bytes to 16 letters, some of them often: about 3 bits each, and nothing ever repeats
_LETTERS: Final = bytes(b"eeeeettaaooinshr"[value % 16] for value in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large the corpora are."""

    small_files: int
    mixed_bytes: int
    image_bytes: int


FULL: Final = Scale(small_files=55_000, mixed_bytes=2 * GIB, image_bytes=4 * GIB)
TOY: Final = Scale(small_files=800, mixed_bytes=24 * MIB, image_bytes=40 * MIB)


def text_block(source: random.Random, size: int) -> bytes:
    """`size` bytes of words: compresses about as well as source code does."""
    words = source.choices(_WORDS, k=size // 4 + 8)
    for at in range(0, len(words), 9):
        words[at] = f"{source.getrandbits(32):x}"
    return " ".join(words).encode()[:size]


def make_small_files(target: Path, *, files: int, seed: int = 1) -> None:
    """A tree of `files` files of 0.1 to 60 KiB, most of them small, in directories of about 40."""
    source = random.Random(seed)
    pool = text_block(source, 4 * MIB)
    directory = target
    for number in range(files):
        if number % 40 == 0:
            path = (f"section{number // 4000}", f"topic{number // 400}", f"part{number // 40}")
            directory = target.joinpath(*path)
            directory.mkdir(parents=True, exist_ok=True)
        size = int(100 * 600 ** (source.random() ** 2))
        start = source.randrange(len(pool) - size)
        body = f"{number} {source.getrandbits(64):x}\n".encode() + pool[start : start + size]
        (directory / f"file{number}.txt").write_bytes(body)


def make_mixed_files(target: Path, *, total_bytes: int, seed: int = 2) -> None:
    """Files of up to 256 MiB; every other stretch of 1 MiB cannot be compressed."""
    source = random.Random(seed)
    target.mkdir(parents=True, exist_ok=True)
    number = 0
    left = total_bytes
    while left > 0:
        size = min(left, source.randrange(1, 256) * MIB if left > 2 * MIB else left)
        with (target / f"large{number}.bin").open("wb") as out:
            _write_stretches(out.fileno(), size, source, zero_share=0.0)
        left -= size
        number += 1


def make_image(path: Path, *, total_bytes: int, seed: int = 3) -> None:
    """One image, 30 % of its 4 MiB stretches zero (holes), the rest mixed."""
    source = random.Random(seed)
    with path.open("wb") as out:
        _write_stretches(out.fileno(), total_bytes, source, zero_share=0.3)
        os.ftruncate(out.fileno(), total_bytes)


def _write_stretches(fd: int, size: int, source: random.Random, *, zero_share: float) -> None:
    """`size` bytes in stretches of 4 MiB; `zero_share` of them, by lot, are left out."""
    for start in range(0, size, 4 * MIB):
        length = min(4 * MIB, size - start)
        if source.random() < zero_share:
            continue
        parts = []
        for at in range(0, length, MIB):
            noise = source.randbytes(min(MIB, length - at))
            parts.append(noise if at // MIB % 2 else noise.translate(_LETTERS))
        os.pwrite(fd, b"".join(parts), start)
