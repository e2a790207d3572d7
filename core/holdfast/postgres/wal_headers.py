"""The header of a WAL segment: which cluster wrote it, and whether it is what its name says.

Little-endian; source: PostgreSQL, src/include/access/xlog_internal.h, XLogLongPageHeaderData.
     0  u16 magic, one for each major version      24  u64 system identifier
     2  u16 flags, bit 1: long header              32  u32 size of a segment
     4  u32 timeline                               36  u32 size of a WAL page
     8  u64 position of the page
    16  u32 rest of a record
The timeline may be lower than the name's: the segment in which a timeline begins starts with pages
copied from the old one.
"""

import struct
from typing import Final, NamedTuple

from holdfast.errors import Refused
from holdfast.postgres.wal_names import WalKind, WalName, format_lsn, is_segment_size

HEADER_BYTES: Final = 40
MAGIC_VERSIONS: Final = {
    0xD106: 13,
    0xD10D: 14,
    0xD110: 15,
    0xD113: 16,
    0xD116: 17,
    0xD118: 18,
}
_HEADER: Final = struct.Struct("<HHIQI4xQII")
_LONG: Final = 2


class SegmentHeader(NamedTuple):
    """The first 40 bytes of a segment.

    Attributes:
        version: the server's major version, None when the magic number is a new one.
        timeline: of the first page.
        position: LSN of the first byte.
        system_identifier: of the cluster.
        segment_bytes: size of the file.
    """

    version: int | None
    timeline: int
    position: int
    system_identifier: int
    segment_bytes: int


def parse_header(data: bytes, what: str) -> SegmentHeader:
    """Read the first bytes of a segment (Refused when they are none)."""
    if len(data) < HEADER_BYTES:
        raise Refused(f"{what} has {len(data)} bytes; that is no WAL segment")
    magic, flags, timeline, position, _rest, identifier, size, _page = _HEADER.unpack_from(data)
    if not flags & _LONG or magic >> 8 != 0xD1 or not is_segment_size(size):  # noqa: PLR2004
        raise Refused(f"{what} does not begin like a WAL segment")
    return SegmentHeader(MAGIC_VERSIONS.get(magic), timeline, position, identifier, size)


def check_segment(
    name: WalName, head: bytes, size: int, *, system_identifier: int, segment_bytes: int
) -> SegmentHeader:
    """Check a segment (or `.partial`) against its name and the cluster.

    Args:
        name: of the file.
        head: its first bytes, at least 40 of them.
        size: bytes of the whole file.
        system_identifier: of the cluster.
        segment_bytes: size of a segment of the cluster.

    Raises:
        Refused: it is damaged, belongs elsewhere, or is not what its name says.
    """
    header = parse_header(head, name.text)
    if header.system_identifier != system_identifier:
        raise Refused(
            f"{name.text} belongs to the cluster {header.system_identifier}, "
            f"this archive to {system_identifier}",
            hint="give each cluster an archive of its own",
        )
    if size != header.segment_bytes or size != segment_bytes:
        raise Refused(f"{name.text} has {size} bytes; a segment has {segment_bytes} here")
    expected = name.segment(segment_bytes) * segment_bytes
    if header.position != expected:
        at, wanted = format_lsn(header.position), format_lsn(expected)
        raise Refused(f"{name.text} begins at {at} and not at {wanted}, as its name says")
    if header.timeline > name.timeline:
        raise Refused(f"{name.text} begins with timeline {header.timeline}, later than its name")
    return header


def has_header(name: WalName) -> bool:
    """Whether the file is a segment, whole or partial, and no text."""
    return name.kind in (WalKind.SEGMENT, WalKind.PARTIAL)
