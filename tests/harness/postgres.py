"""A real PostgreSQL cluster on a unix socket, thrown away afterwards.

PostgreSQL refuses to run as root. A normal user's tests run it as themselves; root's tests run it
as `postgres` (or `nobody`), which keeps one capability so that it reaches the interpreter and this
source wherever they lie. All of it lives in a short directory of its own below /tmp: the path of a
unix socket has at most 107 bytes, and pytest's directories are closed to other users.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

SETTINGS: Final = {
    "listen_addresses": "''",
    "fsync": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_wal_senders": "4",
    "wal_level": "replica",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
WAIT_S: Final = 60
NEWER: Final = "/var/cache/holdfast-postgres17"
_KEPT: Final = "+dac_override"


def bin_directory() -> Path:
    """Where the newest installed server's programs are (AssertionError when there are none)."""
    named = os.environ.get("HOLDFAST_TEST_PG_BIN")
    if named:
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_major)
    on_path = shutil.which("postgres")
    assert found or on_path, "these tests need a PostgreSQL server: apt-get install postgresql"
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


def server_from_npm(major: int) -> Path:
    """Programs of a newer server than distributions have, which `.ci/run` fetches; skips without.

    initdb and postgres only: psql and the like come from `bin_directory`.
    """
    place = Path(os.environ.get("HOLDFAST_TEST_PG_NEWER", NEWER)) / str(major)
    if not (place / "complete").exists():
        pytest.skip(f"NO POSTGRESQL {major} IN {place}: .ci/run fetches it where npm is installed")
    return place / "native" / "bin"


def _major(program: Path) -> int:
    return int(program.parts[-3]) if program.parts[-3].isdigit() else 0


def server_user() -> pwd.struct_passwd:
    """Who runs servers: this user, or an ordinary one in place of root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def as_server_user(command: Sequence[str | Path]) -> list[str]:
    """The command line that runs `command` as the server's user."""
    words = [str(word) for word in command]
    if os.geteuid() != 0:
        return words
    user = server_user()
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, f"--inh-caps={_KEPT}", f"--ambient-caps={_KEPT}", "--", *words]


def give_to_server_user(path: Path) -> None:
    """Let the server's user own `path` and all below it."""
    if os.geteuid() != 0:
        return
    user = server_user()
    for directory, _names, others in os.walk(path):
        for name in (directory, *(os.path.join(directory, other) for other in others)):
            os.chown(name, user.pw_uid, user.pw_gid, follow_symlinks=False)


def short_directory() -> Path:
    """A new directory below /tmp that belongs to the server's user; the caller removes it."""
    path = Path(tempfile.mkdtemp(prefix="hfpg-", dir="/tmp"))
    give_to_server_user(path)
    return path


