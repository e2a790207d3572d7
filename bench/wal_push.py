"""What does the server wait for when it hands a WAL segment over? Next to pgBackRest.

Corpus: segments of 16 MiB that a real server wrote during a seeded load. Each program is called once
per segment, as archive_command would, and has stored it durably when it ends; `--ready` takes all in
one call. The background sync is held back: it is not what the server waits for. pgBackRest (Debian's
`pgbackrest`) compresses with the same zstd level 1 and pushes synchronously, its default.
Usage: python -m bench.wal_push [SEGMENTS]; prints a table in Markdown.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.postgres import Cluster, as_server_user, give_to_server_user

from holdfast.postgres.control_file import read_control
from holdfast.postgres.wal_stage import ARCHIVE, StageSettings, WalStage, make_stage

LOAD = """
CREATE TABLE IF NOT EXISTS t (id bigserial PRIMARY KEY, a int, b text);
INSERT INTO t (a, b) SELECT (random() * 1e6)::int, md5(random()::text) || md5(random()::text)
FROM generate_series(1, 60000);
UPDATE t SET a = a + 1 WHERE id % 7 = 0;
"""
STANZA = "bench"
PUSH = [sys.executable, "-m", "holdfast", "wal", "push"]


@dataclass(frozen=True, slots=True)
class Push:
    """One call: seconds of wall clock and of processor."""

    wall_s: float
    cpu_s: float


def timed(command: Sequence[str | Path], environment: dict[str, str], cwd: Path) -> Push:
    began = time.perf_counter()
    child = subprocess.Popen(
        as_server_user(command), env=environment, cwd=cwd, stdout=subprocess.DEVNULL
    )
    _pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - began
    if child.returncode != 0:
        raise SystemExit(f"{command} ended with {child.returncode}")
    return Push(wall_s, usage.ru_utime + usage.ru_stime)


def segments_of(cluster: Cluster, count: int) -> list[Path]:
    """Whole segments a server wrote under load, kept out of its way."""
    cluster.sql("SELECT setseed(0.5)")
    wal = cluster.data / "pg_wal"
    while len(_segments(wal)) < count + 2:
        cluster.sql(LOAD)
    cluster.switch_wal()
    return _segments(wal)[:count]


def _segments(wal: Path) -> list[Path]:
    return sorted(path for path in wal.iterdir() if len(path.name) == 24)


def hold_sync_back(stage_path: Path) -> WalStage:
    """Be the worker, so that pushes only note what they ask for."""
    stage = WalStage.open(str(stage_path))
    owed = stage.requests.begin(ARCHIVE)
    stage.requests.publish(owed or ARCHIVE)
    return stage


def new_stage(cluster: Cluster, name: str) -> Path:
    path = cluster.base / name
    control = read_control(str(cluster.data))
    make_stage(
        str(path),
        StageSettings(
            cluster="bench",
            system_identifier=control.system_identifier,
            segment_bytes=control.wal_segment_bytes,
            data_directory=str(cluster.data),
        ),
    )
    give_to_server_user(path)
    return path


def size_of(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.rglob(pattern))


def holdfast_pushes(cluster: Cluster, segments: list[Path]) -> tuple[list[Push], int]:
    stage_path = new_stage(cluster, "stage")
    pushes = []
    with hold_sync_back(stage_path):
        for path in segments:
            words = [*PUSH, "--stage", str(stage_path)]
            relative = path.relative_to(cluster.data)
            pushes.append(timed([*words, relative], cluster.environment, cluster.data))
    return pushes, size_of(stage_path, "0*.zst")


def holdfast_ready(cluster: Cluster, segments: list[Path]) -> Push:
    """All in one call; seconds per segment."""
    stage_path = new_stage(cluster, "stage-ready")
    status = cluster.data / "pg_wal" / "archive_status"
    for path in status.iterdir():
        path.unlink()
    for path in segments:
        (status / f"{path.name}.ready").touch()
    with hold_sync_back(stage_path):
        words = [*PUSH, "--ready", "--stage", str(stage_path)]
        push = timed(
            [*words, segments[0].relative_to(cluster.data)], cluster.environment, cluster.data
        )
    return Push(push.wall_s / len(segments), push.cpu_s / len(segments))


def pgbackrest_pushes(cluster: Cluster, segments: list[Path]) -> tuple[list[Push], int] | None:
    if shutil.which("pgbackrest") is None:
        return None
    repository = cluster.base / "repository"
    config = cluster.base / "pgbackrest.conf"
    config.write_text(
        f"[global]\nrepo1-path={repository}\ncompress-type=zst\ncompress-level=1\n"
        f"log-level-file=off\nlog-level-console=error\nlock-path={cluster.base}/lock\n"
        f"spool-path={cluster.base}/spool\n"
        f"[{STANZA}]\npg1-path={cluster.data}\npg1-socket-path={cluster.base}\npg1-user=postgres\n"
    )
    words = ["pgbackrest", f"--config={config}", f"--stanza={STANZA}"]
    timed([*words, "--no-online", "stanza-create"], cluster.environment, cluster.data)
    pushes = [
        timed(
            [*words, "archive-push", path.relative_to(cluster.data)],
            cluster.environment,
            cluster.data,
        )
        for path in segments
    ]
    return pushes, size_of(repository, "0*-*.zst")


def row(name: str, pushes: Sequence[Push], stored: int, count: int) -> tuple[str, float]:
    wall_ms = 1000 * statistics.median(one.wall_s for one in pushes)
    cpu_ms = 1000 * statistics.median(one.cpu_s for one in pushes)
    spread = 1000 * (max(one.wall_s for one in pushes) - min(one.wall_s for one in pushes))
    size = f"{stored / count / 1e6:.2f}" if stored else ""
    return f"| {name} | {wall_ms:.0f} | {spread:.0f} | {cpu_ms:.0f} | {size} |", cpu_ms


def main(count: int) -> None:
    settings = {"archive_mode": "on", "archive_command": "'/bin/false'", "max_wal_size": "'4GB'"}
    with Cluster.create(segment_mib=16, settings=settings) as cluster:
        give_to_server_user(cluster.base)
        cluster.environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        cluster.start()
        segments = segments_of(cluster, count)
        cluster.stop()
        ours, our_size = holdfast_pushes(cluster, segments)
        batch = holdfast_ready(cluster, segments)
        theirs = pgbackrest_pushes(cluster, segments)
    print("| per segment of 16 MiB | wall ms | spread | CPU ms | MB stored |")
    print("|---|---:|---:|---:|---:|")
    text, our_cpu = row("holdfast wal push", ours, our_size, count)
    print(text)
    print(row("holdfast wal push --ready", [batch], 0, count)[0])
    if theirs is not None:
        text, their_cpu = row("pgbackrest archive-push", theirs[0], theirs[1], count)
        print(text)
        print(f"\nCPU, ours to pgBackRest's: {our_cpu / their_cpu:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
