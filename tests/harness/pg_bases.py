"""A cluster, a store and the program between them, for tests of base backups."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.places import quick_directory
from tests.harness.postgres import Cluster, as_server_user, bin_directory, give_to_server_user
from tests.harness.program import Program

_TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname = 'public' ORDER BY 1
"""
# scale 2 of pgbench: what every balanced state of its tables has in common
BALANCE = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
   AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)
   AND (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
       = (SELECT sum(bbalance) FROM pgbench_branches)
"""


def contents(cluster: Cluster) -> dict[str, str]:
    """Every logged table of the public schema: how many rows, and a digest of all of them."""
    found = {}
    for table in cluster.sql(_TABLES).splitlines():
        found[table] = cluster.sql(
            f"SELECT count(*), md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), ''))"
            f" FROM {table} t"
        )
    return found


@dataclass(slots=True)
class Rig:
    """A running cluster with a plain WAL archive beside it, and a store."""

    cluster: Cluster
    program: Program
    archive: Path

    def backup(self, *words: str | Path, code: int = 0) -> Any:
        """Take a base backup; its JSON document."""
        base = ("pg", "backup", "--cluster", "main", "--connection", self.cluster.dsn)
        return self.program.json(*base, *words, code=code)

    def restore(self, snapshot: str, target: Path, *words: str | Path, code: int = 0) -> Any:
        return self.program.json("pg", "restore", snapshot, target, *words, code=code)

    @property
    def from_archive(self) -> tuple[str, str]:
        return "--restore-command", f"cp {self.archive}/%f %p"

    @contextmanager
    def load(self) -> Iterator[None]:
        """Pgbench at work meanwhile."""
        self.cluster.tool("psql", "-c", "SELECT 1", "postgres")  # sets the environment
        words = [str(bin_directory() / "pgbench"), "-T", "600", "-c", "2", "-n", "postgres"]
        at_work = subprocess.Popen(
            as_server_user(words),
            env=self.cluster.environment,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
            assert at_work.poll() is None
        finally:
            at_work.terminate()
            at_work.wait()

    @contextmanager
    def recovered(self, target: Path) -> Iterator[Cluster]:
        """A server on a restored directory, once it is open for writing."""
        with Cluster.of_restored(target, self.cluster.programs) as server:
            server.start()
            wait_until_open(server)
            yield server
            server.stop()


def wait_until_open(server: Cluster) -> None:
    """Until recovery has ended."""
    server.sql(
        "DO $$ BEGIN FOR i IN 1..600 LOOP EXIT WHEN NOT pg_is_in_recovery();"
        " PERFORM pg_sleep(0.05); END LOOP; END $$"
    )
    assert server.sql("SELECT pg_is_in_recovery()") == "f"


@contextmanager
def rig(
    settings: dict[str, str] | None = None, *, archives: bool = True, programs: Path | None = None
) -> Iterator[Rig]:
    """A new cluster that runs and archives, and a new store in memory."""
    with Cluster.create(programs=programs) as cluster, quick_directory() as place:
        archive = cluster.base / "archive"
        archive.mkdir()
        give_to_server_user(archive)
        more = dict(settings or {})
        if archives:
            more["archive_mode"] = "on"
            more["archive_command"] = f"'test ! -f {archive}/%f && cp %p {archive}/%f'"
        cluster.configure(more)
        cluster.start()
        program = Program(Path(place) / "home")
        store = Path(place) / "store"
        program.run("init", store)
        program.environment["HOLDFAST_STORE"] = str(store)
        yield Rig(cluster, program, archive)


def empty_place(cluster: Cluster, name: str) -> Path:
    """A directory below the cluster's base that does not exist yet, in one that does."""
    path = cluster.base / name
    shutil.rmtree(path, ignore_errors=True)
    return path
