"""Repeatable byte streams: the pseudo-random one of the recorded vectors, and plain patterns."""

import functools
import hashlib
import struct


@functools.cache
def pseudo_random(size: int) -> bytes:
    """P(n) of the vectors: SHA256(LE64(0)) || SHA256(LE64(1)) || ... cut to `size` bytes."""
    blocks = -(-size // 32)
    data = b"".join(
        hashlib.sha256(number.to_bytes(8, "little")).digest() for number in range(blocks)
    )
    return data[:size]


@functools.cache
def counter(count: int) -> bytes:
    """LE32(0) || LE32(1) || ... || LE32(count - 1)."""
    return struct.pack(f"<{count}I", *range(count))


def vector_input(description: str, size: int) -> bytes:
    """The bytes a vector's "input" text describes."""
    if description.startswith("P("):
        return pseudo_random(size)
    if description.startswith("LE32(0)"):
        return counter(size // 4)
    if description == "all bytes 0x00":
        return bytes(size)
    if description == "all bytes 0xff":
        return b"\xff" * size
    raise ValueError(description)
