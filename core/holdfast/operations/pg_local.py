"""A server on this machine: whether it runs, and how it is reached."""

import os
from typing import Final, NamedTuple

from holdfast.errors import HoldfastError, TemporaryFailure
from holdfast.host import files

PID_FILE: Final = "postmaster.pid"
_BYTES_MAX: Final = 4096
_PORT, _SOCKETS = 3, 4  # lines of the file, counted from 0


class LocalServer(NamedTuple):
    """What `postmaster.pid` says of a running server."""

    pid: int
    port: str
    socket_directory: str


def running_server(data_directory: str) -> LocalServer | None:
    """The server of a data directory; None when none runs (HoldfastError).

    A file that a killed server left counts for nothing: the process it names has to live, and has
    to work in that directory, as a server does.
    """
    path = os.path.join(data_directory, PID_FILE)
    with files.explained(f"reading {path}"):
        try:
            lines = (
                files.read_file(path, size_max=_BYTES_MAX).decode("utf-8", "replace").split("\n")
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        pid = abs(int(lines[0]))
    except ValueError:
        return None
    try:
        works_in = os.stat(f"/proc/{pid}/cwd")
        if not os.path.samestat(works_in, os.stat(data_directory)):
            return None
    except FileNotFoundError:
        return None
    except OSError:
        pass  # another user's process: taken for the server, to be safe
    port = lines[_PORT].strip() if len(lines) > _PORT else ""
    sockets = lines[_SOCKETS].strip() if len(lines) > _SOCKETS else ""
    return LocalServer(pid, port, sockets)


def connection_to(data_directory: str) -> str:
    """A connection string for the server of a data directory; empty if the environment has one.

    Raises:
        TemporaryFailure: no server runs there.
        HoldfastError: it cannot be told.
    """
    if "PGHOST" in os.environ or "PGSERVICE" in os.environ:
        return ""
    server = running_server(data_directory)
    if server is None or not server.port:
        raise TemporaryFailure(f"no server runs on {data_directory}")
    if not server.socket_directory:
        raise HoldfastError(
            f"the server of {data_directory} has no socket", hint="name it with --connection"
        )
    return f"host={server.socket_directory} port={server.port} dbname=postgres"
