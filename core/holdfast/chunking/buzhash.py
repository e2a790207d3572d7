"""Content cuts exactly where Proxmox Backup's client makes them, for whole buffers at a time.

A 32-bit hash looks at the last 64 bytes b[i-63..i] of a chunk:

    h(i) = XOR over k = 0..63 of rotl32(T[b[i-k]], k mod 32)

and the chunk ends after its byte number n >= min when (h AND m) >= m - 2 with m = 2 * mean - 1, or
when n = max. With P(i) = XOR over j <= i of rotr32(T[b[j]], j mod 32) this is

    h(i) = rotl32(P(i) XOR P(i-64), i mod 32)

so no byte depends on the one before it except through a running XOR, which array operations do.
The rotation back is saved by rotating the bits asked for instead: a candidate has all bits of
m AND NOT 3 set, which is true of about one byte in mean / 2; only those are looked at one by one.

Source: docs/algorithms/chunking.md. The table T is part of the format.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from holdfast.chunking.params import ChunkingParams
from holdfast.units import KIB

WINDOW_BYTES: Final = 64
_WORD_BITS: Final = 32
_BLOCK_BYTES: Final = 128 * KIB  # the arrays of one step stay in the processor's cache

TABLE: Final = np.frombuffer(
    bytes.fromhex(
        "458be752c10748ccfbbcdbb86ded5b68b10a82b520d75648dfc5665fa84288017ebf5191841135c7"
        "65cc53b3280a597c16f60255c78cbc3e294415f5b938d494ec85c4e6b7d33edce549b544fdeda5aa"
        "882bf2873116737c05569956e8cc1f680806ac5e22a1444315297e1050d090e74ba60f6fefd9f1a7"
        "5c5c885c82482f939bfd7c640b3e7276f2688e778fad8abcb0509568f1ada29fa53efdfecb2b1d00"
        "f2a9e9866463432b950940515a223ad29be8401b61e579cb1a556a145840fdc29261ddf6cde002bb"
        "52432bb0bf17373e7b7c222f2955ed169f10ca59e840c4c9ccabd80614543f341462417a0d4a1f9c"
        "087ed925d7f8f24c7338c425cf86c8f5b19165cd9891c393325384ac0308459d86141d7ec922116a"
        "e2ffa6b653f52aed2cd86197f5b9f498bf319c8fe0411fae977eb18cd87709769833466ac674df7f"
        "8c297d458ca48d26c49ed8e27344f874556f79c76b25eaeda03e2b42f68f66a48e8b09a2f2e0e62a"
        "0d3a98069729e4938c72b0fc160b94f6450e4d3d7a320e85bef8f0e121d736534e3d977a1e7b3929"
        "1cc6c719be478d538d752809e6d8c2c6275f0892c8acc2734cc21580ecc4a617f5f7be70e795248a"
        "375a2fe9425570b68898dcf8dc2d97c40106114b364dc22f1e0cad1fbe63803c5f69fac24d5afa6f"
        "1bc0dfb5fb2735890ea47f7b3c1c2b5021b2a9326b1223fd2fe706a8f9bd6ce2a268e64ee987f486"
        "3eacf5631ca2018c65e182282207360a57cf171534c37d2b1f8f3cde93b657cf31a019fde69eb729"
        "8bca7b9b4c9d5bed277ebeafe0d8f8aed150821c31381871afc3f1b0927db328e95effac305a47bd"
        "426ba35b1233af3f686a5b8350e072e5d9d3bb2a8befc475487f0de6c88dff89bd664d5e971b5d18"
        "63b14847d7d3c1ce7f583cf372cbcb09c0d0a81c7fa3429be9158a1b225ea19ad8ca9ea3c763b282"
        "bb0c6341020b8293d4cd299d58cfa7f891b4ee5337e4d14095ec764c30f76b065ee68d24679c8661"
        "a41979c2f2b612844fac14750adb49f919727a2315a7e374c43a18d53fb1aa73342fc615924c0793"
        "bee2d7f08a279de94aa2d70ce24dd37fbe862c0b177c22c25388e5eecd8a7510f901b4fddbc13dbc"
        "6c0bae5b64efe8c748b0207980331a49ca3d8ae6f3546190fed7108bc49b941b32baf4a9eb833a4a"
        "88a3f1a53a91ce0a3cc27da17112e6844a3096b13794574ca3c8b6f31d2139416e0a2e00233479f1"
        "0f4cd82f6093edd25d7d209e464fe319d4dcac9e0db845cbfb5e4bc3e0256ce109fb4ed10914be1e"
        "a5bdb2c3c6eb57bb303203503f397e91a67791bc86bc0e2cefa0a7e2e9ff7543e733612cd185897b"
        "329e538891dd236b2ecb0d93f4d82a3d35b5c03fe4e606f005b2184337b459645eff22f46027f4cc"
        "77178b3cae5071317bf7cabcf9c18d66593ade65d95ddf11"
    ),
    dtype=">u4",
).astype(np.uint32)
assert TABLE.shape == (256,)


def _rotated(
    values: npt.NDArray[np.uint32], bits: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint32]:
    """Each value rotated right by its number of bits, 0..31."""
    return (values >> bits) | (values << ((_WORD_BITS - bits) % _WORD_BITS))


_BITS: Final = np.arange(_WORD_BITS, dtype=np.uint32)
# Row j mod 32 of the table, rotated right by that much; looked up with 256 * (j mod 32) + byte.
_ROTATED_TABLE: Final = _rotated(np.tile(TABLE, _WORD_BITS), np.repeat(_BITS, TABLE.size))
_ROW_OF_BYTE: Final = np.tile(
    (_BITS * TABLE.size).astype(np.uint16), (_BLOCK_BYTES + WINDOW_BYTES) // _WORD_BITS
)


class BuzhashCutter:
    """Cut points that deduplicate against snapshots of Proxmox Backup's own client."""

    def __init__(self, params: ChunkingParams) -> None:
        self.params = params
        self._mask = 2 * params.chunk_bytes_mean - 1
        wanted = np.full(_WORD_BITS, self._mask & ~3, dtype=np.uint32)
        self._wanted = np.tile(_rotated(wanted, _BITS), _BLOCK_BYTES // _WORD_BITS)

    def scan(self, data: memoryview, *, scanned: int) -> int:
        """See Cutter; only the bytes behind `scanned` are hashed."""
        end = min(len(data), self.params.chunk_bytes_max)
        start = max(scanned, self.params.chunk_bytes_min - 1, WINDOW_BYTES)
        content = np.frombuffer(data, dtype=np.uint8)
        while start < end:
            stop = min(start + _BLOCK_BYTES, end)
            cut = self._first_cut(content[start - WINDOW_BYTES : stop])
            if cut:
                return start + cut
            start = stop
        return end if end == self.params.chunk_bytes_max else 0

    def _first_cut(self, block: npt.NDArray[np.uint8]) -> int:
        """Position behind the first byte of `block` after its leading window that ends a chunk."""
        running = np.take(_ROTATED_TABLE, block + _ROW_OF_BYTE[: block.size])
        np.bitwise_xor.accumulate(running, out=running)
        tested = running[WINDOW_BYTES:] ^ running[:-WINDOW_BYTES]
        # Byte number i of `tested` is byte i + 64 of the block: the same rotation modulo 32.
        wanted = self._wanted[: tested.size]
        for candidate in np.flatnonzero((tested & wanted) == wanted).tolist():
            turn = candidate % _WORD_BITS
            value = int(tested[candidate])
            value = (value << turn | value >> (_WORD_BITS - turn)) & self._mask
            if value >= self._mask - 2:
                return int(candidate) + 1
        return 0
