"""The small text files that travel with WAL: where timelines come from, where base backups lie.

`TTTTTTTT.history`, one line per ancestor, oldest first: timeline, TAB, LSN of the switch, TAB, why.
`backup_label` and `NAME.OFFSET.backup`: lines `KEY: value`, the second with the end of the backup.
Source: PostgreSQL, src/backend/access/transam/timeline.c and xlogbackup.c; samples in the vectors.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from holdfast.errors import BadRequest, DamagedData
from holdfast.postgres.wal_names import parse_lsn

_LINE: Final = re.compile(r"\s*([0-9]{1,10})\s+([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})(?:\s.*)?")
_LOCATION: Final = re.compile(r"([0-9A-Fa-f]+/[0-9A-Fa-f]+) \(file ([0-9A-F]{24})\)")
_TIMELINE_END: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A timeline, and the LSN at which it was left for the next one."""

    timeline: int
    switch_lsn: int


def parse_history(data: bytes, what: str) -> tuple[Ancestor, ...]:
    """The ancestors a history file names, oldest first (DamagedData)."""
    ancestors: list[Ancestor] = []
    for line in data.decode("utf-8", errors="replace").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise DamagedData(what, f"a line is no ancestor: {line[:60]!r}")
        timeline = int(match[1])
        if not (ancestors[-1].timeline if ancestors else 0) < timeline < _TIMELINE_END:
            raise DamagedData(what, f"timeline {timeline} is out of order")
        ancestors.append(Ancestor(timeline, parse_lsn(match[2])))
    if not ancestors:
        raise DamagedData(what, "it names no ancestor")
    return tuple(ancestors)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupLabel:
    """What `backup_label` or a backup history file says.

    Attributes:
        start_lsn: where the WAL of the backup begins.
        start_segment: the segment that holds it.
        timeline: of the start.
        stop_lsn: where the backup is consistent; only in a backup history file.
        label: a person's word for it.
        is_incremental: of the server's own kind; not a data directory by itself.
    """

    start_lsn: int
    start_segment: str
    timeline: int
    label: str
    stop_lsn: int | None = None
    is_incremental: bool = False

    @classmethod
    def parse(cls, data: bytes, what: str = "backup_label") -> Self:
        """Read the file (DamagedData)."""
        fields: dict[str, str] = {}
        for line in data.decode("utf-8", errors="replace").splitlines():
            key, colon, value = line.partition(": ")
            if colon:
                fields.setdefault(key, value)
        start = _LOCATION.fullmatch(fields.get("START WAL LOCATION", ""))
        if start is None:
            raise DamagedData(what, "it does not say where the backup starts")
        stop = _LOCATION.fullmatch(fields.get("STOP WAL LOCATION", ""))
        try:
            return cls(
                start_lsn=parse_lsn(start[1]),
                start_segment=start[2],
                timeline=int(fields["START TIMELINE"]),
                label=fields.get("LABEL", ""),
                stop_lsn=None if stop is None else parse_lsn(stop[1]),
                is_incremental="INCREMENTAL FROM LSN" in fields,
            )
        except (KeyError, ValueError, BadRequest) as error:
            raise DamagedData(what, "it is not what a server writes") from error
