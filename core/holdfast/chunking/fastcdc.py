"""Content cuts by a gear hash with two thresholds (FastCDC), in C and without the GIL.

The hash moves over the bytes behind the minimum; before the mean a cut needs more matching bits
than after it, so sizes gather around the mean. Source: W. Xia et al., "FastCDC", USENIX ATC 2016.
"""

from typing import Final

import pyfastcdc

from holdfast.chunking.params import ChunkingParams

_NORMALIZATION: Final = 1


class FastCdcCutter:
    """The default cutter: 2 to 4 GiB/s on one core."""

    def __init__(self, params: ChunkingParams) -> None:
        self.params = params
        self._max = params.chunk_bytes_max
        self._cdc = pyfastcdc.FastCDC(
            params.chunk_bytes_mean,
            min_size=params.chunk_bytes_min,
            max_size=params.chunk_bytes_max,
            normalized_chunking=_NORMALIZATION,
        )

    def scan(self, data: memoryview, *, scanned: int) -> int:
        """See Cutter; bytes already scanned are hashed again, at 0.25 to 0.5 ms per MiB."""
        size = len(data)
        if size <= max(scanned, self.params.chunk_bytes_min):
            return 0
        length: int = next(self._cdc.cut_buf(data)).length
        return length if length < size or size >= self._max else 0
