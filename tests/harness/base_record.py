"""A record of a base backup that has something in every field."""

from dataclasses import replace

from holdfast.postgres.backup_record import (
    BackupRecord,
    BaseKind,
    Decision,
    Position,
    Tablespace,
)

POSITION = Position(lsn=0x300000060, timeline=2, time="2026-01-01T00:00:00.5Z")
RECORD = BackupRecord(
    kind=BaseKind.DIFFERENTIAL,
    cluster="main",
    system_identifier="7400000000000000001",
    server_version=150018,
    catalog_version=202209061,
    control_version=1300,
    block_bytes=8192,
    segment_blocks=131072,
    wal_segment_bytes=1 << 24,
    has_checksums=True,
    has_wal_log_hints=False,
    decision=Decision.LSN,
    start=POSITION,
    stop=replace(POSITION, lsn=0x300000100),
    parent="2026-01-01T00:00:00Z",
    chain=("2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z"),
    label=b"START WAL LOCATION: \xff\n",
    tablespace_map=b"16400 /a\\\\b\n",
    tablespaces=(Tablespace(oid=16400, location="/a\\b", archive="tblspc-16400"),),
    data_directory="/data",
    config_files=("/data/postgresql.conf",),
    wal_first="000000020000000300000000",
    wal_last="000000020000000300000000",
    has_wal=True,
    timeline_history="1\t0/3000000\tno reason\n",
    counters={"files": 3},
    warnings=({"path": "base/5/1", "block": 3},),
)
