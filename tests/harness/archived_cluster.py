"""A real cluster that archives into a real store through the real program."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.places import quick_directory
from tests.harness.postgres import Cluster, as_server_user, give_to_server_user
from tests.harness.program import Program, Result


@dataclass(slots=True)
class ArchivedCluster:
    """A cluster, the program as its user would run it, and where things are.

    Attributes:
        cluster: the server.
        program: runs `holdfast`; as root here, which may read all.
        stage: the WAL stage.
        store: of the backups.
    """

    cluster: Cluster
    program: Program
    stage: Path
    store: Path

    def holdfast(self, *words: str | Path, code: int | None = 0) -> Result:
        """`holdfast WORDS` as the server's user, with the stage in its environment."""
        done = subprocess.run(
            as_server_user([sys.executable, "-m", "holdfast", *words]),
            env=self.cluster.environment,
            cwd=self.cluster.base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=240,
        )
        result = Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
        assert code is None or result.code == code, (words, result, self.log())
        return result

    def settings(self, **changes: Any) -> None:
        """Change what the stage's `archive.json` says."""
        path = self.stage / "archive.json"
        fields = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps(fields))

    def log(self) -> str:
        """What the background sync said."""
        path = self.stage / "sync.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def archive_everything(self) -> None:
        """Hand the current segment over and wait until the archiver has done so."""
        last = self.cluster.switch_wal()
        self.wait_for(f"SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver")

    def wait_for(self, condition: str) -> None:
        """Wait until an SQL condition is true."""
        deadline = time.monotonic() + 60
        while self.cluster.sql(condition) != "t":
            assert time.monotonic() < deadline, (condition, self.cluster.log.read_text()[-2000:])
            threading.Event().wait(0.05)

    def wait_for_file(self, pattern: str) -> None:
        """Wait until the stage has a file like that."""
        deadline = time.monotonic() + 60
        while not list(self.stage.glob(pattern)):
            assert time.monotonic() < deadline, (pattern, self.log())
            threading.Event().wait(0.05)


@contextmanager
def archived_cluster(
    *, settings: Mapping[str, str] | None = None, sync_level: str = "file"
) -> Iterator[ArchivedCluster]:
    """A started cluster with an empty store and `wal push` as its archive_command."""
    with Cluster.create(settings=settings) as cluster, quick_directory() as memory:
        give_to_server_user(Path(memory))
        program = Program(cluster.base / "home")
        give_to_server_user(program.home)
        stage, store = cluster.base / "stage", Path(memory) / "store"
        cluster.environment.update(program.environment)
        cluster.environment["HOLDFAST_WAL_STAGE"] = str(stage)
        archived = ArchivedCluster(cluster, program, stage, store)
        archived.holdfast("init", store, "--name", "main")
        config = program.home / "config.toml"
        config.write_text(config.read_text() + f'sync-level = "{sync_level}"\n')
        archived.holdfast("wal", "init", "pg-main", "--data", cluster.data)
        command = f"{sys.executable} -m holdfast wal push --stage {stage} %p"
        cluster.configure({"archive_mode": "on", "archive_command": f"'{command}'"})
        cluster.start()
        try:
            yield archived
        finally:
            cluster.stop()
            with suppress(AssertionError):
                archived.holdfast("wal", "wait", "20", code=None)
