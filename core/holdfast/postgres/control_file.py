"""`global/pg_control`: which cluster a data directory is, and how it is laid out.

Little-endian, 8192 bytes; source: PostgreSQL, src/include/catalog/pg_control.h; seen on 15, 17, 18.
     0  u64 system identifier        216  u32 block size
     8  u32 control version          220  u32 blocks per relation segment
    12  u32 catalog version          224  u32 WAL block size
    16  u32 state                    228  u32 WAL segment size
    32  u64 last checkpoint          252  u32 version of data checksums, 0: none
    40  u64 its redo point           288  u32 CRC-32C of all before it (292 since 18)
    48  u32 its timeline
The server rewrites the file in place while it runs, so a reader may see half of a change: it reads
again until the checksum is right.
"""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from holdfast.errors import DamagedData
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.postgres.wal_names import is_segment_size

CONTROL_NAME: Final = "global/pg_control"
STATE_IN_PRODUCTION: Final = 6
_SIZE_MIN: Final = 512
_SIZE_MAX: Final = 64 * 1024
_CRC_PLACES: Final = (288, 292)
_HEAD: Final = struct.Struct("<QIII12xQQI")
_LAYOUT: Final = struct.Struct("<IIII")
_U32: Final = struct.Struct("<I")
_LAYOUT_AT: Final = 216
_CHECKSUMS_AT: Final = 252
_CRC_POLYNOMIAL: Final = 0x82F63B78  # CRC-32C, reflected
_TRIES: Final = 10
_PAUSE_S: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFile:
    """What `global/pg_control` says.

    Attributes:
        system_identifier: of the cluster; more than JSON numbers can carry, so text in JSON.
        control_version: such as 1300 for PostgreSQL 13 to 16.
        catalog_version: part of the name of tablespace directories.
        state: what the server was doing; 6 is "in production".
        checkpoint: LSN of the last checkpoint.
        redo: LSN where recovery from it would begin.
        timeline: of the last checkpoint.
        block_bytes: size of a page.
        segment_blocks: pages in one file of a relation.
        wal_segment_bytes: size of a WAL file.
        has_checksums: whether pages carry checksums.
    """

    system_identifier: int
    control_version: int
    catalog_version: int
    state: int
    checkpoint: int
    redo: int
    timeline: int
    block_bytes: int
    segment_blocks: int
    wal_segment_bytes: int
    has_checksums: bool

    @classmethod
    def parse(cls, data: bytes, *, what: str = CONTROL_NAME) -> Self:
        """Read the bytes of the file; DamagedData when they are none, or torn."""
        if len(data) < _SIZE_MIN:
            raise DamagedData(what, f"{len(data)} bytes are too few")
        if not any(crc32c(data[:at]) == _U32.unpack_from(data, at)[0] for at in _CRC_PLACES):
            raise DamagedData(what, "its checksum is wrong")
        identifier, version, catalog, state, checkpoint, redo, timeline = _HEAD.unpack_from(data)
        block, segment_blocks, _wal_block, wal_segment = _LAYOUT.unpack_from(data, _LAYOUT_AT)
        if not is_segment_size(wal_segment):
            raise DamagedData(what, f"{wal_segment} bytes are no size of a WAL segment")
        if not 1024 <= block <= 32768 or block.bit_count() != 1 or not segment_blocks:  # noqa: PLR2004
            raise DamagedData(what, f"blocks of {block} bytes, {segment_blocks} in a file")
        return cls(
            system_identifier=identifier,
            control_version=version,
            catalog_version=catalog,
            state=state,
            checkpoint=checkpoint,
            redo=redo,
            timeline=timeline,
            block_bytes=block,
            segment_blocks=segment_blocks,
            wal_segment_bytes=wal_segment,
            has_checksums=_U32.unpack_from(data, _CHECKSUMS_AT)[0] != 0,
        )


def read_control_bytes(data_directory: str, *, clock: Clock = SYSTEM_CLOCK) -> bytes:
    """The file of a cluster, whole and consistent even while its server runs.

    Raises:
        DamagedData: its checksum stayed wrong.
        OSError: it cannot be read.
    """
    path = os.path.join(data_directory, CONTROL_NAME)
    for _attempt in range(_TRIES - 1):
        data = files.read_file(path, size_max=_SIZE_MAX)
        with suppress(DamagedData):
            ControlFile.parse(data, what=path)
            return data
        clock.wait(_PAUSE_S)
    data = files.read_file(path, size_max=_SIZE_MAX)
    ControlFile.parse(data, what=path)
    return data


def read_control(data_directory: str, *, clock: Clock = SYSTEM_CLOCK) -> ControlFile:
    """What the cluster's control file says (DamagedData, OSError)."""
    return ControlFile.parse(read_control_bytes(data_directory, clock=clock))


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of a few hundred bytes; plain, since only control files need it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _bit in range(8):
            crc = crc >> 1 ^ (_CRC_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
