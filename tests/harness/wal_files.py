"""WAL files without a server: a real header and random content, and stages to put them into."""

import random
import struct
from pathlib import Path
from typing import Final

from holdfast.postgres.wal_names import segment_name
from holdfast.postgres.wal_stage import StageSettings, WalStage, make_stage
from holdfast.units import MIB

SEGMENT: Final = 1 * MIB
CLUSTER_ID: Final = 7710505278612161669
_HEADER: Final = struct.Struct("<HHIQI4xQII")


def segment_bytes(
    number: int,
    *,
    timeline: int = 1,
    seed: int = 0,
    cluster: int = CLUSTER_ID,
    size: int = SEGMENT,
    random_bytes: int = 20_000,
) -> bytes:
    """Segment `number` as a server of version 15 would write it, its records made up."""
    header = _HEADER.pack(0xD110, 2, timeline, number * size, 0, cluster, size, 8192)
    content = random.Random(f"{number} {timeline} {seed}").randbytes(random_bytes)
    return (header + content).ljust(size, b"\0")


def write_segment(directory: Path, number: int, *, timeline: int = 1, seed: int = 0) -> Path:
    """The segment as a file in `directory`, under its name."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / segment_name(timeline, number, SEGMENT)
    path.write_bytes(segment_bytes(number, timeline=timeline, seed=seed))
    return path


def new_stage(path: Path, **settings: object) -> WalStage:
    """A stage for segments of 1 MiB; by default it has no store."""
    fields = {
        "cluster": "pg-main",
        "system_identifier": CLUSTER_ID,
        "segment_bytes": SEGMENT,
        "data_directory": "/srv/pg",
        **settings,
    }
    make_stage(str(path), StageSettings(**fields))  # type: ignore[arg-type]
    return WalStage.open(str(path))
