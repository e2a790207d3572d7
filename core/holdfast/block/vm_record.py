"""What Holdfast knows about each machine it backs up: one small JSON file, written durably.

For every disk a chain of epochs: bitmap k of a disk records what was written between the points in
time k and k + 1. `base_epoch` is the point of the last finished snapshot; bitmaps from there on are
needed, older ones are leftovers. A failed run adds an epoch and keeps a partial image.
"""

import dataclasses
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.errors import BadRequest, Busy, DamagedData, NotFound, Refused
from holdfast.host import files
from holdfast.host.locks import LockMode, try_flock
from holdfast.units import MIB

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_RECORD_BYTES_MAX: Final = 4 * MIB
_SOCKET_BYTES_MAX: Final = 100  # the kernel takes 107


@dataclass(slots=True, kw_only=True)
class DiskChain:
    """The epochs of one disk.

    Attributes:
        base: the snapshot taken at `base_epoch`, empty for none.
        epochs: those that have, or may have, a bitmap.
        starts: for a bitmap that older ones were merged into, the epoch it reaches back to.
    """

    node: str
    size_bytes: int
    base: str = ""
    base_epoch: int = -1
    crypt: str = "none"
    epochs: list[int] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class VmRecord:
    """One machine.

    Attributes:
        qmp: path of its QMP socket.
        agent: path of its guest agent's socket, empty for none.
        config: a file to save with each backup, empty for none.
        epoch: the last point in time that was tried.
        serves: whether an NBD server in the machine may be ours.
        filters: of ours that may be above its disks: the device's path and the disk's node, each.
        pauses: whether the machine may be paused because a backup takes its moment.
        stores: for each store and namespace, its chains by disk.
        mark: of this record alone; bitmaps that carry another one are not ours, though the machine
            may be the same: known under a second name, or known again after it was forgotten.
    """

    name: str
    qmp: str
    agent: str = ""
    config: str = ""
    epoch: int = 0
    serves: bool = False
    filters: dict[str, list[str]] = field(default_factory=dict)
    pauses: bool = False
    stores: dict[str, dict[str, DiskChain]] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: secrets.token_hex(8))


def check_name(name: str) -> None:
    """BadRequest unless it can be a file name and a backup id."""
    if not _NAME.fullmatch(name):
        raise BadRequest(f"{name!r} cannot be a machine's name: letters, digits, . _ - only")


def _is_private(directory: str) -> bool:
    try:
        info = os.lstat(directory)
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(info.st_mode)
        and info.st_uid == os.geteuid()
        and not info.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )


class VmRecords:
    """All machines, in a directory below the state directory."""

    def __init__(self, state_dir: str) -> None:
        self.directory = os.path.join(state_dir, "vm")

    def path(self, name: str, suffix: str = ".json") -> str:
        check_name(name)
        return os.path.join(self.directory, name + suffix)

    def socket_path(self, name: str) -> str:
        """Where the machine's NBD server listens, in a directory only we may enter.

        Raises:
            Refused: somebody else owns the directory that is used when the path is too long.
        """
        path, directory = self._socket_place(name)
        if directory:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if not _is_private(directory):
                raise Refused(f"{directory} is not a private directory of this user")
        return path

    def remove_socket(self, name: str) -> None:
        """Leave nothing of the machine's socket, nor of the directory that was made for it."""
        path, directory = self._socket_place(name)
        if directory and not _is_private(directory):
            return
        with suppress(FileNotFoundError):
            files.unlink(path)
        if directory:
            os.rmdir(directory)

    def _socket_place(self, name: str) -> tuple[str, str]:
        """The socket's path, and the directory made for it alone when the usual path is too long."""
        path = self.path(name, ".nbd")
        if len(os.fsencode(path)) <= _SOCKET_BYTES_MAX:
            return path, ""
        mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        directory = os.path.join(tempfile.gettempdir(), f"holdfast-{mark}")
        return os.path.join(directory, "nbd"), directory

    def ensure_directory(self) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def names(self) -> list[str]:
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))

    def load(self, name: str) -> VmRecord:
        """NotFound, DamagedData."""
        try:
            data = files.read_file(self.path(name), size_max=_RECORD_BYTES_MAX)
        except FileNotFoundError:
            raise NotFound(
                f"no machine is called {name}", hint="`holdfast vm add` makes one known"
            ) from None
        try:
            fields: dict[str, Any] = json.loads(data)
            fields["stores"] = {
                store: {disk: DiskChain(**chain) for disk, chain in chains.items()}
                for store, chains in fields["stores"].items()
            }
            return VmRecord(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedData(f"record of machine {name}", str(error)) from error

    def save(self, record: VmRecord) -> None:
        """Durable when it returns (OSError)."""
        self.ensure_directory()
        text = json.dumps(dataclasses.asdict(record), indent=1).encode()
        files.replace_file(self.path(record.name), [text], mode=0o600, sync=True)

    def remove(self, name: str) -> None:
        """Forget a machine (NotFound)."""
        self.load(name)
        files.unlink(self.path(name))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Work on a machine alone (Busy)."""
        self.ensure_directory()
        fd = os.open(self.path(name, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_flock(fd, LockMode.EXCLUSIVE):
                raise Busy(f"another run works on machine {name}")
            yield
        finally:
            os.close(fd)
