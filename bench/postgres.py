"""Question: what do base backups of PostgreSQL cost, next to pgBackRest and pg_basebackup?

    python -m bench.postgres [--scale N] [--runs N] [--json FILE]

One pgbench cluster on a unix socket (scale 100 is about 1.5 GiB), checksums on, archiving on. For
each tool: a full backup, a differential after one percent of the accounts (and so of the blocks) was
updated, and a restore of full and differential into an empty directory. pg_basebackup of this
version knows no differential; its restore is the unpacking of its tar. All compress with zstd level
1 and use two processes or threads. CPU is that of the tool alone; pg_basebackup leaves reading to
the server, which is not counted. Wants Debian's postgresql and pgbackrest. Prints a Markdown table.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.harness.postgres import (
    Cluster,
    as_server_user,
    bin_directory,
    give_to_server_user,
)

from bench import measure

ROOT: Final = Path(__file__).resolve().parents[1]
_MIB: Final = 1 << 20
_STEPS: Final = ("full", "differential 1 %", "restore")


@dataclass(frozen=True, slots=True)
class Row:
    """One step of one tool, medians over the runs."""

    tool: str
    step: str
    wall_s: float
    cpu_s: float
    rss_bytes: int
    stored_bytes: int


class Rig:
    """The cluster and a place for repositories."""

    def __init__(self, cluster: Cluster, work: Path) -> None:
        self.cluster = cluster
        self.work = work
        self.environment = {
            **cluster.environment,
            "PYTHONPATH": str(ROOT / "core"),
            "HOME": str(work),
            "HOLDFAST_CONFIG": str(work / "none.toml"),
            "HOLDFAST_STATE_DIR": str(work / "state"),
            "HOLDFAST_STORE": str(work / "store"),
        }

    def run(self, words: Sequence[str | Path]) -> measure.Run:
        return measure.run(as_server_user([*words]), env=self.environment, cwd=Path("/"))

    def change(self) -> None:
        """Update one percent of the accounts, which lie together, and let the pages be written."""
        self.cluster.sql(
            "UPDATE pgbench_accounts SET abalance = abalance + 1"
            " WHERE aid <= (SELECT max(aid) / 100 FROM pgbench_accounts); CHECKPOINT"
        )

    def new(self, name: str) -> Path:
        """An empty directory of the server's user."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        give_to_server_user(path)
        return path


class Holdfast:
    name = "holdfast"

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def _run(self, *words: str | Path) -> measure.Run:
        return self._rig.run([sys.executable, "-m", "holdfast", "-q", *words])

    def prepare(self) -> None:
        shutil.rmtree(self._rig.work / "store", ignore_errors=True)
        (self._rig.work / "none.toml").unlink(missing_ok=True)
        self._run("init", self._rig.work / "store")

    def backup(self, kind: str) -> measure.Run:
        connection = ("--connection", self._rig.cluster.dsn)
        return self._run("pg", "backup", "--cluster", "bench", *connection, f"--{kind}")

    def restore(self) -> measure.Run:
        target = self._rig.new("restored")
        return self._run("pg", "restore", "host/bench", target, "--no-recovery")

    def repository(self) -> Path:
        return self._rig.work / "store"


class PgBackRest:
    name = "pgbackrest"

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._config = rig.work / "pgbackrest.conf"
        cluster, place = rig.cluster, rig.work
        self._config.write_text(
            f"""[global]
repo1-path={place}/pgbackrest-repository
log-path={place}
lock-path={place}
spool-path={place}
compress-type=zst
compress-level=1
process-max=2
start-fast=y
log-level-console=error
log-level-file=off
[bench]
pg1-path={cluster.data}
pg1-socket-path={cluster.socket_directory}
pg1-user=postgres
"""
        )

    def _run(self, *words: str | Path) -> measure.Run:
        base = ["pgbackrest", f"--config={self._config}", "--stanza=bench"]
        return self._rig.run([*base, *words])

    def prepare(self) -> None:
        self._rig.new("pgbackrest-repository")
        self._run("stanza-create")

    def archive_command(self) -> str:
        return f"pgbackrest --config={self._config} --stanza=bench archive-push %p"

    def backup(self, kind: str) -> measure.Run:
        short = {"full": "full", "differential": "diff"}[kind]
        return self._run("backup", f"--type={short}")

    def restore(self) -> measure.Run:
        target = self._rig.new("restored")
        return self._run("restore", f"--pg1-path={target}", "--type=immediate")

    def repository(self) -> Path:
        return self._rig.work / "pgbackrest-repository" / "backup"


