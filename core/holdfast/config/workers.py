"""The `[workers]` table: how much of the machine long work may take.

[workers]
per-host = 8                       # tasks at once; the rest queue
per-store = 4
nice = 10
io-class = "idle"                  # normal, low or idle
read-bytes-per-second = "200 MiB"  # all tasks together
write-bytes-per-second = "50 MiB"
"""

import re
from dataclasses import dataclass
from typing import Final

from holdfast.config.toml_source import Section
from holdfast.errors import BadRequest
from holdfast.host.priority import IoClass
from holdfast.units import GIB, KIB, MIB, TIB

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}

_PER_HOST: Final = 8
_PER_STORE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Limits for all tasks of a host; None is no limit."""

    per_host: int = _PER_HOST
    per_store: int = _PER_STORE
    nice: int = 0
    io_class: IoClass = IoClass.NORMAL
    read_bytes_per_second: int | None = None
    write_bytes_per_second: int | None = None

    @classmethod
    def parse(cls, section: Section) -> "WorkerSettings":
        """Read the table (BadRequest with file and line)."""
        settings = cls(
            per_host=section.integer("per-host", low=1, high=1000) or _PER_HOST,
            per_store=section.integer("per-store", low=1, high=1000) or _PER_STORE,
            nice=section.integer("nice", high=19) or 0,
            io_class=section.choice("io-class", IoClass, default=IoClass.NORMAL),
            read_bytes_per_second=_rate(section, "read-bytes-per-second"),
            write_bytes_per_second=_rate(section, "write-bytes-per-second"),
        )
        section.refuse_unknown()
        return settings


def parse_size(text: str) -> int:
    """Bytes in `512 KiB`, `50M` or `1000`; K, M, G, T are powers of 1024 (BadRequest)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{text!r} is no size", hint="write it like 50 MiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _rate(section: Section, key: str) -> int | None:
    if not section.has(key):
        return None
    value = section.values[key]
    if isinstance(value, int) and not isinstance(value, bool):
        return section.integer(key, low=KIB)
    text = section.text(key) or ""
    try:
        rate = parse_size(text)
    except BadRequest as error:
        section.complain(key, error.message, hint=error.hint)
    if rate < KIB:
        section.complain(key, f"{key} = {text!r} is less than 1 KiB per second")
    return rate
