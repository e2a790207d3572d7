"""What a restored server has to be told: where recovery ends, and where its WAL comes from.

Settings go into `postgresql.auto.conf`; lines of an earlier recovery are taken out, since two
targets at once are an error and an old `primary_conninfo` would follow an old primary. Source:
PostgreSQL manual, Recovery Target and Archive Recovery.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from holdfast.errors import BadRequest
from holdfast.postgres.wal_names import parse_lsn

SIGNAL_NAME: Final = "recovery.signal"
LABEL_NAME: Final = "backup_label"
MAP_NAME: Final = "tablespace_map"
AUTO_CONF_NAME: Final = "postgresql.auto.conf"
NO_ARCHIVE: Final = "/bin/false"  # as restore_command: nothing is archived, use what is in pg_wal
_XID_MAX: Final = 1 << 32
_TAKEN_OUT: Final = re.compile(
    rb"^[ \t]*(?:recovery_target\w*|restore_command|primary_conninfo|primary_slot_name"
    rb"|recovery_end_command|archive_cleanup_command|recovery_min_apply_delay)[ \t]*[= \t].*$\n?",
    re.MULTILINE | re.IGNORECASE,
)
_MARKED: Final = re.compile(rb"^# holdfast: begin\n.*?^# holdfast: end\n", re.MULTILINE | re.DOTALL)


class TargetKind(StrEnum):
    """Where recovery ends; the setting of the server that says so."""

    END = "end"
    TIME = "recovery_target_time"
    LSN = "recovery_target_lsn"
    XID = "recovery_target_xid"
    NAME = "recovery_target_name"
    IMMEDIATE = "recovery_target"


class Action(StrEnum):
    """What a server does at the target."""

    PAUSE = "pause"
    PROMOTE = "promote"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """Where recovery ends.

    Attributes:
        value: for the setting; empty for the end of the WAL.
        time: of a TIME target.
    """

    kind: TargetKind = TargetKind.END
    value: str = ""
    time: datetime | None = None

    @classmethod
    def at_time(cls, text: str) -> "RecoveryTarget":
        """A moment in RFC 3339 or ISO 8601; without an offset it is local time (BadRequest)."""
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise BadRequest(
                f"{text!r} is no moment", hint="write 2026-01-31T14:05:00+01:00"
            ) from None
        moment = moment.astimezone(UTC)
        return cls(TargetKind.TIME, moment.strftime("%Y-%m-%d %H:%M:%S.%f+00"), moment)

    @classmethod
    def at_lsn(cls, text: str) -> "RecoveryTarget":
        """An LSN such as 0/3000060 (BadRequest)."""
        parse_lsn(text)
        return cls(TargetKind.LSN, text)

    @classmethod
    def at_xid(cls, text: str) -> "RecoveryTarget":
        """The commit of a transaction (BadRequest)."""
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < _XID_MAX:
            raise BadRequest(f"{text!r} is no transaction number")
        return cls(TargetKind.XID, text)

    @classmethod
    def at_name(cls, text: str) -> "RecoveryTarget":
        """A restore point made with pg_create_restore_point (BadRequest)."""
        if not text or "\n" in text or "\0" in text:
            raise BadRequest("a restore point has a name of one line")
        return cls(TargetKind.NAME, text)

    @classmethod
    def immediate(cls) -> "RecoveryTarget":
        """As soon as the cluster is consistent."""
        return cls(TargetKind.IMMEDIATE, "immediate")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySettings:
    """What goes into postgresql.auto.conf.

    Attributes:
        restore_command: gets WAL, `%f` being its name and `%p` where to put it.
        action: at the target; nothing is said when there is no target.
        timeline: `latest`, `current` or a number.
        archives: False keeps the restored server from archiving into the archive it came from.
    """

    restore_command: str = NO_ARCHIVE
    target: RecoveryTarget = RecoveryTarget()
    action: Action = Action.PAUSE
    timeline: str = "latest"
    archives: bool = False

    def settings(self) -> dict[str, str]:
        """Names and values, in order."""
        found = {
            "restore_command": self.restore_command,
            "recovery_target_timeline": self.timeline,
        }
        if self.target.kind is not TargetKind.END:
            found[self.target.kind.value] = self.target.value
            found["recovery_target_action"] = self.action.value
        if not self.archives:
            found["archive_mode"] = "off"
        return found


def check_timeline(text: str) -> str:
    """`latest`, `current` or a positive number (BadRequest)."""
    if text in ("latest", "current") or (text.isascii() and text.isdigit() and int(text) > 0):
        return text
    raise BadRequest(f"{text!r} is no timeline", hint="use latest, current or a number")


def auto_conf(before: bytes, settings: Mapping[str, str]) -> bytes:
    """The text of postgresql.auto.conf with our block at its end in place of earlier settings."""
    kept = _TAKEN_OUT.sub(b"", _MARKED.sub(b"", before))
    if kept and not kept.endswith(b"\n"):
        kept += b"\n"
    lines = ["# holdfast: begin"]
    for name, value in settings.items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    lines.append("# holdfast: end")
    return kept + "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n"


def map_of(spaces: Mapping[int, str]) -> bytes:
    """The bytes of `tablespace_map`: where the server is to link its tablespaces to."""
    lines = []
    for oid, path in sorted(spaces.items()):
        escaped = "".join("\\" + char if char in "\n\r\\" else char for char in path)
        lines.append(f"{oid} {escaped}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