class PgBasebackup:
    name = "pg_basebackup"

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def prepare(self) -> None:
        shutil.rmtree(self.repository(), ignore_errors=True)

    def backup(self, kind: str) -> measure.Run | None:
        if kind != "full":
            return None
        shutil.rmtree(self.repository(), ignore_errors=True)
        program = bin_directory() / "pg_basebackup"
        where = ["-h", str(self._rig.cluster.socket_directory), "-U", "postgres"]
        form = ["-D", str(self.repository()), "-Ft", "-Z", "client-zstd:level=1"]
        return self._rig.run([program, *where, *form, "-X", "fetch", "-c", "fast"])

    def restore(self) -> measure.Run:
        target = self._rig.new("restored")
        tar = self.repository() / "base.tar.zst"
        return self._rig.run(["tar", "--zstd", "-xf", tar, "-C", target])

    def repository(self) -> Path:
        return self._rig.work / "basebackup"


Tool = Holdfast | PgBackRest | PgBasebackup


def taken(path: Path) -> int:
    """Bytes that a directory takes on the disk."""
    done = subprocess.run(
        ["du", "-s", "--block-size=1", str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[0])


def one_round(rig: Rig, tool: Tool) -> list[Row]:
    """A full backup, a change, a differential, a restore."""
    rows = []
    tool.prepare()
    before = taken(tool.repository()) if tool.repository().exists() else 0
    for step, kind in zip(_STEPS, ("full", "differential", ""), strict=True):
        if kind == "differential":
            rig.change()
        os.sync()
        done = tool.backup(kind) if kind else tool.restore()
        if done is None:
            continue
        after = taken(tool.repository())
        rows.append(Row(tool.name, step, done.wall_s, done.cpu_s, done.rss_bytes, after - before))
        before = after
    return rows


def median(rows: list[Row]) -> Row:
    first = rows[0]
    return Row(
        first.tool,
        first.step,
        statistics.median(row.wall_s for row in rows),
        statistics.median(row.cpu_s for row in rows),
        max(row.rss_bytes for row in rows),
        int(statistics.median(row.stored_bytes for row in rows)),
    )


def table(rows: list[Row], size: int) -> str:
    """Markdown; ratios are to holdfast's time for the same step."""
    ours = {row.step: row.wall_s for row in rows if row.tool == Holdfast.name}
    lines = [
        f"A cluster of {size / _MIB:.0f} MiB.",
        "",
        "| step | tool | time | ratio | CPU | memory | stored |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in _STEPS:
        for row in (row for row in rows if row.step == step):
            stored = f"{row.stored_bytes / _MIB:.1f} MiB" if step != "restore" else ""
            ratio = row.wall_s / ours[step]
            lines.append(
                f"| {step} | {row.tool} | {row.wall_s:.2f} s | {ratio:.2f} | {row.cpu_s:.2f} s"
                f" | {row.rss_bytes / _MIB:.0f} MiB | {stored} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", type=int, default=100, help="of pgbench")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tools", default="holdfast,pgbackrest,pg_basebackup")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="hfpgbench-", dir="/tmp"))  # a short path
    give_to_server_user(work)
    settings = {"max_wal_size": "4GB", "shared_buffers": "256MB"}
    try:
        with Cluster.create(segment_mib=16, settings=settings) as cluster:
            rig = Rig(cluster, work)
            backrest = PgBackRest(rig)
            command = backrest.archive_command() if "pgbackrest" in args.tools else "/bin/true"
            cluster.configure({"archive_mode": "on", "archive_command": f"'{command}'"})
            cluster.start()
            cluster.tool("pgbench", "-iq", "-s", str(args.scale), "postgres")
            cluster.sql("VACUUM ANALYZE; CHECKPOINT")
            tools: dict[str, Tool] = {
                tool.name: tool for tool in (Holdfast(rig), backrest, PgBasebackup(rig))
            }
            found: dict[tuple[str, str], list[Row]] = {}
            for _run in range(args.runs):
                for name in args.tools.split(","):
                    for row in one_round(rig, tools[name]):
                        found.setdefault((row.tool, row.step), []).append(row)
            rows = [median(each) for each in found.values()]
            size = int(cluster.sql("SELECT sum(pg_database_size(oid)) FROM pg_database"))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sys.stdout.write(table(rows, size) + "\n")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
