"""`pg.json`: what a base backup is, where in the WAL it lies, and what it builds on.

Positions are written `X/Y` as the server writes them and compared as numbers; times are RFC 3339 in
UTC; the system identifier is text because it exceeds what JSON readers keep exact. A short copy
goes to `unprotected.pg` of the manifest, so that lists need not open blobs.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from holdfast.errors import BadRequest, DamagedData
from holdfast.postgres.wal_names import format_lsn, parse_lsn

RECORD_BLOB: Final = "pg.json.blob"
CONTROL_BLOB: Final = "pg_control.blob"
FILE_LIST: Final = "filelist.didx"
BLOCK_MAP: Final = "blockmap.didx"
UNPROTECTED_KEY: Final = "pg"
FORMAT: Final = 1
_WHAT: Final = "the record of a base backup"


class BaseKind(StrEnum):
    FULL = "full"
    DIFFERENTIAL = "differential"
    NATIVE = "native"


class Decision(StrEnum):
    """How a differential tells which blocks changed; SUMMARY: the server did, by WAL summaries."""

    DIGEST = "digest"
    LSN = "lsn"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the WAL and when it was passed."""

    lsn: int
    timeline: int
    time: str

    def to_json(self) -> dict[str, Any]:
        return {"lsn": format_lsn(self.lsn), "tli": self.timeline, "time": self.time}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read one (KeyError, TypeError, ValueError, BadRequest)."""
        return cls(lsn=parse_lsn(value["lsn"]), timeline=int(value["tli"]), time=str(value["time"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tablespace:
    """A tablespace, its directory on the server and the archive that holds it."""

    oid: int
    location: str
    archive: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRecord:
    """A base backup.

    Attributes:
        cluster: its name, the id of the group.
        system_identifier: text.
        server_version: such as 150018.
        decision: of a differential; DIGEST also for a full one.
        parent: snapshot it is relative to, None for a full one.
        chain: snapshots from the full one to the parent.
        label: the bytes of `backup_label`.
        tablespace_map: those of `tablespace_map`, empty without tablespaces.
        wal_first, wal_last: names of the segments without which it is worth nothing.
        has_wal: whether they are in the snapshot.
        timeline_history: of the timeline it started on, None for the first.
        method: "lowlevel" (read where it lies), "stream" or "native".
        counters: files, bytes, blocks, sent_blocks, changed_files.
        warnings: pages whose checksum was wrong, {path, block, stored, computed}.
    """

    kind: BaseKind
    cluster: str
    system_identifier: str
    server_version: int
    catalog_version: int
    control_version: int
    block_bytes: int
    segment_blocks: int
    wal_segment_bytes: int
    has_checksums: bool
    has_wal_log_hints: bool
    decision: Decision
    start: Position
    stop: Position
    parent: str | None
    chain: tuple[str, ...]
    label: bytes
    tablespace_map: bytes
    tablespaces: tuple[Tablespace, ...]
    data_directory: str
    config_files: tuple[str, ...]
    wal_first: str
    wal_last: str
    has_wal: bool
    timeline_history: str | None = None
    method: str = "lowlevel"
    counters: Mapping[str, int] = field(default_factory=dict, hash=False)
    warnings: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    @property
    def major(self) -> int:
        return self.server_version // 10_000

    def encode(self) -> bytes:
        value = {
            "format": FORMAT,
            "kind": self.kind.value,
            "cluster": self.cluster,
            "system_identifier": self.system_identifier,
            "server_version_num": self.server_version,
            "catalog_version": self.catalog_version,
            "pg_control_version": self.control_version,
            "block_size": self.block_bytes,
            "relseg_blocks": self.segment_blocks,
            "wal_segment_size": self.wal_segment_bytes,
            "data_checksums": self.has_checksums,
            "wal_log_hints": self.has_wal_log_hints,
            "method": self.method,
            "decision": self.decision.value,
            "start": self.start.to_json(),
            "stop": self.stop.to_json(),
            "parent": self.parent,
            "chain": list(self.chain),
            "backup_label": base64.b64encode(self.label).decode(),
            "tablespace_map": base64.b64encode(self.tablespace_map).decode(),
            "tablespaces": [
                {"oid": space.oid, "location": space.location, "archive": space.archive}
                for space in self.tablespaces
            ],
            "data_directory": self.data_directory,
            "config_files": list(self.config_files),
            "wal_required": {"first": self.wal_first, "last": self.wal_last},
            "wal_included": self.has_wal,
            "timeline_history": self.timeline_history,
            "counters": dict(self.counters),
            "warnings": [dict(warning) for warning in self.warnings],
        }
        return json.dumps(value, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read `pg.json` (DamagedData)."""
        try:
            value = json.loads(data)
            if value["format"] != FORMAT:
                raise DamagedData(_WHAT, f"format {value['format']} is newer than this program")
            return cls._of(value)
        except (KeyError, TypeError, ValueError, AttributeError, BadRequest) as error:
            raise DamagedData(_WHAT, f"it does not read as one ({error})") from error

    @classmethod
    def _of(cls, value: Any) -> Self:
        history = value["timeline_history"]
        return cls(
            kind=BaseKind(value["kind"]),
            cluster=str(value["cluster"]),
            system_identifier=str(int(value["system_identifier"])),
            server_version=int(value["server_version_num"]),
            catalog_version=int(value["catalog_version"]),
            control_version=int(value["pg_control_version"]),
            block_bytes=int(value["block_size"]),
            segment_blocks=int(value["relseg_blocks"]),
            wal_segment_bytes=int(value["wal_segment_size"]),
            has_checksums=bool(value["data_checksums"]),
            has_wal_log_hints=bool(value["wal_log_hints"]),
            decision=Decision(value["decision"]),
            start=Position.from_json(value["start"]),
            stop=Position.from_json(value["stop"]),
            parent=None if value["parent"] is None else str(value["parent"]),
            chain=tuple(map(str, value["chain"])),
            label=base64.b64decode(value["backup_label"], validate=True),
            tablespace_map=base64.b64decode(value["tablespace_map"], validate=True),
            tablespaces=tuple(
                Tablespace(
                    oid=int(space["oid"]),
                    location=str(space["location"]),
                    archive=str(space["archive"]),
                )
                for space in value["tablespaces"]
            ),
            data_directory=str(value["data_directory"]),
            config_files=tuple(map(str, value["config_files"])),
            wal_first=str(value["wal_required"]["first"]),
            wal_last=str(value["wal_required"]["last"]),
            has_wal=bool(value["wal_included"]),
            timeline_history=None if history is None else str(history),
            method=str(value["method"]),
            counters={str(name): int(count) for name, count in value["counters"].items()},
            warnings=tuple(dict(warning) for warning in value["warnings"]),
        )

    def summary(self) -> dict[str, Any]:
        """What lists show; other snapshots by their whole names."""

        def whole(name: str) -> str:
            return f"host/{self.cluster}/{name}"

        return {
            "kind": self.kind.value,
            "system_identifier": self.system_identifier,
            "server_version_num": self.server_version,
            "start": self.start.to_json(),
            "stop": self.stop.to_json(),
            "parent": None if self.parent is None else whole(self.parent),
            "chain": [whole(name) for name in self.chain],
            "wal_required": {"first": self.wal_first, "last": self.wal_last},
            "wal_included": self.has_wal,
        }
