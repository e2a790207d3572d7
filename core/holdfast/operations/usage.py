"""Measure who uses the space of a store, and remember it for those who only look.

<state directory>/usage/NAME-XXXXXXXX.json, replaced in one step; XXXXXXXX is the CRC of the store's
path. Whatever cannot be read there was never measured.
"""

import json
import os
import zlib
from dataclasses import dataclass
from typing import Any, Final

from holdfast.datastore import usage as engine
from holdfast.datastore.stats import SizeClass
from holdfast.datastore.store import Datastore
from holdfast.datastore.usage import SharedBy, Usage
from holdfast.errors import BadRequest, HoldfastError
from holdfast.host import files
from holdfast.ids import GroupId, Namespace, SnapshotId
from holdfast.jobs.journal import make_directories
from holdfast.operations.progress import Progress
from holdfast.units import MIB

_BYTES_MAX: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures, and when they were true (seconds since 1970)."""

    at_s: float
    took_s: float
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRequest:
    """Which store, and what time it is."""

    store: Datastore
    now_s: float


def measure(request: UsageRequest, progress: Progress) -> Usage:
    """Read every index and look at every chunk file (DamagedData, HoldfastError)."""
    return engine.measure(request.store, request.now_s, observer=progress)


def path_of(state_directory: str, store: Datastore) -> str:
    """Where the figures of a store are remembered."""
    number = zlib.crc32(os.fsencode(store.base))
    return os.path.join(state_directory, "usage", f"{store.name or 'store'}-{number:08x}.json")


def remember(state_directory: str, store: Datastore, measured: Measured) -> None:
    """Keep the figures in place of older ones (HoldfastError)."""
    path = path_of(state_directory, store)
    with files.explained("remembering the measurement"):
        make_directories(os.path.dirname(path))
        files.replace_file(path, [json.dumps(record_of(measured)).encode()])


def remembered(state_directory: str, store: Datastore) -> Measured | None:
    """The newest figures; None when there are none that can be read."""
    try:
        raw = files.read_file(path_of(state_directory, store), size_max=_BYTES_MAX)
        return _measured(json.loads(raw))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, HoldfastError):
        return None


def record_of(measured: Measured) -> dict[str, Any]:
    """As JSON; what `holdfast usage --json` prints."""
    usage = measured.usage
    return {
        "measured_at": measured.at_s,
        "took_s": round(measured.took_s, 3),
        "logical_bytes": usage.logical_bytes,
        "chunks": usage.chunks,
        "chunk_bytes": usage.chunk_bytes,
        "stored_bytes": usage.stored_bytes,
        "missing_chunks": usage.missing_chunks,
        "histogram": [
            {
                "upto": one.upto,
                "chunks": one.chunks,
                "bytes": one.data_bytes,
                "stored_bytes": one.stored_bytes,
            }
            for one in usage.histogram
        ],
        "shared_by": [
            {"upto": one.upto, "chunks": one.chunks, "stored_bytes": one.stored_bytes}
            for one in usage.shared_by
        ],
        "weeks": list(usage.weeks),
        "groups": [
            {"ns": str(group.ns), "group": str(group), "exclusive_bytes": size}
            for group, size in usage.groups.items()
        ],
        "snapshots": [
            {"ns": str(one.ns), "snapshot": str(one), "exclusive_bytes": size}
            for one, size in usage.snapshots.items()
        ],
    }


def _measured(record: dict[str, Any]) -> Measured:
    """What record_of wrote (ValueError, KeyError, TypeError, BadRequest)."""
    return Measured(
        float(record["measured_at"]),
        float(record["took_s"]),
        Usage(
            snapshots={
                SnapshotId.parse(one["snapshot"], Namespace.parse(one["ns"])): _count(
                    one["exclusive_bytes"]
                )
                for one in record["snapshots"]
            },
            groups={
                GroupId.parse(one["group"], Namespace.parse(one["ns"])): _count(
                    one["exclusive_bytes"]
                )
                for one in record["groups"]
            },
            histogram=tuple(
                SizeClass(
                    *(_count(one[key]) for key in ("upto", "chunks", "bytes", "stored_bytes"))
                )
                for one in record["histogram"]
            ),
            shared_by=tuple(
                SharedBy(
                    None if one["upto"] is None else _count(one["upto"]),
                    _count(one["chunks"]),
                    _count(one["stored_bytes"]),
                )
                for one in record["shared_by"]
            ),
            weeks=tuple(map(_count, record["weeks"])),
            **{
                key: _count(record[key])
                for key in (
                    *("logical_bytes", "chunks", "chunk_bytes", "stored_bytes"),
                    "missing_chunks",
                )
            },
        ),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadRequest(f"{value!r} is no count")
    return value