class Cluster:
    """One cluster: its data directory, and the server while it runs.

    Attributes:
        base: a directory of the server's user; free for the test's own things.
        data: the data directory.
        socket_directory: for `host=`; the port is the usual one.
        environment: of the server and of the commands it starts.
        programs: where its server's programs are.
    """

    def __init__(self, base: Path, data: Path, programs: Path | None = None) -> None:
        self.programs = programs or bin_directory()
        self.base = base
        self.data = data
        self.socket_directory = base
        self.environment: dict[str, str] = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        self.server: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(
        cls,
        *,
        segment_mib: int = 1,
        checksums: bool = True,
        settings: Mapping[str, str] | None = None,
        initdb: Sequence[str] = (),
        programs: Path | None = None,
    ) -> Self:
        """A new cluster, not started; `settings` go into its postgresql.conf as they are."""
        base = short_directory()
        cluster = cls(base, base / "data", programs)
        cluster.run(
            cluster.programs / "initdb",
            *("-D", cluster.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"),
            *("--no-sync", f"--wal-segsize={segment_mib}"),
            *(["--data-checksums"] if checksums else []),
            *initdb,
        )
        cluster.configure({**SETTINGS, **(settings or {})})
        return cluster

    @classmethod
    def of_restored(cls, data: Path, programs: Path | None = None) -> Self:
        """A server for the data directory `data`, in a base of its own (data may lie anywhere)."""
        give_to_server_user(data)
        return cls(short_directory(), data, programs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.base, ignore_errors=True)

    # The server -----------------------------------------------------------------------------------

    def configure(self, settings: Mapping[str, str]) -> None:
        """Append lines to postgresql.conf; values are written as given, quotes included."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    @property
    def log(self) -> Path:
        return self.base / "server.log"

    def start(self, *, ready: bool = True) -> Self:
        """Start the server and wait until it accepts connections (or just let it begin)."""
        assert self.server is None, "it runs already"
        options = ("-D", self.data, "-k", self.socket_directory)
        command: list[str | Path] = [self.programs / "postgres", *options]
        with self.log.open("ab") as log:
            self.server = subprocess.Popen(
                as_server_user(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd="/",
            )
        if ready:
            self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self._is_ready():
            assert self.server is not None
            code = self.server.poll()
            assert code is None, (code, self.log.read_text(errors="replace")[-3000:])
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-3000:]
            threading.Event().wait(0.02)

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        mine = self.server is not None and lines[:1] == [str(self.server.pid)]
        return mine and len(lines) > 7 and lines[7].strip() == "ready"

    def wait_for_end(self) -> int:
        """The exit code of a server that ends by itself."""
        assert self.server is not None
        code = self.server.wait(WAIT_S)
        self.server = None
        return code

    def stop(self, number: int = signal.SIGINT) -> None:
        """End in good order (SIGINT: clients are sent away, a checkpoint is written)."""
        if self.server is None:
            return
        self.server.send_signal(number)
        self.wait_for_end()

    def kill(self) -> None:
        """Send kill -9 to the server; its helpers end by themselves, and are waited for."""
        if self.server is None:
            return
        pids = self._helpers()
        self.server.kill()
        self.wait_for_end()
        deadline = time.monotonic() + WAIT_S
        while any(_is_alive(pid) for pid in pids) and time.monotonic() < deadline:
            threading.Event().wait(0.01)

    def _helpers(self) -> list[int]:
        assert self.server is not None
        try:
            text = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children").read_text()
        except OSError:
            return []
        return [int(word) for word in text.split()]

    # Talking to it --------------------------------------------------------------------------------

    @property
    def dsn(self) -> str:
        """For libpq."""
        return f"host={self.socket_directory} user=postgres dbname=postgres"

    def sql(self, text: str, *, database: str = "postgres") -> str:
        """What psql prints for `text`, unaligned and without headings; fails on any error."""
        command = [str(bin_directory() / "psql"), "-h", str(self.socket_directory)]
        flags = ["-U", "postgres", "-AtXq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
        done = subprocess.run(
            [*command, *flags],
            input=text,
            text=True,
            capture_output=True,
            env=self.environment,
            check=False,
            timeout=WAIT_S * 2,
        )
        assert done.returncode == 0, (text, done.stderr)
        return done.stdout.strip()

    def run(self, *command: str | Path, cwd: Path | None = None, code: int | None = 0) -> str:
        """Run a program as the server's user, with its environment; what it printed."""
        done = subprocess.run(
            as_server_user(command),
            env=self.environment,
            cwd=cwd or "/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S * 4,
        )
        assert code is None or done.returncode == code, (command, done.stdout, done.stderr)
        return done.stdout

    def tool(self, name: str, *arguments: str | Path, code: int | None = 0) -> str:
        """Run one of the server's own programs, such as pg_amcheck, against this cluster."""
        self.environment.update(PGHOST=str(self.socket_directory), PGUSER="postgres")
        return self.run(bin_directory() / name, *arguments, code=code)

    def switch_wal(self) -> str:
        """End the current segment, so that it is archived, unless it is unused; the last one's name."""
        return self.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")
