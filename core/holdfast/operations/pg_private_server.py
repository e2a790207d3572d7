"""A server of our own on a restored directory: a unix socket, no archiving, gone afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Self

from holdfast.errors import HoldfastError, NotFound, TemporaryFailure
from holdfast.host import files
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.postgres.server import Server
from holdfast.shown import printable

_STEP_S: Final = 0.1
_STOP_S: Final = 120
_LOG_BYTES: Final = 16 * 1024
_READY_LINE: Final = 7
_PLACES: Final = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/usr/local/pgsql/bin")


def find_programs(major: int, named: str = "") -> str:
    """The directory of the server's programs of that version (NotFound)."""
    places = [named] if named else [place.format(major) for place in _PLACES]
    on_path = shutil.which("postgres")
    if on_path and not named:
        places.append(os.path.dirname(os.path.realpath(on_path)))
    for place in places:
        program = os.path.join(place, "postgres")
        if os.access(program, os.X_OK) and _major(program) == major:
            return place
    raise NotFound(
        f"PostgreSQL {major}, which made this backup, is not installed here",
        hint="install its server programs, or name their directory with --programs",
    )


def _major(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = [word for word in done.stdout.split() if word[0].isdigit()]
    number = words[0].partition(".")[0] if words else ""
    digits = "".join(char for char in number if char.isdigit())
    return int(digits or 0)


class PrivateServer:
    """The server of one directory; use it in a `with`, which stops it.

    Args:
        programs: directory of its programs.
        data: the data directory.
        owner: uid and gid to run as; None for this process's own.
        user: a superuser of the cluster.

    Attributes:
        connection: for libpq, without a database.
    """

    def __init__(
        self,
        programs: str,
        data: str,
        *,
        owner: tuple[int, int] | None = None,
        user: str = "postgres",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._programs = programs
        self._data = data
        self._owner = owner
        is_switched = owner is not None and os.geteuid() == 0
        self._uid = owner[0] if owner is not None and is_switched else None
        self._gid = owner[1] if owner is not None and is_switched else None
        self._groups: list[int] | None = [] if is_switched else None
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        # the path of a socket has at most 107 bytes, so it does not lie in the data directory
        self._place = tempfile.mkdtemp(prefix="hf-pg-", dir="/tmp")  # private, 0700
        if owner is not None:
            os.chown(self._place, *owner)
        self.connection = f"host={self._place} user={user}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._log.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def start(self, *, wait_s: float) -> None:
        """Start it and wait until recovery is over and it takes connections.

        Raises:
            HoldfastError: it ended; the message has its last words.
            TemporaryFailure: it was not ready in time.
        """
        config = os.path.join(self._place, "postgresql.conf")
        hba = os.path.join(self._place, "pg_hba.conf")
        with files.explained("preparing a private server"):
            for path, text in ((config, ""), (hba, "local all all trust\n")):
                files.replace_file(path, [text.encode()], mode=0o600, owner=self._owner)
        settings = {
            "config_file": config,
            "hba_file": hba,
            "listen_addresses": "",
            "unix_socket_directories": self._place,
            "archive_mode": "off",
            "archive_command": "",
            "hot_standby": "off",
            "recovery_target_action": "promote",
            "logging_collector": "off",
            "log_min_messages": "info",
            "ssl": "off",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "shared_preload_libraries": "",
            "max_worker_processes": "16",
            "autovacuum": "off",
            "jit": "off",
            "huge_pages": "off",
        }
        words = [self.program("postgres"), "-D", self._data]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            start_new_session=True,
            user=self._uid,
            group=self._gid,
            extra_groups=self._groups,
        )
        deadline = self._clock.monotonic_s() + wait_s
        while not self._is_ready():
            if self._process.poll() is not None:
                raise HoldfastError(f"the restored server ended: {self._last_words()}")
            if self._clock.monotonic_s() > deadline:
                raise TemporaryFailure(f"recovery did not end within {wait_s:g} s")
            self._clock.wait(_STEP_S)

    def _is_ready(self) -> bool:
        try:
            with open(os.path.join(self._data, "postmaster.pid"), encoding="utf-8") as file:
                lines = file.read().split("\n")
        except OSError:
            return False
        return len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"

    def _last_words(self) -> str:
        text = self.log()
        lines = [line for line in text.splitlines() if "FATAL" in line or "PANIC" in line]
        return printable(" ".join(lines[-1:] or text.splitlines()[-1:]).encode())

    def log(self) -> str:
        """The end of what it said."""
        fd = self._log.fileno()
        size = os.fstat(fd).st_size
        return os.pread(fd, _LOG_BYTES, max(size - _LOG_BYTES, 0)).decode("utf-8", "replace")

    def program(self, name: str) -> str:
        return os.path.join(self._programs, name)

    def has(self, name: str) -> bool:
        """Whether one of the server's tools is installed."""
        return os.access(self.program(name), os.X_OK)

    def run(self, name: str, words: Sequence[str]) -> tuple[int, str]:
        """Run one of its tools as its user; exit code and what it said."""
        environment = {**os.environ, "PGHOST": self._place, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [self.program(name), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            check=False,
            user=self._uid,
            group=self._gid,
            extra_groups=self._groups,
        )
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def session(self, database: str) -> Server:
        """A session with one of its databases (TemporaryFailure)."""
        quoted = database.replace("\\", "\\\\").replace("'", "\\'")
        return Server(f"{self.connection} dbname='{quoted}'")

    def stop(self) -> None:
        """Stop it in good order, or hard when it does not listen."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_S)
                process.kill()
                process.wait()
        self._process = None


def server_owner(data_owner: tuple[int, int] | None) -> tuple[int, int] | None:
    """Who may run a server: not root, so the recorded owner if there is one here (NotFound)."""
    if os.geteuid() != 0:
        return None
    if data_owner is not None and data_owner[0] != 0:
        return data_owner
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise NotFound(
            "a server cannot run as root, and there is no user `postgres`",
            hint="run this as the user that servers run as",
        ) from None
    return user.pw_uid, user.pw_gid
