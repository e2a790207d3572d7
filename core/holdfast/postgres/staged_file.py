"""Reading a compressed WAL file of the stage: bounded memory, and nothing but what was written.

One zstd frame with its content's size and a checksum. The library's reader ends quietly when its
input does, so the end of the input is watched: asked for one byte more than is left, it meets the
end of a complete frame first, and the end of the file only when the frame is cut short.
"""

import os
from collections.abc import Iterator
from typing import IO, Final, cast

import zstandard

from holdfast.errors import DamagedData

PIECE_BYTES: Final = 1 << 20
_WINDOW_BYTES_MAX: Final = 1 << 27
_FRAME_HEADER_BYTES_MAX: Final = 18


class _Source:
    """The file as the library wants it, remembering whether it was read beyond its end."""

    def __init__(self, fd: int) -> None:
        self.was_exhausted = False
        self._fd = fd
        self._offset = 0

    def read(self, size: int) -> bytes:
        data = os.pread(self._fd, size, self._offset)
        self._offset += len(data)
        self.was_exhausted = self.was_exhausted or not data
        return data


def staged_size(fd: int, name: str) -> int:
    """Bytes of the WAL file that the compressed file open at `fd` holds (DamagedData, OSError)."""
    head = os.pread(fd, _FRAME_HEADER_BYTES_MAX, 0)
    try:
        frame = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        raise DamagedData(f"the archived {name}", "it does not begin like one") from error
    if not frame.has_checksum or frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
        raise DamagedData(f"the archived {name}", "it has no checksum or no size")
    return frame.content_size


def staged_content(fd: int, name: str) -> Iterator[bytes]:
    """What the compressed file open at `fd` holds, in pieces of `PIECE_BYTES`, the last shorter.

    Raises:
        DamagedData: it is no complete frame, or its checksum is wrong.
        OSError: it cannot be read.
    """
    left = staged_size(fd, name)
    source = _Source(fd)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
    reader = decompressor.stream_reader(cast(IO[bytes], source))
    while left:
        wanted = min(left, PIECE_BYTES)
        try:
            piece = reader.read(wanted + (wanted == left))
        except zstandard.ZstdError as error:
            raise DamagedData(f"the archived {name}", "it cannot be decompressed") from error
        if len(piece) != wanted or source.was_exhausted:
            raise DamagedData(f"the archived {name}", "its end is missing")
        left -= wanted
        yield piece
